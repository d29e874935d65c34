// Resampling with Pillow 13's arithmetic: coefficients in double, then fixed point with 22 bits after the point;
// one axis after the other, rounded to 8 bits between them.
import type { Resample } from "./manifest.js";
import type { Picture } from "./picture.js";

const BITS = 22;

/** A filter: a sample at this distance weighs so much, and nothing from `reach` on. */
interface Filter {
  readonly reach: number;
  readonly weigh: (distance: number) => number;
}

const FILTERS: Readonly<Record<Resample, Filter>> = {
  bilinear: { reach: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weigh: cubic },
  lanczos: { reach: 3, weigh: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** The same picture in `width` x `height` pixels. */
export function resize(picture: Picture, width: number, height: number, resample: Resample): Picture {
  const filter = FILTERS[resample];
  const narrower = picture.width - width;
  const lower = picture.height - height;
  return lower > 0 && lower > 2 * narrower
    ? resizeRows(resizeColumns(picture, height, filter), width, filter)
    : resizeColumns(resizeRows(picture, width, filter), height, filter);
}

function cubic(at: number): number {
  const x = Math.abs(at);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Which samples of a line make one of the new line: those from `first` on, with their weights. */
interface Window {
  readonly first: number;
  readonly weights: Int32Array;
}

function windows(from: number, to: number, { reach, weigh }: Filter): Window[] {
  const scale = from / to;
  const wider = Math.max(scale, 1);
  const support = reach * wider;
  const step = 1 / wider;
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    const exact = Array.from({ length: end - first }, (_, index) => weigh((first + index - center + 0.5) * step));
    const sum = exact.reduce((all, weight) => all + weight, 0);
    return { first, weights: Int32Array.from(exact, (weight) => fixed(sum === 0 ? weight : weight / sum)) };
  });
}

function fixed(weight: number): number {
  return Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * 2 ** BITS);
}

function clipped(sum: number): number {
  return Math.min(255, Math.max(0, sum >> BITS));
}

function resizeRows(picture: Picture, width: number, filter: Filter): Picture {
  if (picture.width === width) return picture;
  const { height, rgb } = picture;
  const result = new Uint8Array(3 * width * height);
  const made = windows(picture.width, width, filter);
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (const { first, weights } of made) {
      let from = 3 * (y * picture.width + first);
      let red = 1 << (BITS - 1);
      let green = red;
      let blue = red;
      for (const weight of weights) {
        red += rgb[from++] * weight;
        green += rgb[from++] * weight;
        blue += rgb[from++] * weight;
      }
      result[to++] = clipped(red);
      result[to++] = clipped(green);
      result[to++] = clipped(blue);
    }
  }
  return { width, height, rgb: result };
}

function resizeColumns(picture: Picture, height: number, filter: Filter): Picture {
  if (picture.height === height) return picture;
  const { width, rgb } = picture;
  const line = 3 * width;
  const result = new Uint8Array(line * height);
  const sums = new Int32Array(line);
  windows(picture.height, height, filter).forEach(({ first, weights }, y) => {
    sums.fill(1 << (BITS - 1));
    weights.forEach((weight, row) => {
      const from = (first + row) * line;
      for (let place = 0; place < line; place++) sums[place] += rgb[from + place] * weight;
    });
    for (let place = 0; place < line; place++) result[y * line + place] = clipped(sums[place]);
  });
  return { width, height, rgb: result };
}
