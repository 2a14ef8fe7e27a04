"use strict";

/*
 * The generator: from noise and a label to an image. It runs in workers, so that the page stays
 * responsive, and several images are drawn at the same time.
 *
 * common/sampling/page.py describes a generator as steps, each an operation on a feature map.
 * Feature maps, kernels and images are Float32Arrays in row-major order with the channels last, as
 * in Keras.
 */

class Generator {
  /**
   * @param {object[]} steps - What to compute, in turn: `operation`, and its settings.
   * @param {Float32Array} weights - The weights of all steps, one after the other.
   * @param {Uint8Array} products - products.wasm.
   */
  constructor(steps, weights, products) {
    this.steps = steps;
    const convolutions = steps.filter((step) => step.operation === "convolve");
    const longest = (length) => Math.max(...convolutions.map(length));
    // memory: weights, the sums of one pixel, and the entries of one feature map, 8 bytes each
    this.sums = 4 * weights.length;
    this.entries = this.sums + longest(({ output }) => 4 * padded(output[2]));
    const bytes = this.entries + longest(({ input }) => 8 * input[0] * input[1] * padded(input[2]));
    const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
    this.floats = new Float32Array(memory.buffer);
    this.integers = new Int32Array(memory.buffer);
    this.floats.set(weights);
    const module = new WebAssembly.Module(products);
    const instance = new WebAssembly.Instance(module, { page: { memory } });
    this.addProducts = instance.exports.add_products;
  }

  /** From the generator's input, noise and a one-hot label side by side, to the image's pixels. */
  draw(input) {
    let values = input;
    let used = 0; // weights
    for (const step of this.steps) {
      if (step.operation === "convolve") {
        const [height, width] = step.kernel;
        const stride = padded(step.output[2]);
        values = this.convolve(step, values, used);
        used += height * width * step.input[2] * stride + stride;
      } else if (step.operation === "scale") {
        const { channels } = step;
        const scale = this.floats.subarray(used, used + channels);
        const shift = this.floats.subarray(used + channels, used + 2 * channels);
        values = values.map((x, i) => x * scale[i % channels] + shift[i % channels]);
        used += 2 * channels;
      } else {
        ACTIVATIONS[step.operation](values, step);
      }
    }
    return values;
  }

  /**
   * A transposed convolution. A Dense layer is one, too: of a single pixel, or of each pixel.
   *
   * Each output pixel gathers from the input pixels that a tap of the kernel leads to:
   * output[y] = bias + sum of kernel[tap] * input[(y + padding - tap) / stride].
   */
  convolve({ input, output, kernel, strides, padding }, values, weights) {
    const [height, width, channels] = input;
    const [outputHeight, outputWidth, outputChannels] = output;
    const [kernelHeight, kernelWidth] = kernel;
    const stride = padded(outputChannels);
    const bias = weights + kernelHeight * kernelWidth * channels * stride;
    const sums = this.sums / 4;
    const ends = this.list(values, channels, stride);
    const result = new Float32Array(outputHeight * outputWidth * outputChannels);
    for (let y = 0, pixel = 0; y < outputHeight; y++) {
      for (let x = 0; x < outputWidth; x++, pixel++) {
        this.floats.copyWithin(sums, bias, bias + stride);
        for (let v = (y + padding[0]) % strides[0]; v < kernelHeight; v += strides[0]) {
          const row = (y + padding[0] - v) / strides[0];
          if (row < 0 || row >= height) continue;
          for (let u = (x + padding[1]) % strides[1]; u < kernelWidth; u += strides[1]) {
            const column = (x + padding[1] - u) / strides[1];
            if (column < 0 || column >= width) continue;
            const from = row * width + column;
            this.addProducts(
              this.sums,
              4 * (weights + (v * kernelWidth + u) * channels * stride),
              this.entries + 8 * from * padded(channels),
              ends[from],
              4 * stride,
            );
          }
        }
        result.set(this.floats.subarray(sums, sums + outputChannels), pixel * outputChannels);
      }
    }
    return result;
  }

  /**
   * Lists what is not zero in each pixel of a feature map; after a ReLU that is about half of it.
   *
   * @returns {Int32Array} Where in memory the entries of each pixel end.
   */
  list(values, channels, stride) {
    const ends = new Int32Array(values.length / channels);
    for (let pixel = 0; pixel < ends.length; pixel++) {
      const start = this.entries / 4 + 2 * pixel * padded(channels);
      let end = start;
      for (let channel = 0; channel < channels; channel++) {
        const value = values[pixel * channels + channel];
        if (value !== 0) {
          this.integers[end++] = 4 * channel * stride;
          this.floats[end++] = value;
        }
      }
      if ((end - start) % 4) {
        this.integers[end++] = 0;
        this.floats[end++] = 0;
      }
      ends[pixel] = 4 * end;
    }
    return ends;
  }
}

/** Activations, in place. */
const ACTIVATIONS = {
  relu(values, { slope }) {
    for (let i = 0; i < values.length; i++) {
      if (values[i] < 0) values[i] *= slope;
    }
  },
  sigmoid(values) {
    values.forEach((x, i) => { values[i] = 1 / (1 + Math.exp(-x)); });
  },
  tanh(values) {
    values.forEach((x, i) => { values[i] = Math.tanh(x); });
  },
};

/** Channels are computed in groups of eight. */
function padded(channels) {
  return 8 * Math.ceil(channels / 8);
}

let generator;

onmessage = ({ data }) => {
  if (data.steps) {
    generator = new Generator(data.steps, data.weights, data.products);
  } else {
    postMessage(generator.draw(data.input));
  }
};
