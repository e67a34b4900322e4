// Figures that move, without Python. A figure in the page is
//
//     <figure class="live" id="live-NAME" data-live="NAME"> a picture that stands still,
//     <div class="live-stage"></div>, and its data in <script type="application/json">.
//
// The function of that name below builds it in the stage, and then hides the picture.
// It returns what the tests compare with Python's.
"use strict";

const Live = (() => {
  // Okabe and Ito's, as in xai_lib.viz.style.
  const BLUE = "#0072B2";
  const ORANGE = "#D55E00";
  const CIVIDIS = "002051 0a376d 26456e 575c6d 7f7c75 a69d75 d3c064 fdea45".split(" ");
  const MAGMA = "000004 1d1147 51127c 832681 b73779 e75263 fc8961 fec488 fcfdbf".split(
    " ",
  );

  // ---- small tools ----

  // An element with attributes and children; "on..." attributes are listeners.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (typeof value === "boolean") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function slider(text, { min, max, step = 1, value }, listener) {
    const input = make("input", { type: "range", min, max, step, value });
    const output = make("b", { "aria-hidden": "true" });
    input.addEventListener("input", () => listener(Number(input.value)));
    const line = make("span", {}, text, " ", output);
    // What stands beside the name is what a screen reader says for the value.
    const say = (words) => {
      output.textContent = words;
      input.setAttribute("aria-valuetext", words);
    };
    return { box: make("label", { class: "live-slider" }, line, input), input, say };
  }

  function choice(text, name, options, listener) {
    const box = make("fieldset", { class: "live-choice" }, make("legend", {}, text));
    options.forEach(([value, label], place) => {
      const input = make("input", { type: "radio", name, value, checked: place === 0 });
      input.addEventListener("change", () => listener(value));
      box.append(make("label", {}, input, ` ${label}`));
    });
    return box;
  }

  function menu(text, options, listener) {
    const rows = options.map((label) => make("option", { value: label }, label));
    const select = make("select", {}, make("option", { value: "" }, "all"), ...rows);
    select.addEventListener("change", listener);
    return { box: make("label", {}, `${text} `, select), input: select };
  }

  function numbers(text, Type) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  function colour(stops, share) {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const i = Math.min(Math.floor(place), stops.length - 2);
    return [0, 2, 4].map((at) => {
      const [low, high] = [stops[i], stops[i + 1]].map((hex) =>
        parseInt(hex.slice(at, at + 2), 16),
      );
      return low + (high - low) * (place - i);
    });
  }

  // A canvas of side `size` that shows values, one a pixel.
  function heat(values, size, stops, low, high) {
    const canvas = make("canvas", { width: size, height: size });
    const image = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      const share = (values[i] - low) / (high - low || 1);
      image.data.set([...colour(stops, share), 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  function most(values) {
    return values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  }

  function percent(share) {
    if (share > 0 && share < 0.01) return "under 1 %";
    return `${Math.round(100 * share)} %`;
  }

  // ---- chapter 07: drag a spot, read the score, then see who asks better ----

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
    const now = { i: 6, j: 20, view: "asked", step: direct.length - 1, revealed: false };

    const photo = make("img", { src: data.photo, alt: "" });
    const canvas = make("canvas", { width: SIZE, height: SIZE, role: "img" });
    const context = canvas.getContext("2d");
    const status = make("output", { class: "live-status" });
    const across = slider("from the left", { min: 0, max: side - 1, value: now.i }, (i) =>
      move(i, now.j),
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

    let dragging = false;
    function follow(event) {
      const box = canvas.getBoundingClientRect();
      move(
        Math.floor(((event.clientX - box.left) / box.width) * side),
        Math.floor(((event.clientY - box.top) / box.height) * side),
      );
    }
    canvas.addEventListener("pointerdown", (event) => {
      if (now.view !== "asked") return;
      dragging = true;
      canvas.setPointerCapture(event.pointerId);
      follow(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (dragging) follow(event);
    });
    canvas.addEventListener("pointerup", () => {
      if (dragging) query();
      dragging = false;
    });
    canvas.addEventListener("pointercancel", () => {
      dragging = false;
    });
    photo.addEventListener("load", draw);
    status.textContent = "Not asked yet.";
    draw();
    return { asked, now, places, roof };
  }

  // ---- chapter 04: the estimate settles with n ----

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

  function cosine(a, b) {
    let [ab, aa, bb] = [0, 0, 0];
    a.forEach((value, i) => {
      ab += value * b[i];
      aa += value * value;
      bb += b[i] * b[i];
    });
    return ab / Math.sqrt(aa * bb || 1);
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
    const curve = make("div", { class: "live-curve" });
    stage.append(panels, queries.box, kinds, status, curve);

    function panel(text, values, signed) {
      const limit = most(values);
      const stops = signed ? CIVIDIS : ["000000", "ffffff"];
      const canvas = heat(values, side, stops, signed ? -limit : 0, limit);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", text);
      return make("div", {}, canvas, make("p", {}, text));
    }

    function draw() {
      const n = stops[now.stop];
      queries.say(n.toLocaleString("en"));
      const map = found[now.kind].get(n);
      panels.replaceChildren(
        panel(data.title, numbers(data.image, Float32Array), false),
        panel("the gradient", truth, true),
        panel(`its estimate from ${n.toLocaleString("en")} queries`, map || new Float32Array(784), true),
      );
      status.textContent = map
        ? `Cosine with the gradient ${cosine(map, truth).toFixed(2)}.`
        : "computing …";
      plot();
    }

    function plot() {
      const [width, height, left, bottom] = [320, 170, 36, 32];
      const last = Math.log(stops[stops.length - 1]);
      const x = (n) => left + ((width - left - 62) * Math.log(n)) / last;
      const y = (value) => (height - bottom) * (1 - Math.max(value, 0)) + 6;
      const parts = [0, 0.5, 1].map(
        (v) =>
          `<line x1="${left}" x2="${width - 62}" y1="${y(v)}" y2="${y(v)}" class="grid"/>` +
          `<text x="${left - 5}" y="${y(v) + 4}" text-anchor="end">${v}</text>`,
      );
      for (const n of [1, 10, 100, 1000]) {
        if (n > stops[stops.length - 1]) continue;
        const text = n.toLocaleString("en");
        parts.push(
          `<text x="${x(n)}" y="${height - 12}" text-anchor="middle">${text}</text>`,
        );
      }
      parts.push(`<text x="${left}" y="${height - 1}">queries</text>`);
      const styles = { mirrored: [BLUE, ""], plain: [ORANGE, "6 4"] };
      for (const [kind, [stroke, dash]] of Object.entries(styles)) {
        const line = [...found[kind]].map(([n, map]) => [x(n), y(cosine(map, truth))]);
        if (!line.length) continue;
        const [endX, endY] = line[line.length - 1];
        parts.push(
          `<polyline points="${line.join(" ")}" fill="none" stroke="${stroke}" ` +
            `stroke-width="2" stroke-dasharray="${dash}"/>`,
          `<text x="${endX + 4}" y="${endY + 4}">${kind}</text>`,
        );
      }
      const n = stops[now.stop];
      const here = found[now.kind].get(n);
      if (here) {
        const [stroke] = styles[now.kind];
        parts.push(
          `<circle cx="${x(n)}" cy="${y(cosine(here, truth))}" r="5" fill="${stroke}"/>`,
        );
      }
      curve.innerHTML =
        `<svg viewBox="0 0 ${width} ${height}" role="img" ` +
        `aria-label="Cosine with the gradient against queries">${parts.join("")}</svg>`;
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

  // ---- chapter 00: four maps and a threshold ----

  // Which pixels are among the highest `share` of a map.
  function highest(map, share) {
    const kept = Math.round(share * map.length);
    const order = [...map.keys()].sort((a, b) => map[b] - map[a] || a - b);
    const mask = new Uint8Array(map.length);
    order.slice(0, kept).forEach((i) => {
      mask[i] = 1;
    });
    return mask;
  }

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

  // ---- chapter 11: the claims ----

  function claims(stage) {
    const table = stage.parentElement.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    const values = (name) => [...new Set(rows.map((row) => row.dataset[name]))];
    const status = make("output", { class: "live-status" });
    const menus = {
      paper: menu("Paper", values("paper"), filter),
      verdict: menu("Verdict", values("verdict"), filter),
      chapter: menu("Chapter", values("chapter").sort(), filter),
    };
    const word = make("input", { type: "search", oninput: filter });
    stage.append(
      make(
        "div",
        { class: "live-menus" },
        ...Object.values(menus).map(({ box }) => box),
        make("label", {}, "Word ", word),
      ),
      status,
    );

    function filter() {
      const wanted = word.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = Object.entries(menus).every(
          ([name, { input }]) => !input.value || row.dataset[name] === input.value,
        );
        row.hidden = !(fits && row.textContent.toLowerCase().includes(wanted));
        shown += !row.hidden;
      }
      status.textContent = `${shown} of ${rows.length} statements`;
    }
    filter();
    return { rows, keep: true };
  }

  // ---- the page ----

  const kinds = { spot, settle, threshold, claims };
  const figures = {};

  function start() {
    for (const figure of document.querySelectorAll("figure[data-live]")) {
      const stage = figure.querySelector(".live-stage");
      const text = figure.querySelector("script[type='application/json']");
      const name = figure.dataset.live;
      try {
        figures[name] = kinds[name](stage, text ? JSON.parse(text.textContent) : {});
      } catch (error) {
        // The picture stays.
        stage.replaceChildren();
        console.error(`live figure ${name}:`, error);
        continue;
      }
      stage.hidden = false;
      if (!figures[name].keep) figure.querySelector(".live-still").hidden = true;
    }
  }
  start();
  return { figures, estimates, roof, highest, overlap, cosine };
})();
