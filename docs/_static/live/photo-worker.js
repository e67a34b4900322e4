// The network beside the page: answers questions in a thread of its own. The files
// before this one, onnxruntime-web, philox.js and explain.js, are in the same worker.
"use strict";

const SIZE = 224;
let session;
let stopped = false;

// Probabilities [masks][1000] of the image times each mask; no mask shows all of it.
async function probabilities(pixels, masks) {
  const area = SIZE * SIZE;
  const images = new Float32Array(masks.length * 3 * area);
  masks.forEach((mask, k) => {
    for (let c = 0; c < 3; c++) {
      const at = (k * 3 + c) * area;
      for (let i = 0; i < area; i++) {
        images[at + i] = mask ? pixels[c * area + i] * mask[i] : pixels[c * area + i];
      }
    }
  });
  const shape = [masks.length, 3, SIZE, SIZE];
  const found = await session.run({ images: new ort.Tensor("float32", images, shape) });
  const values = found.probabilities.data;
  const classes = values.length / masks.length;
  return masks.map((mask, k) => values.slice(k * classes, (k + 1) * classes));
}

const tasks = {
  async load({ wasm, glue, model }) {
    const script = new Blob([glue], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(script) };
    session = await ort.InferenceSession.create(new Uint8Array(model));
    return {};
  },

  async classify({ pixels }) {
    return { scores: (await probabilities(pixels, [null]))[0] };
  },

  async explain({ pixels, method, target, settings }) {
    stopped = false;
    const ask = async (masks) => {
      // Messages, "stop" among them, come between tasks.
      await new Promise((resolve) => setTimeout(resolve));
      return (await probabilities(pixels, masks)).map((scores) => scores[target]);
    };
    let last;
    for await (const step of Explain[method](ask, SIZE, settings)) {
      last = step;
      if (stopped) break;
      postMessage({ type: "step", method, ...step });
    }
    return { method, stopped, ...last };
  },

  async stop() {
    stopped = true;
    return {};
  },
};

onmessage = async ({ data }) => {
  try {
    postMessage({ type: data.type, ...(await tasks[data.type](data)) });
  } catch (error) {
    postMessage({ type: "error", message: String(error.message || error) });
  }
};
