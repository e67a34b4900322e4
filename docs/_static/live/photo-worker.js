// The network beside the page: answers questions in a thread of its own. The files
// before this one, onnxruntime-web, philox.js and explain.js, are in the same worker.
"use strict";

const SIZE = 224;
const MOST_APART = 1e-3; // probabilities that two engines give
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
  // The graphics processor is taken if it answers as WebAssembly does.
  async load({ wasm, glue, model, gpu, pixels }) {
    const script = new Blob([glue], { type: "text/javascript" });
    const threads = self.crossOriginIsolated
      ? Math.min(4, navigator.hardwareConcurrency)
      : 1;
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(script) };
    const open = (provider) => {
      const options = { executionProviders: [provider] };
      return ort.InferenceSession.create(new Uint8Array(model), options);
    };
    const plain = (session = await open("wasm"));
    const many = threads === 1 ? "one thread" : `${threads} threads`;
    const engine = `WebAssembly, ${many}`;
    if (!gpu) return { engine };
    const masks = [0, 1, 2, 3].map((index) => Explain.riseMask(index, SIZE));
    const expected = (await probabilities(pixels, masks)).flatMap((p) => [...p]);
    try {
      session = await open("webgpu");
      const found = (await probabilities(pixels, masks)).flatMap((p) => [...p]);
      const apart = found.reduce((most, p, i) => {
        return Math.max(most, Math.abs(p - expected[i]));
      }, 0);
      // Not a number, too, is another answer.
      if (!(apart < MOST_APART)) throw new Error("it gives other answers");
      await plain.release();
      return { engine: "WebGPU" };
    } catch (error) {
      session = plain;
      return { engine: `${engine}, for WebGPU failed here: ${error.message || error}` };
    }
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
