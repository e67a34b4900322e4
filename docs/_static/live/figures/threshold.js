// Chapter 00: four maps and a threshold.
"use strict";

{
  const { MAGMA, make, slider, choice, numbers, heat, percent, highest } = Live;

  // Pixels in both masks over pixels in either.
  function overlap(a, b) {
    let [both, either] = [0, 0];
    a.forEach((value, i) => {
      both += value & b[i];
      either += value | b[i];
    });
    return both / (either || 1);
  }

  function threshold(stage, data) {
    const { side, shares } = data;
    const maps = data.maps.map(({ values }) => numbers(values, Uint16Array));
    const now = { stop: shares.indexOf(data.start), other: 0, seen: false };
    const photo = make("img", { src: data.photo, alt: "" });
    const panels = make("div", { class: "live-panels" });
    const status = make("output", { class: "live-status" });
    const cut = slider(
      "visible",
      { min: 0, max: shares.length - 1, value: now.stop },
      (stop) => {
        now.stop = stop;
        draw();
      },
    );
    const views = choice(
      "Show",
      `${stage.parentElement.id}-view`,
      [
        ["kept", "what is left of the photograph"],
        ["maps", "the whole maps"],
      ],
      (view) => {
        now.seen = view === "maps";
        draw();
      },
    );
    const others = choice(
      "Compare with",
      `${stage.parentElement.id}-other`,
      data.maps.map(({ name }, m) => [String(m), name]),
      (value) => {
        now.other = Number(value);
        draw();
      },
    );
    stage.append(panels, cut.box, status, views, others);

    function draw() {
      const share = shares[now.stop];
      cut.say(percent(share));
      const masks = maps.map((map) => highest(map, share));
      const cells = data.maps.map(({ name, chances }, m) => {
        const canvas = make("canvas", { width: 224, height: 224, role: "img" });
        const context = canvas.getContext("2d");
        if (now.seen) {
          context.drawImage(heat(maps[m], side, MAGMA, 0, 65535), 0, 0, 224, 224);
        } else {
          context.drawImage(photo, 0, 0, 224, 224);
          context.fillStyle = "black";
          const cell = 224 / side;
          masks[m].forEach((kept, i) => {
            if (kept) return;
            const [x, y] = [(i % side) * cell, Math.floor(i / side) * cell];
            context.fillRect(x, y, cell, cell);
          });
        }
        const chance = percent(chances[now.stop]);
        const same = percent(overlap(masks[m], masks[now.other]));
        canvas.setAttribute("aria-label", `${name}, its best ${percent(share)}`);
        const words = make("p", {}, make("b", {}, name), make("br"));
        words.append(`${data.label}: ${chance}`, make("br"));
        words.append(`overlap: ${same}`);
        return make("div", {}, canvas, words);
      });
      panels.replaceChildren(...cells);
      const order = data.maps
        .map(({ name, chances }) => [chances[now.stop], name])
        .sort((a, b) => b[0] - a[0]);
      status.textContent =
        `With ${percent(share)} of the pixels the class is most likely by ` +
        `${order[0][1]}'s map (${percent(order[0][0])}), least by ` +
        `${order[3][1]}'s (${percent(order[3][0])}).`;
    }
    photo.addEventListener("load", draw);
    draw();
    return { maps, now, highest, overlap };
  }

  Live.add("threshold", threshold);
}
