// Chapter 03: the penalty slides.
"use strict";

{
  const { GREY, MAGMA, make, steps, pick, numbers, heat, percent, shown, highest } =
    Live;

  function penalty(stage, data) {
    const digits = data.digits.map(({ image, label, boxes }) => ({
      image: numbers(image, Uint8Array),
      label,
      boxes: boxes.map((found) => ({ ...found, w: numbers(found.w, Uint8Array) })),
    }));
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const names = digits.map(({ label }) => `a “${label}”`);
    const which = pick("Digit", names, draw);
    const words = (value) => `${Number(value.toPrecision(2))} d, with d = 784 pixels`;
    const settings = { start: 4, play: true };
    const lambda = steps("penalty λ", data.penalties, words, settings, draw);
    const freest = (q) => `the freest ${q} % of the pixels`;
    const cut = steps("turn grey", data.quantiles, freest, { start: 5 }, draw);
    stage.append(panels, lambda.box, cut.box, status, which.box);

    function draw() {
      const { image, label, boxes } = digits[which.value];
      const { w, points, corners, classes } = boxes[lambda.index];
      const now = classes[cut.index];
      const freed = highest(w, cut.value / 100);
      const grey = [...image].map((value, i) => (freed[i] ? 127.5 : value));
      const sides = heat(w, 28, MAGMA, 0, 255);
      panels.replaceChildren(
        shown(heat(image, 28, GREY, 0, 255), names[which.value]),
        shown(sides, "the sides of its box, from 0 (dark) to 1"),
        shown(heat(grey, 28, GREY, 0, 255), `${freest(cut.value)} grey: a “${now}”`),
      );
      const mean = w.reduce((a, b) => a + b, 0) / w.length / 255;
      status.textContent =
        `Sides of ${mean.toFixed(2)} on average. ${percent(points)} of random points ` +
        `of the box change the class, and ${percent(corners)} of its corners. ` +
        (now === label
          ? "The grey digit keeps its class."
          : "The grey digit loses it.");
    }
    draw();
    return { digits, highest };
  }

  Live.add("penalty", penalty);
}
