// Chapter 05: the grid of the noise against the map.
"use strict";

{
  const { BLUE, CIVIDIS, GREY, make, steps, numbers, heat, most } = Live;
  const { shown, chart, cosine } = Live;
  const SIDE = 28;

  // Values on s x s cells, bilinearly on the pixels, as torch does it.
  function upsampled(cells, s) {
    const line = Array.from({ length: SIDE }, (_, k) => {
      const at = Math.max(((k + 0.5) * s) / SIDE - 0.5, 0);
      const low = Math.min(Math.floor(at), s - 1);
      return [low, Math.min(low + 1, s - 1), at - low];
    });
    return Float64Array.from({ length: SIDE * SIDE }, (_, i) => {
      const [top, bottom, v] = line[Math.floor(i / SIDE)];
      const [left, right, u] = line[i % SIDE];
      const row = (r) => (1 - u) * cells[r * s + left] + u * cells[r * s + right];
      return (1 - v) * row(top) + v * row(bottom);
    });
  }

  function cells(stage, data) {
    const { seed, sigma, sizes, stops } = data;
    const image = numbers(data.image, Uint8Array);
    const truth = numbers(data.reference, Float32Array);
    const answers = data.answers.map((text) => numbers(text, Float32Array));
    const found = new Map(); // place of the grid: its map after each stop
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const curve = make("div");
    const across = (s) => `${s} × ${s} cells`;
    const size = steps("grid of the noise", sizes, across, { start: data.start }, draw);
    const many = (n) => n.toLocaleString("en");
    const settings = { start: stops.length - 1, play: true };
    const queries = steps("queries", stops, many, settings, draw);
    stage.append(panels, size.box, queries.box, status, curve);

    // (1 / n sigma) sum of (f(x + e) - f(x - e)) e, divided by the pixels of a cell.
    // Upsampling is linear, so it comes last.
    function maps(place) {
      if (found.has(place)) return found.get(place);
      const s = sizes[place];
      const sum = new Float64Array(s * s);
      const made = [];
      answers[place].forEach((weight, k) => {
        const noise = Philox.normal(seed, k, s * s);
        for (let i = 0; i < sum.length; i++) sum[i] += weight * noise[i];
        const n = 2 * (k + 1);
        const unit = n * sigma * (SIDE / s) ** 2;
        if (stops.includes(n))
          made.push(
            upsampled(
              sum.map((v) => v / unit),
              s,
            ),
          );
      });
      found.set(place, made);
      return made;
    }

    function signed(values, text) {
      const limit = most(values);
      return shown(heat(values, SIDE, CIVIDIS, -limit, limit), text);
    }

    function draw() {
      const map = maps(size.index)[queries.index];
      const noise = upsampled(Philox.normal(seed, 0, size.value ** 2), size.value);
      const query = noise.map((value, i) => image[i] + 255 * sigma * value);
      panels.replaceChildren(
        shown(heat(query, SIDE, GREY, 0, 255), `a query: ${data.title} with noise`),
        signed(map, `the map from ${many(queries.value)} queries`),
        signed(truth, "SmoothGrad, from gradients"),
      );
      const near = sizes.map((_, k) => cosine(maps(k)[queries.index], truth));
      const best = near.indexOf(Math.max(...near));
      status.textContent =
        `Cosine with SmoothGrad ${near[size.index].toFixed(2)}. With ` +
        `${many(queries.value)} queries ${across(sizes[best])} come nearest ` +
        `(${near[best].toFixed(2)}).`;
      const line = near.map((value, k) => [k, value]);
      const ends = { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, v]) };
      const places = sizes.map((s, k) => [k, s]);
      curve.replaceChildren(
        chart(
          "Cosine with SmoothGrad against the grid of the noise",
          { name: "cells a side", from: 0, to: sizes.length - 1, ticks: places },
          ends,
          [{ points: line, stroke: BLUE, name: "cosine" }],
          [[size.index, near[size.index], BLUE]],
        ),
      );
    }
    draw();
    return { maps };
  }

  Live.add("cells", cells);
}
