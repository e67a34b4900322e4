// Chapter 09: the search area and the box.
"use strict";

{
  const { ORANGE, CIVIDIS, make, steps, pick, heat, most, percent } = Live;
  const { shown, overlay, dots, saliency, unpack, inside } = Live;
  const SIDE = 56;
  const MARGINS = {
    0: "the box alone",
    0.25: "a quarter of a box around it",
    0.5: "half a box around it, as in the paper",
    1: "a whole box around it",
    null: "everywhere",
  };

  function area(stage, data) {
    const found = data.detections.map((row) => {
      const photo = make("img", { src: row.photo, alt: "" });
      photo.addEventListener("load", draw);
      const areas = row.areas.map((one) => ({ ...one, widths: unpack(one.widths) }));
      return { ...row, photo, areas };
    });
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const names = found.map(({ label, score }) => `${label} ${score.toFixed(2)}`);
    const which = pick("Detection, and its score", names, draw);
    const margins = found[0].areas.map(({ margin }) => margin);
    const words = (margin) => MARGINS[margin];
    const settings = { start: data.start, play: true };
    const around = steps("search", margins, words, settings, draw);
    const labels = ["all three", "side / 7", "side / 4", "side"];
    const width = pick("Kernels as wide as the box's shorter", labels, draw);
    stage.append(panels, around.box, status, width.box, which.box);

    function rows() {
      const { widths } = found[which.value].areas[around.index];
      return width.value ? [widths[width.value - 1]] : widths;
    }

    function draw() {
      const { photo, box, label, areas } = found[which.value];
      const { bounds } = areas[around.index];
      const chosen = rows();
      const n = chosen[0].scores.length;
      const frame = [
        [...bounds, "white", [10, 6]],
        [...box, ORANGE],
      ];
      const map = saliency(chosen, SIDE, n);
      const limit = most(map);
      panels.replaceChildren(
        shown(
          overlay(photo, frame, dots(chosen, n)),
          `the ${label}, its box, and the places asked`,
        ),
        shown(overlay(heat(map, SIDE, CIVIDIS, -limit, limit), frame), "the map"),
      );
      const best = Math.max(...chosen.flatMap(({ scores }) => [...scores]));
      status.textContent =
        `${n * chosen.length} queries. The best kernel finds the ${label} again with ` +
        `${best.toFixed(2)}; ${percent(inside(map, SIDE, [box]))} of the map's positive ` +
        "mass lies in the box.";
    }
    draw();
    return { rows, map: () => [...saliency(rows(), SIDE, rows()[0].scores.length)] };
  }

  Live.add("area", area);
}
