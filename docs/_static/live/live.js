// Figures that move, without Python. A figure in the page is
//
//     <figure class="live" id="live-NAME" data-live="NAME"> a picture that stands still,
//     <div class="live-stage"></div>, and its data in <script type="application/json">.
//
// Its own script, figures/NAME.js, calls `Live.add(NAME, build)` after this one. `build`
// makes the figure in the stage, and returns what the tests compare with Python's.
"use strict";

const Live = (() => {
  // Okabe and Ito's, as in xai_lib.viz.style.
  const BLUE = "#0072B2";
  const ORANGE = "#D55E00";
  const CIVIDIS = "002051 0a376d 26456e 575c6d 7f7c75 a69d75 d3c064 fdea45".split(" ");
  const MAGMA = "000004 1d1147 51127c 832681 b73779 e75263 fc8961 fec488 fcfdbf".split(
    " ",
  );
  const GREY = ["000000", "ffffff"];

  // ---- controls ----

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

  // One of several, as radio buttons or, if `listed`, as a list; `value` is its place.
  let groups = 0;
  function pick(text, labels, draw, listed = false) {
    const own = { value: 0 };
    const listener = (place) => {
      own.value = Number(place);
      draw();
    };
    const rows = labels.map((label, place) => [String(place), label]);
    if (listed) own.box = select(text, rows, listener);
    else own.box = choice(text, `live-pick-${groups++}`, rows, listener);
    return own;
  }

  function select(text, options, listener) {
    const rows = options.map(([value, label]) => make("option", { value }, label));
    const own = make("select", {}, ...rows);
    own.addEventListener("change", () => listener(own.value));
    return make("label", { class: "live-select" }, text, own);
  }

  // A slider over `values`, said in `words`; with `play`, a button goes through them.
  // Who asks for less motion steps from one to the next instead.
  function steps(text, values, words, { start = 0, play = false }, draw) {
    const last = values.length - 1;
    const own = { index: start, value: values[start], go };
    const line = slider(text, { min: 0, max: last, value: start }, (index) => {
      stop();
      go(index);
    });
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let timer = 0;
    const button = make("button", { type: "button", onclick: toggle });
    function go(index) {
      own.index = index;
      own.value = values[index];
      line.input.value = index;
      line.say(words(own.value));
      draw();
    }
    function stop() {
      clearInterval(timer);
      timer = 0;
      button.textContent = still ? "Step" : "Play";
    }
    function next() {
      go(own.index < last ? own.index + 1 : 0);
      if (own.index === last) stop();
    }
    function toggle() {
      if (timer) return stop();
      next();
      if (still || own.index === last) return undefined;
      timer = setInterval(next, 500);
      button.textContent = "Stop";
      return undefined;
    }
    stop();
    line.say(words(own.value));
    own.box = make("div", { class: "live-steps" }, line.box, ...(play ? [button] : []));
    return own;
  }

  // Dragging over a canvas, by mouse or finger: `follow` gets the shares of its width and
  // height, `done` is called where it is let go. A drag begins where `may` allows it.
  function drag(canvas, follow, done = () => {}, may = () => true) {
    let dragging = false;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      follow(
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      );
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!may()) return;
      dragging = true;
      canvas.setPointerCapture(event.pointerId);
      at(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (dragging) at(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => {
        if (dragging && end === "pointerup") done();
        dragging = false;
      });
    }
  }

  // ---- pictures ----

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

  // A canvas with what it shows below it, and for those who do not see it.
  function shown(canvas, text, ...more) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", text);
    return make("div", {}, canvas, make("p", {}, text, ...more));
  }

  // A canvas of 336 pixels with a picture, boxes [x0, y0, x1, y1, colour, dash] and dots
  // [x, y, colour] in units of its side; `under` paints more below them.
  function overlay(picture, boxes, dots = [], under = () => {}) {
    const size = 336;
    const canvas = make("canvas", { width: size, height: size });
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0, size, size);
    under(context, size);
    context.lineWidth = 3;
    for (const [x0, y0, x1, y1, stroke, dash = []] of boxes) {
      context.strokeStyle = stroke;
      context.setLineDash(dash);
      context.strokeRect(x0 * size, y0 * size, (x1 - x0) * size, (y1 - y0) * size);
    }
    context.setLineDash([]);
    context.lineWidth = 1;
    context.strokeStyle = "white";
    for (const [x, y, fill] of dots) {
      context.beginPath();
      context.arc(x * size, y * size, 5, 0, 2 * Math.PI);
      context.fillStyle = fill;
      context.fill();
      context.stroke();
    }
    return canvas;
  }

  // The first n centres of each row of `saliency`, for `overlay`.
  function dots(rows, n) {
    return rows.flatMap(({ centres }) =>
      Array.from({ length: n }, (_, i) => [
        centres[2 * i],
        centres[2 * i + 1],
        "black",
      ]),
    );
  }

  // Lines between axes, as SVG. An axis is { name, from, to, ticks: [[at, words], ...] };
  // a line { points, stroke, dash, name }, its name at its end; a mark [x, y, colour].
  function chart(text, across, up, lines, marks = []) {
    const [width, height, left, right, bottom] = [320, 170, 36, 66, 32];
    const share = ({ from, to }, value) =>
      (Math.min(Math.max(value, from), to) - from) / (to - from);
    const x = (value) => left + (width - left - right) * share(across, value);
    const y = (value) => 6 + (height - bottom) * (1 - share(up, value));
    const parts = [`<text x="${left}" y="${height - 1}">${across.name}</text>`];
    for (const [at, words] of up.ticks) {
      const ends = `x1="${left}" x2="${width - right}" y1="${y(at)}" y2="${y(at)}"`;
      parts.push(
        `<line ${ends} class="grid"/>`,
        `<text x="${left - 5}" y="${y(at) + 4}" text-anchor="end">${words}</text>`,
      );
    }
    for (const [at, words] of across.ticks) {
      const place = `x="${x(at)}" y="${height - 12}" text-anchor="middle"`;
      parts.push(`<text ${place}>${words}</text>`);
    }
    for (const { points, stroke, dash = "", name } of lines) {
      if (!points.length) continue;
      const places = points.map(([a, b]) => [x(a), y(b)]);
      const [endX, endY] = places[places.length - 1];
      parts.push(
        `<polyline points="${places.join(" ")}" fill="none" stroke="${stroke}" ` +
          `stroke-width="2" stroke-dasharray="${dash}"/>`,
        `<text x="${endX + 4}" y="${endY + 4}">${name}</text>`,
      );
    }
    for (const [a, b, fill] of marks) {
      parts.push(`<circle cx="${x(a)}" cy="${y(b)}" r="5" fill="${fill}"/>`);
    }
    const box = make("div", { class: "live-curve" });
    box.innerHTML =
      `<svg viewBox="0 0 ${width} ${height + 4}" role="img" aria-label="${text}">` +
      `${parts.join("")}</svg>`;
    return box;
  }

  // ---- numbers ----

  // xai_lib.aise.density: (1/n) sum (s_i - mean) K(q - p_i), summed over `rows`, each with
  // a width, centres (x, y, x, y, ...) and scores, of which the first n count.
  function saliency(rows, side, n) {
    const map = new Float64Array(side * side);
    for (const { width, centres, scores } of rows) {
      const mean = scores.slice(0, n).reduce((a, b) => a + b, 0) / n;
      const bell = (p) =>
        Float64Array.from({ length: side }, (_, k) =>
          Math.exp(-((((k + 0.5) / side - p) / width) ** 2) / 2),
        );
      for (let i = 0; i < n; i++) {
        const [across, down] = [bell(centres[2 * i]), bell(centres[2 * i + 1])];
        const weight = (scores[i] - mean) / (n * 2 * Math.PI * width ** 2);
        for (let k = 0; k < map.length; k++) {
          map[k] += weight * down[Math.floor(k / side)] * across[k % side];
        }
      }
    }
    return map;
  }

  // The rows of `saliency`, from a file.
  function unpack(rows) {
    return rows.map(({ width, centres, scores }) => ({
      width,
      centres: numbers(centres, Float32Array),
      scores: numbers(scores, Float32Array),
    }));
  }

  // The share of what is above zero in a map that lies in boxes [x0, y0, x1, y1].
  function inside(map, side, boxes) {
    let [all, some] = [0, 0];
    map.forEach((value, k) => {
      const [x, y] = [((k % side) + 0.5) / side, (Math.floor(k / side) + 0.5) / side];
      const mass = Math.max(value, 0);
      all += mass;
      if (boxes.some(([a, b, c, d]) => a <= x && x < c && b <= y && y < d))
        some += mass;
    });
    return some / (all || 1);
  }

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

  function cosine(a, b) {
    let [ab, aa, bb] = [0, 0, 0];
    a.forEach((value, i) => {
      ab += value * b[i];
      aa += value * value;
      bb += b[i] * b[i];
    });
    return ab / Math.sqrt(aa * bb || 1);
  }

  // ---- the page ----

  const figures = {};

  // `keep` in what is returned leaves the picture (a table) in its place.
  function add(name, build) {
    const figure = document.querySelector(`figure[data-live="${name}"]`);
    const stage = figure.querySelector(".live-stage");
    const text = figure.querySelector("script[type='application/json']");
    try {
      figures[name] = build(stage, text ? JSON.parse(text.textContent) : {});
    } catch (error) {
      // The picture stays.
      stage.replaceChildren();
      console.error(`live figure ${name}:`, error);
      return;
    }
    stage.hidden = false;
    if (!figures[name].keep) figure.querySelector(".live-still").hidden = true;
  }

  return {
    ...{
      BLUE,
      ORANGE,
      CIVIDIS,
      MAGMA,
      GREY,
      make,
      slider,
      steps,
      choice,
      pick,
      select,
    },
    ...{ numbers, colour, heat, most, percent, shown, overlay, dots, chart, drag },
    ...{ saliency, unpack, inside, highest, cosine, figures, add },
  };
})();
