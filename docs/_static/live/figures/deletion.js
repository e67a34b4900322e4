// Chapter 01: delete the highest scores.
"use strict";

{
  const { BLUE, ORANGE, GREY, MAGMA, make, steps, pick, numbers, heat } = Live;
  const { percent, shown, chart, highest } = Live;
  const STYLES = [
    [BLUE, ""],
    [ORANGE, "6 4"],
    ["#009E73", "8 3 2 3"],
    ["#CC79A7", "2 3"],
  ];

  function deletion(stage, data) {
    const { shares } = data;
    const digits = data.digits.map(({ image, label, maps }) => ({
      image: numbers(image, Uint8Array),
      label,
      maps: maps.map((one) => ({ ...one, values: numbers(one.values, Uint16Array) })),
    }));
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const curve = make("div");
    const settings = { start: 3, play: true };
    const gone = steps("delete its best", shares, percent, settings, draw);
    const methods = digits[0].maps.map(({ name }) => name);
    const method = pick("Map", methods, draw);
    const names = digits.map(({ label }) => `a “${label}”`);
    const which = pick("Digit", names, draw);
    stage.append(panels, gone.box, status, curve, method.box, which.box);

    function left() {
      const { image, maps } = digits[which.value];
      const deleted = highest(maps[method.value].values, gone.value);
      return [...image].map((value, i) => (deleted[i] ? 0 : value));
    }

    function draw() {
      const { image, label, maps } = digits[which.value];
      const { name, values, chances } = maps[method.value];
      panels.replaceChildren(
        shown(heat(image, 28, GREY, 0, 255), names[which.value]),
        shown(heat(values, 28, MAGMA, 0, 65535), `its map: ${name}`),
        shown(
          heat(left(), 28, GREY, 0, 255),
          `without the best ${percent(gone.value)}`,
        ),
      );
      const chance = chances[gone.index];
      status.textContent =
        `The probability of ${label} is ${percent(chance)}. It is first below a half ` +
        `when ${percent(shares[chances.findIndex((value) => value < 0.5)])} is deleted.`;
      const lines = maps.map((one, k) => ({
        points: one.chances.map((value, i) => [shares[i], value]),
        stroke: STYLES[k][0],
        dash: k === method.value ? "" : STYLES[k][1] || "4 4",
        name: k === method.value ? "this map" : "",
      }));
      const ticks = [0, 0.5, 1].map((v) => [v, v]);
      curve.replaceChildren(
        chart(
          `Probability of ${label} against the share that is deleted, for four maps`,
          { name: "share of the pixels that is deleted", from: 0, to: 1, ticks },
          { from: 0, to: 1, ticks },
          lines,
          [[gone.value, chance, STYLES[method.value][0]]],
        ),
      );
    }
    draw();
    return { left };
  }

  Live.add("deletion", deletion);
}
