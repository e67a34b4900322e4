// Chapter 08: preserve, delete, and the widths of the kernels.
"use strict";

{
  const { ORANGE, CIVIDIS, make, steps, pick, heat, most, percent } = Live;
  const { shown, overlay, dots, saliency, unpack, inside } = Live;
  const SIDE = 56;
  const PRESET = [0.1, 0.175, 0.25];

  // Paints over what a kernel hides: all but the spot, or the spot alone.
  function veil([x, y], sigma, deletes) {
    return (context, size) => {
      const light = context.createRadialGradient(
        ...[x * size, y * size, 0],
        ...[x * size, y * size, 3.5 * sigma * size],
      );
      for (let i = 0; i <= 14; i++) {
        const spot = i < 14 ? Math.exp(-((i / 4) ** 2) / 2) : 0;
        light.addColorStop(i / 14, `rgb(0 0 0 / ${deletes ? spot : 1 - spot})`);
      }
      context.fillStyle = light;
      context.fillRect(0, 0, size, size);
    };
  }

  function kernels(stage, data) {
    const scenes = data.scenes.map((row) => {
      const photo = make("img", { src: row.photo, alt: "" });
      photo.addEventListener("load", draw);
      const searches = Object.entries(row.searches).map(([k, v]) => [k, unpack(v)]);
      return { ...row, photo, searches: Object.fromEntries(searches) };
    });
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const names = scenes.map(({ label, boxes }) => `${label} (${boxes.length})`);
    const scene = pick("Class, and how often it is there", names, draw);
    const asked = ["both", "preserve: show the part", "delete: hide it"];
    const paradigm = pick("Ask", asked, draw);
    const sampler = pick("Places by", ["DIRECT", "lattice"], draw);
    const width = scenes[0].searches["direct both"].map((row) => row.width);
    const labels = [`${PRESET.join(", ")} together`, ...width.map((s) => `σ = ${s}`)];
    const sigma = pick("Widths", labels, draw);
    const counts = Array.from({ length: 25 }, (_, k) => k + 1);
    const words = (n) => `the first ${n} of 25`;
    const settings = { start: 24, play: true };
    const places = steps("places of each width", counts, words, settings, draw);
    stage.append(panels, places.box, status);
    stage.append(paradigm.box, sigma.box, sampler.box, scene.box);

    function rows() {
      const name = `${data.samplers[sampler.value]} ${data.paradigms[paradigm.value]}`;
      return scenes[scene.value].searches[name].filter((row, k) =>
        sigma.value ? k === sigma.value - 1 : PRESET.includes(row.width),
      );
    }

    function draw() {
      const { photo, boxes, label } = scenes[scene.value];
      const [chosen, n] = [rows(), places.value];
      const frame = boxes.map((box) => [...box, ORANGE]);
      const last = chosen[chosen.length - 1];
      const here = [last.centres[2 * n - 2], last.centres[2 * n - 1]];
      const deletes = data.paradigms[paradigm.value] === "delete";
      const map = saliency(chosen, SIDE, n);
      const limit = most(map);
      panels.replaceChildren(
        shown(
          overlay(photo, frame, dots(chosen, n)),
          `places asked about the ${label}`,
        ),
        shown(
          overlay(photo, [], [], veil(here, last.width, deletes)),
          `the last ${deletes ? "hidden" : "shown"}, σ = ${last.width}`,
        ),
        shown(overlay(heat(map, SIDE, CIVIDIS, -limit, limit), frame), "the map"),
      );
      const queries = n * chosen.length * (paradigm.value ? 1 : 2);
      status.textContent =
        `${queries} queries. ${percent(inside(map, SIDE, boxes))} of the map's ` +
        `positive mass lies on the ${label}${boxes.length > 1 ? "s" : ""}.`;
    }
    draw();
    return { rows, places, map: () => [...saliency(rows(), SIDE, places.value)] };
  }

  Live.add("kernels", kernels);
}
