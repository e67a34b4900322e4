// Chapter 07: drag a spot, read the score, then see who asks better.
"use strict";

{
  const { BLUE, ORANGE, MAGMA, make, slider, choice, colour, heat, percent, drag } =
    Live;

  // LIPO's roof over the places `at`, from what was asked: min S_i + l |p - p_i|, where
  // l is the steepest slope between two of the points.
  function roof(points, scores, at) {
    const far = ([x, y], [u, v]) => Math.hypot(x - u, y - v);
    let slope = 0;
    points.forEach((p, i) => {
      for (let j = 0; j < i; j++) {
        slope = Math.max(slope, Math.abs(scores[i] - scores[j]) / far(p, points[j]));
      }
    });
    return at.map((q) =>
      Math.min(...points.map((p, i) => scores[i] + slope * far(p, q))),
    );
  }

  function spot(stage, data) {
    const { side, scores, sigma, direct } = data;
    const place = (k) => (k + 0.5) / side;
    const places = scores.map((_, k) => [place(k % side), place(Math.floor(k / side))]);
    const best = Math.max(...scores);
    const worst = Math.min(...scores);
    const SIZE = 448;
    const asked = new Map(); // index of the place: its score
    const now = {
      i: 6,
      j: 20,
      view: "asked",
      step: direct.length - 1,
      revealed: false,
    };

    const photo = make("img", { src: data.photo, alt: "" });
    const canvas = make("canvas", { width: SIZE, height: SIZE, role: "img" });
    const context = canvas.getContext("2d");
    const status = make("output", { class: "live-status" });
    const across = slider(
      "from the left",
      { min: 0, max: side - 1, value: now.i },
      (i) => move(i, now.j),
    );
    const down = slider("from the top", { min: 0, max: side - 1, value: now.j }, (j) =>
      move(now.i, j),
    );
    // The arrow that points down moves the spot down, though the number grows.
    down.input.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(now.i, now.j + by);
    });
    const ask = make("button", { type: "button", onclick: query }, "Ask here");
    const reveal = make("button", { type: "button", onclick: show }, "Reveal");
    reveal.disabled = true;
    const steps = slider(
      "DIRECT's places",
      { min: 0, max: direct.length - 1, value: now.step },
      (step) => {
        now.step = step;
        draw();
      },
    );
    const views = choice(
      "Show",
      `${stage.parentElement.id}-view`,
      [
        ["asked", "where you asked"],
        ["roof", "LIPO's roof over your scores"],
        ["direct", "DIRECT's rectangles"],
        ["all", "the score everywhere"],
      ],
      (view) => {
        now.view = view;
        draw();
      },
    );
    const later = make("div", { hidden: true }, views, steps.box);
    stage.append(
      make("div", { class: "live-side" }, canvas),
      make(
        "div",
        { class: "live-side" },
        make("p", {}, data.task),
        across.box,
        down.box,
        make("p", {}, ask, " ", reveal),
        status,
        later,
      ),
    );

    function move(i, j) {
      now.i = Math.min(Math.max(i, 0), side - 1);
      now.j = Math.min(Math.max(j, 0), side - 1);
      across.input.value = now.i;
      down.input.value = now.j;
      draw();
    }

    function query() {
      const k = now.j * side + now.i;
      asked.delete(k);
      asked.set(k, scores[k]);
      if (asked.size >= 3) reveal.disabled = false;
      draw();
      const found = Math.max(...asked.values());
      const short = 3 - asked.size;
      const then = now.revealed
        ? ""
        : short > 0
          ? ` ${short} more, and you may reveal.`
          : " Go on, or reveal.";
      status.textContent =
        `Score here ${scores[k].toFixed(3)}; your best of ${asked.size} is ` +
        `${found.toFixed(3)}.${then}`;
    }

    function show() {
      now.revealed = true;
      reveal.hidden = true;
      later.hidden = false;
      const mine = Math.max(...asked.values());
      const n = asked.size;
      const rival = Math.max(...data.direct_scores.slice(0, n));
      status.textContent =
        `Your best of ${n}: ${mine.toFixed(3)}. DIRECT's first ${n}: ` +
        `${rival.toFixed(3)}; all its ${data.direct_scores.length}: ` +
        `${Math.max(...data.direct_scores).toFixed(3)}. Everywhere: ${best.toFixed(3)}.`;
      now.view = "roof";
      views.querySelector("[value=roof]").checked = true;
      views.querySelector("[value=roof]").focus();
      draw();
    }

    function over(values, low, high) {
      context.drawImage(heat(values, side, MAGMA, low, high), 0, 0, SIZE, SIZE);
    }

    function mark([x, y], text, fill) {
      context.beginPath();
      context.arc(x * SIZE, y * SIZE, 9, 0, 2 * Math.PI);
      context.fillStyle = fill;
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = "white";
      context.stroke();
      if (!text) return;
      context.font = "bold 22px sans-serif";
      context.lineWidth = 4;
      context.strokeStyle = "black";
      const left = x * SIZE + (x > 0.8 ? -62 : 14);
      context.strokeText(text, left, y * SIZE + 8);
      context.fillStyle = "white";
      context.fillText(text, left, y * SIZE + 8);
    }

    function draw() {
      const here = [place(now.i), place(now.j)];
      across.say(percent(here[0]));
      down.say(percent(here[1]));
      steps.box.hidden = now.view !== "direct";
      context.imageSmoothingEnabled = true;
      context.globalAlpha = 1;
      context.drawImage(photo, 0, 0, SIZE, SIZE);
      let words = `the spot ${percent(here[0])} from the left, ${percent(here[1])} down`;
      const points = [...asked.keys()].map((k) => places[k]);
      if (now.view === "roof") {
        const bound = roof(points, [...asked.values()], places);
        over(bound, worst, Math.max(...bound));
        const next = bound.indexOf(Math.max(...bound));
        mark(places[next], "next", BLUE);
        words = "LIPO's roof, highest where it would ask next";
      } else if (now.view === "all") {
        over(scores, worst, best);
        mark(places[scores.indexOf(best)], best.toFixed(2), BLUE);
        words = "the score at all places";
      } else if (now.view === "direct") {
        const { n, rectangles } = direct[now.step];
        steps.say(n);
        context.lineWidth = 2;
        for (const [x, y, width, height, score] of rectangles) {
          const box = [x - width / 2, y - height / 2, width, height];
          const [r, g, b] = colour(MAGMA, (score - worst) / (best - worst));
          context.fillStyle = `rgb(${r} ${g} ${b} / 0.6)`;
          context.fillRect(...box.map((v) => v * SIZE));
          context.strokeStyle = "white";
          context.strokeRect(...box.map((v) => v * SIZE));
        }
        words = `DIRECT's rectangles after ${n} places`;
      } else {
        // What the network sees, but not so dark that one cannot aim.
        const light = context.createRadialGradient(
          ...[here[0] * SIZE, here[1] * SIZE, 0],
          ...[here[0] * SIZE, here[1] * SIZE, 3 * sigma * SIZE],
        );
        for (let i = 0; i <= 12; i++) {
          const visible = Math.exp(-((i / 4) ** 2) / 2);
          light.addColorStop(i / 12, `rgb(0 0 0 / ${0.75 * (1 - visible)})`);
        }
        context.fillStyle = light;
        context.fillRect(0, 0, SIZE, SIZE);
      }
      asked.forEach((score, k) => {
        mark(places[k], now.view === "direct" ? "" : score.toFixed(2), ORANGE);
      });
      if (now.view === "asked") {
        context.beginPath();
        context.arc(here[0] * SIZE, here[1] * SIZE, sigma * SIZE, 0, 2 * Math.PI);
        context.lineWidth = 3;
        context.setLineDash([10, 6]);
        context.strokeStyle = "white";
        context.stroke();
        context.setLineDash([]);
      }
      canvas.setAttribute("aria-label", `${data.title}: ${words}`);
    }

    drag(
      canvas,
      (x, y) => move(Math.floor(x * side), Math.floor(y * side)),
      query,
      () => now.view === "asked",
    );
    photo.addEventListener("load", draw);
    status.textContent = "Not asked yet.";
    draw();
    return { asked, now, places, roof };
  }

  Live.add("spot", spot);
}
