// The page "Your own photograph". It asks no server for anything but the files beside
// it, and those as scripts, so that it works from a folder too.
"use strict";

(() => {
  const SIZE = 224;
  const BASE = new URL(".", document.currentScript.src).href;
  const PARTS = ["names", "philox", "explain", "worker", "lite0"];
  // The runtime, in two builds: the one whose names end in -gpu is larger.
  const RUNTIME = ["ort", "glue", "wasm"];
  // Cividis and magma at even steps, as in xai_lib.viz.style.
  const CIVIDIS = "002051 0a376d 26456e 575c6d 7f7c75 a69d75 d3c064 fdea45".split(" ");
  const MAGMA = "000004 1d1147 51127c 832681 b73779 e75263 fc8961 fec488 fcfdbf".split(
    " ",
  );
  const METHODS = {
    aise: { name: "AISE", colours: CIVIDIS, signed: true },
    rise: { name: "RISE", colours: MAGMA, signed: false },
  };

  const packs = {};
  // Each file of packed/ calls this.
  window.photoPack = (name, text) => {
    packs[name] = text;
  };

  async function unpacked(name) {
    const bytes = Uint8Array.from(atob(packs[name]), (c) => c.charCodeAt(0));
    delete packs[name];
    const stream = new Blob([bytes]).stream();
    const plain = stream.pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).arrayBuffer();
  }

  function script(name) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = `${BASE}packed/${name}.js`;
      element.onload = resolve;
      element.onerror = () => reject(new Error(`cannot read packed/${name}.js`));
      document.head.append(element);
    });
  }

  const $ = (name) => document.querySelector(`#photo-${name}`);
  const say = (text) => {
    $("status").textContent = text;
  };
  let names = [];
  let pixels;
  let worker;
  let running = false;
  const maps = {};

  // One question to the worker at a time; steps go to `onStep`.
  let onStep;
  function request(type, message = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if (data.type === "step") onStep(data);
        else if (data.type === "error") reject(new Error(data.message));
        else if (data.type === type) resolve(data);
      };
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage({ type, ...message }, transfer);
    });
  }

  async function load() {
    if (worker) return;
    const gpu = Boolean(await navigator.gpu?.requestAdapter().catch(() => null));
    const [ort, glue, wasm] = RUNTIME.map((name) => (gpu ? `${name}-gpu` : name));
    const parts = [...PARTS, ort, glue, wasm];
    const progress = $("progress");
    progress.max = parts.length;
    for (const [i, name] of parts.entries()) {
      progress.value = i;
      say(`Loading the network: file ${i + 1} of ${parts.length}`);
      await script(name);
    }
    say("Unpacking the network");
    const text = async (name) => new TextDecoder().decode(await unpacked(name));
    names = JSON.parse(await text("names"));
    const code = [];
    for (const name of [ort, "philox", "explain", "worker"]) {
      code.push(await text(name), "\n");
    }
    const source = new Blob(code, { type: "text/javascript" });
    const made = new Worker(URL.createObjectURL(source));
    worker = made;
    const files = {
      glue: await text(glue),
      wasm: await unpacked(wasm),
      model: await unpacked("lite0"),
    };
    say("Starting the network");
    try {
      const message = { ...files, gpu, pixels };
      const { engine } = await request("load", message, [files.wasm, files.model]);
      $("engine").textContent = `The network runs on ${engine}.`;
    } catch (error) {
      made.terminate();
      worker = undefined;
      throw error;
    }
  }

  // The middle square, at the network's size; `pixels` are [3, 224, 224] in [0, 1].
  function take(picture) {
    const canvas = $("picture");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const side = Math.min(picture.width, picture.height);
    const left = (picture.width - side) / 2;
    const top = (picture.height - side) / 2;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, SIZE, SIZE);
    context.drawImage(picture, left, top, side, side, 0, 0, SIZE, SIZE);
    const { data } = context.getImageData(0, 0, SIZE, SIZE);
    const area = SIZE * SIZE;
    pixels = new Float32Array(3 * area);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels[c * area + i] = data[4 * i + c] / 255;
    }
    for (const method of Object.keys(METHODS)) {
      delete maps[method];
      $(method).getContext("2d").clearRect(0, 0, SIZE, SIZE);
      $(`${method}-count`).textContent = "not asked yet";
      $(`${method}-peak`).textContent = "";
    }
    $("classes").replaceChildren();
    $("choice").hidden = true;
    canvas.dataset.ready = "";
    enable();
  }

  async function open(file) {
    if (!file || running) return;
    try {
      take(await createImageBitmap(file));
      $("name").textContent = file.name || "the picture";
      say("The picture is here, in this page alone. Choose what to ask.");
    } catch {
      say("This file is no picture that the browser can read. Try a JPEG or a PNG.");
    }
  }

  function enable() {
    for (const method of Object.keys(METHODS)) {
      $(`run-${method}`).disabled = !pixels || running;
    }
    $("file").disabled = running;
    $("sample").disabled = running;
    for (const input of $("classes").querySelectorAll("input")) {
      input.disabled = running;
    }
    $("stop").hidden = !running;
  }

  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  async function classify() {
    if (!$("choice").hidden) return;
    say("Asking for the class");
    const { scores } = await request("classify", { pixels });
    const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
    const rows = order.slice(0, 5).map((index, place) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "class", value: index });
      input.checked = place === 0;
      label.append(input, ` ${names[index]}, ${percent(scores[index])}`);
      return label;
    });
    $("classes").replaceChildren(...rows);
    $("choice").hidden = false;
  }

  async function explain(method) {
    running = true;
    enable();
    const began = performance.now();
    try {
      await load();
      await classify();
      enable();
      const target = Number($("classes").querySelector("input:checked").value);
      const { name } = METHODS[method];
      say(`${name} asks about “${names[target]}”`);
      onStep = (step) => show(method, step);
      const settings = JSON.parse($("form").dataset[method] || "{}");
      const done = await request("explain", { pixels, method, target, settings });
      if (done.map) show(method, done);
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      const queries = (done.queries || 0).toLocaleString("en");
      const end = done.stopped ? "stopped" : "finished";
      say(`${name} ${end} after ${queries} queries and ${seconds} seconds.`);
    } catch (error) {
      say(`This did not work: ${error.message}`);
    }
    running = false;
    enable();
  }

  function colour(stops, share) {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const i = Math.min(Math.floor(place), stops.length - 2);
    const channel = (text, c) => parseInt(text.slice(2 * c, 2 * c + 2), 16);
    return [0, 1, 2].map((c) => {
      const [low, high] = [channel(stops[i], c), channel(stops[i + 1], c)];
      return low + (high - low) * (place - i);
    });
  }

  function show(method, { queries, total, map, centres }) {
    maps[method] = { map, queries, total, centres };
    $("progress").max = total;
    $("progress").value = queries;
    const counts = [queries, total].map((n) => n.toLocaleString("en"));
    $(`${method}-count`).textContent = `${counts[0]} of ${counts[1]} queries`;
    draw(method);
  }

  // The map over the grey photograph.
  function draw(method) {
    const { map } = maps[method];
    const { colours, signed } = METHODS[method];
    let low = Infinity;
    let high = -Infinity;
    let peak = 0;
    map.forEach((value, i) => {
      if (value > high) peak = i;
      low = Math.min(low, value);
      high = Math.max(high, value);
    });
    if (signed) {
      high = Math.max(Math.abs(low), Math.abs(high));
      low = -high;
    }
    const span = high - low || 1;
    const table = Array.from({ length: 256 }, (_, i) => colour(colours, i / 255));
    const opacity = Number($("opacity").value) / 100;
    const image = new ImageData(SIZE, SIZE);
    const area = SIZE * SIZE;
    for (let i = 0; i < area; i++) {
      const grey =
        255 *
        (0.299 * pixels[i] + 0.587 * pixels[area + i] + 0.114 * pixels[2 * area + i]);
      const over = table[Math.round((255 * (map[i] - low)) / span)];
      for (let c = 0; c < 3; c++) {
        image.data[4 * i + c] = opacity * over[c] + (1 - opacity) * grey;
      }
      image.data[4 * i + 3] = 255;
    }
    $(method).getContext("2d").putImageData(image, 0, 0);
    const across = Math.round((100 * ((peak % SIZE) + 0.5)) / SIZE);
    const down = Math.round((100 * (Math.floor(peak / SIZE) + 0.5)) / SIZE);
    $(`${method}-peak`).textContent =
      `highest ${across} % from the left and ${down} % from the top`;
  }

  function start() {
    if (!$("form")) return;
    $("form").hidden = false;
    $("form").addEventListener("submit", (event) => event.preventDefault());
    $("file").addEventListener("change", (event) => open(event.target.files[0]));
    const drop = $("drop");
    for (const type of ["dragenter", "dragover"]) {
      drop.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    for (const type of ["dragleave", "drop"]) {
      drop.addEventListener(type, () => drop.classList.remove("over"));
    }
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      open(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) open(event.clipboardData.files[0]);
    });
    $("sample").addEventListener("click", async () => {
      await script("cat");
      const bytes = await unpacked("cat");
      open(new File([bytes], "Chelsea the cat", { type: "image/png" }));
    });
    for (const method of Object.keys(METHODS)) {
      $(`run-${method}`).addEventListener("click", () => explain(method));
    }
    $("stop").addEventListener("click", () => worker?.postMessage({ type: "stop" }));
    $("opacity").addEventListener("input", () => Object.keys(maps).forEach(draw));
    enable();
    // What the tests read.
    window.photoState = () => ({ pixels, maps, names, running });
  }
  start();
})();
