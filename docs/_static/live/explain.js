// AISE with DIRECT, and RISE, as in xai_lib: the same places, masks and sums. Pure
// functions and one class; who asks the network is passed in.
"use strict";

const Explain = (() => {
  const PRESETS = {
    aise: { n: 50, widths: [0.1, 0.175, 0.25], eps: 0.1 },
    rise: { n: 1000, grid: 7, p: 0.5, seed: 0 },
  };

  // DirectSampler of xai_lib.aise.samplers, for the unit square: `ask(n)` gives at most
  // n points, `tell(scores)` takes the scores of the oldest ones that are open.
  class Direct {
    constructor(eps = 0.1) {
      this.eps = eps;
      this.centres = [[0.5, 0.5]];
      this.depths = [[0, 0]]; // sides are 3^-depth
      this.values = []; // minus the scores: DIRECT minimises
      this.levels = new Map(); // rectangles of one size, best first
      this.asked = 0;
      this.splits = [this.split(0)];
    }

    ask(n) {
      if (!this.splits.length) {
        for (const parent of this.optimal()) this.splits.push(this.split(parent));
      }
      const points = this.centres.slice(this.asked, this.asked + n);
      this.asked += points.length;
      return points;
    }

    tell(scores) {
      for (const score of scores) this.values.push(-score);
      while (this.splits.length) {
        const { axes, first } = this.splits[0];
        if (first + 2 * axes.length > this.values.length) return;
        this.divide(this.splits.shift());
      }
    }

    get points() {
      return this.centres.slice(0, this.values.length);
    }

    get scores() {
      return this.values.map((value) => -value);
    }

    split(parent) {
      const depths = this.depths[parent];
      const first = this.centres.length;
      const least = Math.min(...depths);
      const axes = [0, 1].filter((axis) => depths[axis] === least);
      const delta = 1 / 3 ** (least + 1);
      for (const axis of axes) {
        for (const step of [delta, -delta]) {
          const point = this.centres[parent].slice();
          point[axis] += step;
          this.centres.push(point);
          this.depths.push(depths);
        }
      }
      return { parent, axes, first };
    }

    divide({ parent, axes, first }) {
      const level = this.levels.get(this.level(parent)) || [];
      if (level.includes(parent)) level.splice(level.indexOf(parent), 1);
      const depths = this.depths[parent].slice();
      const plus = axes.map((axis, j) => first + 2 * j);
      const better = plus.map((i) => Math.min(this.values[i], this.values[i + 1]));
      const order = axes.map((axis, j) => j).sort((i, j) => better[i] - better[j]);
      for (const j of order) {
        depths[axes[j]] += 1;
        this.depths[plus[j]] = depths.slice();
        this.depths[plus[j] + 1] = depths.slice();
      }
      this.depths[parent] = depths;
      for (const i of plus) this.insertPair(i, i + 1);
      this.insert(parent);
    }

    insertPair(plus, minus) {
      const value = this.values;
      const level = this.levels.get(this.level(plus)) || [];
      const head = level.length ? value[level[0]] : -Infinity;
      const ahead = value[plus] < head && value[plus] <= value[minus];
      if (ahead && value[minus] <= head) {
        level.unshift(plus, minus); // as SciPy does
      } else {
        const pair = value[minus] < value[plus] ? [minus, plus] : [plus, minus];
        for (const child of pair) this.insert(child);
      }
    }

    insert(i) {
      const key = this.level(i);
      if (!this.levels.has(key)) this.levels.set(key, []);
      const level = this.levels.get(key);
      const place = level.findIndex((other) => this.values[other] > this.values[i]);
      level.splice(place < 0 ? level.length : place, 0, i);
    }

    level(i) {
      return this.depths[i][0] + this.depths[i][1];
    }

    size(level) {
      const cut = level % 2;
      return (Math.sqrt(2 - cut + cut / 9) * 0.5) / 3 ** Math.floor(level / 2);
    }

    // The rectangles to divide next, in SciPy's order.
    optimal() {
      const filled = [...this.levels.keys()].filter((k) => this.levels.get(k).length);
      const levels = filled.sort((a, b) => a - b);
      const size = levels.map((level) => this.size(level));
      const best = levels.map((level) => this.values[this.levels.get(level)[0]]);
      const lowest = this.values.reduce((a, b) => Math.min(a, b));
      const promise = lowest - this.eps * Math.abs(lowest);
      const chosen = [];
      for (let j = levels.length - 1; j >= 0; j--) {
        const slope = (i) => (best[i] - best[j]) / (size[i] - size[j]);
        let rise = Infinity;
        for (let i = 0; i < j; i++) rise = Math.min(rise, slope(i));
        if (rise <= 0) continue;
        const fall = chosen.reduce((most, i) => Math.max(most, slope(i)), -Infinity);
        const below = chosen.length && fall > rise;
        if (below || best[j] - rise * size[j] <= promise) chosen.push(j);
      }
      const heads = [];
      const equals = [];
      for (const j of chosen.reverse()) {
        const [head, ...others] = this.levels.get(levels[j]);
        heads.push(head);
        equals.push(...others.filter((i) => this.values[i] - best[j] <= 1e-13));
      }
      return heads.concat(equals);
    }
  }

  // A Gaussian over the middles of `size` pixels.
  function profile(position, sigma, size) {
    const values = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      values[i] = Math.exp(-((((i + 0.5) / size - position) / sigma) ** 2) / 2);
    }
    return values;
  }

  // The mask G of a kernel at (x, y), float32 [size * size].
  function kernel([x, y], sigma, size) {
    const across = Float32Array.from(profile(x, sigma, size));
    const rows = Float32Array.from(profile(y, sigma, size));
    const mask = new Float32Array(size * size);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) mask[i * size + j] = rows[i] * across[j];
    }
    return mask;
  }

  // Add the map M of one width to `map`, float64 [size * size] (xai_lib.aise.density).
  function addDensity(map, points, scores, sigma, size) {
    const n = points.length;
    if (!n) return;
    const above = scores.map((score) => score - scores[0]); // equal ones become 0
    const mean = above.reduce((a, b) => a + b) / n;
    points.forEach(([x, y], k) => {
      const across = profile(x, sigma, size);
      const rows = profile(y, sigma, size);
      const weight = (above[k] - mean) / (n * 2 * Math.PI * sigma ** 2);
      for (let i = 0; i < size; i++) {
        const factor = weight * rows[i];
        for (let j = 0; j < size; j++) map[i * size + j] += factor * across[j];
      }
    });
  }

  // AISE, in steps: yields after each few queries. `ask(masks)` gives the class's score
  // of the image times each mask; both paradigms, preserve and delete, are asked.
  async function* aise(ask, size, settings = {}) {
    const { n, widths, eps } = { ...PRESETS.aise, ...settings };
    const samplers = widths.map(() => new Direct(eps));
    const total = 2 * n * widths.length;
    let queries = 0;
    const map = () => {
      const sum = new Float64Array(size * size);
      samplers.forEach((s, w) => addDensity(sum, s.points, s.scores, widths[w], size));
      return sum;
    };
    while (samplers.some((sampler) => sampler.values.length < n)) {
      for (const [w, sampler] of samplers.entries()) {
        const points = sampler.ask(n - sampler.values.length);
        for (let k = 0; k < points.length; k += 2) {
          const masks = [];
          for (const point of points.slice(k, k + 2)) {
            const shown = kernel(point, widths[w], size);
            masks.push(shown, shown.map((value) => 1 - value));
          }
          const answers = await ask(masks);
          const scores = [];
          for (let i = 0; i < answers.length; i += 2) {
            scores.push(answers[i] - answers[i + 1]);
          }
          sampler.tell(scores);
          queries += answers.length;
          yield { queries, total, map: map(), centres: samplers.map((s) => s.points) };
        }
      }
    }
  }

  // One-dimensional linear upsampling of `grid` cells, [(grid + 1) * cell][grid].
  function upsampling(grid, size) {
    const length = (grid + 1) * Math.ceil(size / grid);
    const matrix = [];
    for (let i = 0; i < length; i++) {
      const place = Math.max(0, ((i + 0.5) * grid) / length - 0.5);
      const left = Math.floor(place);
      const row = new Float64Array(grid);
      row[left] += 1 - (place - left);
      row[Math.min(left + 1, grid - 1)] += place - left;
      matrix.push(row);
    }
    return matrix;
  }

  // Mask number `index` of RISE, float32 [size * size].
  function riseMask(index, size, { grid, p, seed } = PRESETS.rise) {
    const matrix = upsampling(grid, size);
    const drawn = Philox.uniform(seed, index, grid * grid + 2);
    const shifts = matrix.length - size + 1;
    const down = Math.floor(drawn[grid * grid] * shifts);
    const right = Math.floor(drawn[grid * grid + 1] * shifts);
    const mask = new Float32Array(size * size);
    const line = new Float64Array(grid);
    for (let i = 0; i < size; i++) {
      line.fill(0);
      matrix[i + down].forEach((weight, row) => {
        if (weight === 0) return;
        for (let c = 0; c < grid; c++) {
          if (drawn[row * grid + c] < p) line[c] += weight;
        }
      });
      for (let j = 0; j < size; j++) {
        let value = 0;
        const across = matrix[j + right];
        for (let c = 0; c < grid; c++) value += across[c] * line[c];
        mask[i * size + j] = value;
      }
    }
    return mask;
  }

  // RISE, in steps, as `aise`.
  async function* rise(ask, size, settings = {}) {
    const all = { ...PRESETS.rise, ...settings };
    const total = new Float64Array(size * size);
    const coverage = new Float64Array(size * size);
    const tiny = 2.3e-308;
    for (let start = 0; start < all.n; start += 4) {
      const masks = [];
      for (let i = start; i < Math.min(start + 4, all.n); i++) {
        masks.push(riseMask(i, size, all));
      }
      const answers = await ask(masks);
      masks.forEach((mask, k) => {
        for (let i = 0; i < mask.length; i++) {
          total[i] += answers[k] * mask[i];
          coverage[i] += mask[i];
        }
      });
      const map = total.map((value, i) => value / Math.max(coverage[i], tiny));
      yield { queries: start + masks.length, total: all.n, map };
    }
  }

  return { PRESETS, Direct, aise, rise, riseMask, upsampling };
})();
