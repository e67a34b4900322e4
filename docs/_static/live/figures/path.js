// Chapter 06: the point on the path, and what it contributes.
"use strict";

{
  const { BLUE, ORANGE, CIVIDIS, GREY, make, steps, pick, numbers, heat } = Live;
  const { percent, most, shown, chart } = Live;

  // What each point adds to the map; black pixels add nothing, and are not in the file.
  function contributions(image, frames) {
    const inside = [...image.keys()].filter((i) => image[i] > 0);
    return frames.map(({ unit, values }) => {
      const map = new Float64Array(image.length);
      numbers(values, Int8Array).forEach((value, k) => {
        map[inside[k]] = value * unit;
      });
      return map;
    });
  }

  const total = (map) => map.reduce((a, b) => a + b, 0);

  function path(stage, data) {
    const kinds = ["exact", "asked"];
    const digits = data.digits.map((row) => {
      const image = numbers(row.image, Uint8Array);
      const parts = kinds.map((kind) => contributions(image, row[kind]));
      return { ...row, image, parts };
    });
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const curve = make("div");
    const names = digits.map(({ label }) => `a “${label}”`);
    const which = pick("Digit", names, draw);
    const labels = ["exact", `estimated from ${data.queries} queries a point`];
    const kind = pick("Gradient", labels, draw);
    const places = Array.from(
      { length: data.n_steps },
      (_, k) => (k + 0.5) / data.n_steps,
    );
    const far = (share) => `${percent(share)} of the way from black`;
    const point = steps("point", places, far, { start: 6, play: true }, draw);
    stage.append(panels, point.box, status, curve, kind.box, which.box);

    // The sum of the parts up to and with each point.
    function sums() {
      let sum = new Float64Array(784);
      return digits[which.value].parts[kind.value].map((part) => {
        sum = sum.map((value, i) => value + part[i]);
        return sum;
      });
    }

    function draw() {
      const { image, scores, parts, label } = digits[which.value];
      const part = parts[kind.value][point.index];
      const all = sums();
      const sum = all[point.index];
      const limit = most(all[all.length - 1]);
      const seen = image.map((value) => value * point.value);
      const signed = (map, most) => heat(map, 28, CIVIDIS, -most, most);
      panels.replaceChildren(
        shown(heat(seen, 28, GREY, 0, 255), "the point on the path"),
        shown(signed(part, limit / 4), "what it adds to the map, times 4"),
        shown(signed(sum, limit), "the map so far"),
      );
      const gain = scores[scores.length - 1] - scores[0];
      status.textContent =
        `This point adds ${total(part).toFixed(3)}; the map so far sums to ` +
        `${total(sum).toFixed(2)}. On the whole path the probability of ${label} gains ` +
        `${gain.toFixed(2)}, and the map sums to ${total(all[all.length - 1]).toFixed(2)}.`;
      const score = scores.map((value, k) => [k / data.n_steps, value]);
      const running = all.map((map, k) => [
        (k + 1) / data.n_steps,
        scores[0] + total(map),
      ]);
      const start = [[0, scores[0]]];
      curve.replaceChildren(
        chart(
          "The probability on the path, and the sum of the map up to each point",
          {
            ...{ name: "place on the path", from: 0, to: 1 },
            ticks: [0, 0.5, 1].map((v) => [v, v]),
          },
          { from: 0, to: 1, ticks: [0, 0.5, 1].map((v) => [v, v]) },
          [
            { points: score, stroke: BLUE, name: "" },
            { points: start.concat(running), stroke: ORANGE, dash: "6 4", name: "" },
          ],
          [[point.value, (scores[point.index] + scores[point.index + 1]) / 2, BLUE]],
        ),
        make(
          "p",
          {},
          `Line: probability of ${label}. Dashes: its start and the map so far.`,
        ),
      );
    }
    draw();
    return { digits, sums };
  }

  Live.add("path", path);
}
