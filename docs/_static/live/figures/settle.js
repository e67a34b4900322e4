// Chapter 04: the estimate settles with n.
"use strict";

{
  const {
    BLUE,
    ORANGE,
    CIVIDIS,
    GREY,
    make,
    slider,
    choice,
    numbers,
    heat,
    most,
    cosine,
    shown,
    chart,
  } = Live;

  // The estimate of the gradient from the first `n` queries, plain or in mirrored pairs;
  // `step(k)` is called for each direction with the number of queries so far.
  function* estimates({ seed, sigma, shape, plus, minus }, mirrored, stops) {
    const sum = new Float64Array(shape);
    const directions = mirrored ? minus.length : plus.length;
    for (let k = 0; k < directions; k++) {
      const noise = Philox.normal(seed, k, shape);
      const weight = mirrored ? plus[k] - minus[k] : plus[k];
      for (let i = 0; i < shape; i++) sum[i] += weight * noise[i];
      const queries = mirrored ? 2 * (k + 1) : k + 1;
      if (stops.includes(queries)) {
        yield { queries, map: sum.map((value) => value / (queries * sigma)) };
      } else if (k % 50 === 0) yield null;
    }
  }

  function settle(stage, data) {
    const side = 28;
    const truth = numbers(data.gradient, Float32Array);
    const known = {
      seed: data.seed,
      sigma: data.sigma,
      shape: side * side,
      plus: numbers(data.plus, Float32Array),
      minus: numbers(data.minus, Float32Array),
    };
    const { stops } = data;
    const found = { plain: new Map(), mirrored: new Map() };
    const now = { stop: 0, kind: "mirrored" };

    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const queries = slider(
      "queries",
      { min: 0, max: stops.length - 1, value: 0 },
      (stop) => {
        now.stop = stop;
        draw();
      },
    );
    const kinds = choice(
      "Noise",
      `${stage.parentElement.id}-kind`,
      [
        ["mirrored", "mirrored: each direction is asked as + and as −"],
        ["plain", "plain: each direction once"],
      ],
      (kind) => {
        now.kind = kind;
        draw();
      },
    );
    const curve = make("div");
    stage.append(panels, queries.box, kinds, status, curve);

    function panel(text, values, signed) {
      const limit = most(values);
      const stops = signed ? CIVIDIS : GREY;
      return shown(heat(values, side, stops, signed ? -limit : 0, limit), text);
    }

    function draw() {
      const n = stops[now.stop];
      queries.say(n.toLocaleString("en"));
      const map = found[now.kind].get(n);
      panels.replaceChildren(
        panel(data.title, numbers(data.image, Float32Array), false),
        panel("the gradient", truth, true),
        panel(
          `its estimate from ${n.toLocaleString("en")} queries`,
          map || new Float32Array(784),
          true,
        ),
      );
      status.textContent = map
        ? `Cosine with the gradient ${cosine(map, truth).toFixed(2)}.`
        : "computing …";
      plot();
    }

    function plot() {
      const last = stops[stops.length - 1];
      const ticks = [1, 10, 100, 1000].filter((n) => n <= last);
      const across = {
        ...{ name: "queries", from: 0, to: Math.log(last) },
        ticks: ticks.map((n) => [Math.log(n), n.toLocaleString("en")]),
      };
      const up = { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, v]) };
      const styles = { mirrored: [BLUE, ""], plain: [ORANGE, "6 4"] };
      const at = (n, map) => [Math.log(n), cosine(map, truth)];
      const lines = Object.entries(styles).map(([name, [stroke, dash]]) => ({
        ...{ name, stroke, dash },
        points: [...found[name]].map(([n, map]) => at(n, map)),
      }));
      const n = stops[now.stop];
      const here = found[now.kind].get(n);
      const marks = here ? [[...at(n, here), styles[now.kind][0]]] : [];
      const text = "Cosine with the gradient against queries";
      curve.replaceChildren(chart(text, across, up, lines, marks));
    }

    function compute(kind, then) {
      const run = estimates(known, kind === "mirrored", stops);
      const go = () => {
        const { done, value } = run.next();
        if (value) {
          found[kind].set(value.queries, value.map);
          if (kind === now.kind && value.queries === stops[now.stop]) draw();
        }
        if (done) then();
        else setTimeout(go);
      };
      go();
    }
    draw();
    compute("mirrored", () => compute("plain", draw));
    return { found, now, truth };
  }

  Live.add("settle", settle);
}
