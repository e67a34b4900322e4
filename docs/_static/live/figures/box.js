// Chapter 02: the box grows until it breaks.
"use strict";

{
  const { ORANGE, make, slider, steps, drag } = Live;
  const SIGNS = [
    [1, 1],
    [1, -1],
    [-1, 1],
    [-1, -1],
  ];
  const COLOURS = ["#fbb4ae", "#b3cde3", "#ccebc5"];

  // The class of a point: the nearest centre, in units of its width.
  function classOf({ centres, widths }, [x, y]) {
    const far = centres.map(
      ([a, b], k) => ((x - a) ** 2 + (y - b) ** 2) / widths[k] ** 2,
    );
    return far.indexOf(Math.min(...far));
  }

  // The sides of the largest box around x in which the class stays, of all with sides
  // that are n-ths of the bound.
  function bestBox(data, [x, y], n = 100) {
    const own = classOf(data, [x, y]);
    const t = (k) => (k * data.bound) / n;
    const bad = (i, j) =>
      SIGNS.some(([a, b]) => classOf(data, [x + a * t(i), y + b * t(j)]) !== own);
    let [best, w, highest] = [-1, [0, 0], n];
    for (let i = 0; i <= n && highest >= 0; i++) {
      for (let j = 0; j <= highest; j++) if (bad(i, j)) highest = j - 1;
      if (highest >= 0 && i + highest > best)
        [best, w] = [i + highest, [t(i), t(highest)]];
    }
    return w;
  }

  // A class that a box has beside its own, or null: tried on 41 x 41 of its points.
  function other(data, [x, y], [u, v]) {
    const own = classOf(data, [x, y]);
    for (let i = -20; i <= 20; i++) {
      for (let j = -20; j <= 20; j++) {
        const found = classOf(data, [x + (i * u) / 20, y + (j * v) / 20]);
        if (found !== own) return found;
      }
    }
    return null;
  }

  function box(stage, data) {
    const { half } = data;
    const size = 360;
    const at = [...data.start];
    const canvas = make("canvas", { width: size, height: size, role: "img" });
    const context = canvas.getContext("2d");
    const status = make("output", { class: "live-status" });
    const limits = { min: -2.5, max: 2.5, step: 0.05 };
    const sliders = ["x₁, to the right", "x₂, up"].map((text, k) =>
      slider(text, { ...limits, value: at[k] }, (value) => {
        at[k] = value;
        draw();
      }),
    );
    const shares = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120];
    const words = (share) => `${share} % of the best`;
    const grown = steps("the box", shares, words, { start: 9, play: true }, draw);
    stage.append(
      make("div", { class: "live-side" }, canvas),
      make(
        "div",
        { class: "live-side" },
        make("p", {}, "Drag the point, and let the box around it grow."),
        ...sliders.map((one) => one.box),
        grown.box,
        status,
      ),
    );
    const plane = regions();
    const pixel = (x, y) => [
      ((x + half) / (2 * half)) * size,
      ((half - y) / (2 * half)) * size,
    ];

    function regions() {
      const found = make("canvas", { width: size, height: size });
      const paint = found.getContext("2d");
      for (let i = 0; i < size; i += 2) {
        for (let j = 0; j < size; j += 2) {
          const x = ((i + 1) / size) * 2 * half - half;
          const y = half - ((j + 1) / size) * 2 * half;
          paint.fillStyle = COLOURS[classOf(data, [x, y])];
          paint.fillRect(i, j, 2, 2);
        }
      }
      paint.fillStyle = "black";
      paint.font = "18px sans-serif";
      for (const [k, x, y] of [
        [0, -2.8, -2.8],
        [1, 1.7, -2.8],
        [2, -2.8, 2.6],
      ]) {
        paint.fillText(`class ${k}`, ((x + half) * size) / 6, ((half - y) * size) / 6);
      }
      return found;
    }

    function draw() {
      const own = classOf(data, at);
      const best = bestBox(data, at);
      const w = best.map((side) => (side * grown.value) / 100);
      const broken = other(data, at, w);
      context.drawImage(plane, 0, 0);
      const [left, top] = pixel(at[0] - w[0], at[1] + w[1]);
      const [right, bottom] = pixel(at[0] + w[0], at[1] - w[1]);
      context.lineWidth = 4;
      context.setLineDash(broken === null ? [] : [10, 6]);
      context.strokeStyle = broken === null ? "black" : ORANGE;
      context.strokeRect(left, top, right - left, bottom - top);
      context.beginPath();
      context.arc(...pixel(...at), 7, 0, 2 * Math.PI);
      context.fillStyle = "black";
      context.fill();
      sliders.forEach((one, k) => {
        one.input.value = at[k];
        one.say(at[k].toFixed(2));
      });
      const said =
        broken === null ? `class ${own} stays` : `it breaks: class ${broken} is in it`;
      status.textContent =
        `The best box reaches ±${best[0].toFixed(2)} in x₁ and ±${best[1].toFixed(2)} ` +
        `in x₂. At ${grown.value} % of it, ${said}.`;
      canvas.setAttribute(
        "aria-label",
        `The plane with its three classes, a point in class ${own} and a box around it`,
      );
    }

    drag(canvas, (x, y) => {
      [x, 1 - y].forEach((share, k) => {
        const value = Math.round((share * 2 * half - half) * 20) / 20;
        at[k] = Math.min(Math.max(value, limits.min), limits.max);
      });
      draw();
    });
    draw();
    return { at, bestBox: (x) => bestBox(data, x) };
  }

  Live.add("box", box);
}
