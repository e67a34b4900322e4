// Philox 4x32-10 (Salmon et al., 2011): random numbers as a function of a key and a
// counter, so that another language makes the same ones, in any order.
"use strict";

const Philox = (() => {
  // The upper 32 bits of a product; Math.imul gives the lower ones.
  function high(a, b) {
    const a0 = a & 0xffff;
    const a1 = a >>> 16;
    const b0 = b & 0xffff;
    const b1 = b >>> 16;
    const t = a1 * b0 + ((a0 * b0) >>> 16);
    const u = a0 * b1 + (t & 0xffff);
    return (a1 * b1 + (t >>> 16) + (u >>> 16)) >>> 0;
  }

  // Four words of 32 bits, from the counter [c0, c1, c2, c3] and the key [k0, k1].
  function words(counter, key) {
    let [c0, c1, c2, c3] = counter;
    let [k0, k1] = key;
    for (let round = 0; round < 10; round++) {
      const left = (high(0xcd9e8d57, c2) ^ c1 ^ k0) >>> 0;
      const right = (high(0xd2511f53, c0) ^ c3 ^ k1) >>> 0;
      c1 = Math.imul(0xcd9e8d57, c2) >>> 0;
      c3 = Math.imul(0xd2511f53, c0) >>> 0;
      c0 = left;
      c2 = right;
      k0 = (k0 + 0x9e3779b9) >>> 0;
      k1 = (k1 + 0xbb67ae85) >>> 0;
    }
    return [c0, c1, c2, c3];
  }

  // `count` uniform numbers in [0, 1), for the draw number `draw` of a seed.
  function uniform(seed, draw, count) {
    const numbers = new Float64Array(count);
    for (let i = 0; i < count; i += 4) {
      const four = words([i / 4, draw, 0, 0], [seed, 0]);
      for (let j = 0; j < 4 && i + j < count; j++) numbers[i + j] = four[j] / 2 ** 32;
    }
    return numbers;
  }

  // `count` normal numbers, by Box and Muller from two words each pair.
  function normal(seed, draw, count) {
    const numbers = new Float64Array(count);
    const even = uniform(seed, draw, count + (count % 2));
    for (let i = 0; i < count; i += 2) {
      const length = Math.sqrt(-2 * Math.log(even[i] + 2 ** -33));
      const angle = 2 * Math.PI * even[i + 1];
      numbers[i] = length * Math.cos(angle);
      if (i + 1 < count) numbers[i + 1] = length * Math.sin(angle);
    }
    return numbers;
  }

  return { words, uniform, normal };
})();
