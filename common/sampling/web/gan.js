"use strict";

/* The generator as the page sees it: from noise and a label to an image, in workers. */

const element = (id) => document.getElementById(id);
const description = JSON.parse(element("description").textContent);
const { latentSize, numLabels, imageSize } = description;

// Each worker has a copy of the weights.
const MAX_WEIGHT_BYTES = 2 ** 28;

/** Bytes from base64. */
function decoded(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Numbers from little-endian float16; none of them is infinite. */
function floatsOf(bytes) {
  const values = Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  });
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) =>
    values[bytes[2 * i] | (bytes[2 * i + 1] << 8)]);
}

/** Workers that each run the generator; they share what there is to draw. */
class Workers {
  constructor() {
    const weights = floatsOf(decoded(element("weights").textContent));
    const products = decoded(element("products").textContent);
    const cores = Math.min(navigator.hardwareConcurrency || 2, 8);
    this.count = Math.min(cores, Math.ceil(MAX_WEIGHT_BYTES / weights.byteLength));
    const code = new Blob([element("generator").textContent], { type: "text/javascript" });
    const url = URL.createObjectURL(code);
    this.waiting = [];
    this.idle = Array.from({ length: this.count }, () => {
      const worker = new Worker(url);
      worker.onerror = (event) => showFailure(event.message);
      worker.postMessage({ steps: description.steps, weights, products });
      return worker;
    });
  }

  /** The generator's output for an input. */
  run(input) {
    return new Promise((resolve) => {
      this.waiting.push({ input, resolve });
      this.start();
    });
  }

  start() {
    while (this.idle.length && this.waiting.length) {
      const worker = this.idle.pop();
      const { input, resolve } = this.waiting.shift();
      worker.onmessage = ({ data }) => {
        this.idle.push(worker);
        this.start();
        resolve(data);
      };
      worker.postMessage({ input });
    }
  }
}

const workers = new Workers();

/*
 * What the page itself draws with, also for the console and for tests:
 *
 *     pixels = await gan.draw(noise, label)
 *
 * From noise, a Float32Array of latentSize numbers in [-1, 1], and for a conditional GAN a label
 * from 0 to numLabels - 1, to an image: a Float32Array of imageSize * imageSize numbers from 0,
 * black, to 1, white, row by row.
 */
const gan = {
  latentSize,
  numLabels,
  imageSize,
  async draw(noise, label) {
    const input = new Float32Array(latentSize + numLabels);
    input.set(noise, description.labelsFirst ? numLabels : 0);
    if (numLabels) input[(description.labelsFirst ? 0 : latentSize) + label] = 1;
    const pixels = await workers.run(input);
    const lowest = description.lowestPixel;
    return pixels.map((value) => Math.min(Math.max((value - lowest) / (1 - lowest), 0), 1));
  },
};
window.gan = gan;

/** A normally distributed random number. */
function randomNormal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}

/** The error function, to 2e-7 (Abramowitz and Stegun, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const coefficients = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const polynomial = coefficients.reduce((sum, coefficient) => (sum + coefficient) * t, 0);
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

/**
 * Noise between the four vectors of an image, at a point of the pad.
 *
 * The generator was trained with entries that are uniform on [-1, 1]. On straight lines between
 * vectors they would not be, but gather around 0. So vectors are mixed as normal distributions, by
 * weights whose squares add up to 1, which leaves them normal; erf makes the entries uniform.
 *
 * @param {Float32Array[]} corners - Four vectors of normally distributed numbers.
 * @param {number} x - From 0, left, to 1, right.
 * @param {number} y - From 0, top, to 1, bottom.
 */
function noiseBetween(corners, x, y) {
  const [right, bottom] = [x, y].map((share) => Math.sin((share * Math.PI) / 2));
  const [left, top] = [x, y].map((share) => Math.cos((share * Math.PI) / 2));
  const weights = [left * top, right * top, left * bottom, right * bottom];
  return corners[0].map((_, i) => {
    const mixed = corners.reduce((sum, corner, k) => sum + weights[k] * corner[i], 0);
    return erf(mixed / Math.SQRT2);
  });
}
