import { BadPicture } from "./errors.js";
import type { ImageSpec } from "./manifest.js";
import { resize } from "./resize.js";

const MOST_PIXELS = 100_000_000;
const MOST_ASPECT = 200;

/** A photo: `rgb` holds red, green, blue of each pixel, rows from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/** Where a photo lies in the model's picture, in pixels. */
export interface Placement {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
}

/** Refuses a photo before it is decoded: more than 100 megapixels, or hardly more than a line. Throws BadPicture. */
export function checkSize(width: number, height: number): void {
  const says = `The photo has ${width} x ${height} pixels:`;
  if (width * height > MOST_PIXELS) {
    throw new BadPicture("size", `${says} at most ${MOST_PIXELS / 1e6} megapixels are read.`);
  }
  if (Math.max(width, height) > MOST_ASPECT * Math.min(width, height)) {
    throw new BadPicture("shape", `${says} one side may be at most ${MOST_ASPECT} times as long as the other.`);
  }
}

/** Where a photo of `width` x `height` pixels lies in the picture of a bundle. */
export function placement(width: number, height: number, spec: ImageSpec): Placement {
  if (spec.fit === "stretch" || width * spec.height === height * spec.width) {
    return { width: spec.width, height: spec.height, left: 0, top: 0 };
  }
  const scale = Math.min(spec.width / width, spec.height / height);
  const fittedWidth = Math.min(spec.width, Math.max(1, roundHalfToEven(width * scale)));
  const fittedHeight = Math.min(spec.height, Math.max(1, roundHalfToEven(height * scale)));
  return {
    width: fittedWidth,
    height: fittedHeight,
    left: Math.floor((spec.width - fittedWidth) / 2),
    top: Math.floor((spec.height - fittedHeight) / 2),
  };
}

/** The picture that the model sees: resized, with bars where the aspect ratio differs and `fit` is `pad`. */
export function fit(picture: Picture, spec: ImageSpec): Picture {
  checkSize(picture.width, picture.height);
  const place = placement(picture.width, picture.height, spec);
  const inner = resize(picture, place.width, place.height, spec.resample);
  if (inner.width === spec.width && inner.height === spec.height) return inner;
  const rgb = new Uint8Array(3 * spec.width * spec.height);
  for (let place = 0; place < rgb.length; place++) rgb[place] = spec.padRgb[place % 3];
  for (let y = 0; y < inner.height; y++) {
    const row = inner.rgb.subarray(3 * y * inner.width, 3 * (y + 1) * inner.width);
    rgb.set(row, 3 * ((place.top + y) * spec.width + place.left));
  }
  return { width: spec.width, height: spec.height, rgb };
}

/** The input of `vision`: float32 [1, 3, height, width], values 0..255. Throws BadPicture. */
export function toPixels(picture: Picture, spec: ImageSpec): Float32Array {
  const { rgb } = fit(picture, spec);
  const area = spec.width * spec.height;
  const pixels = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < area; pixel++) pixels[channel * area + pixel] = rgb[3 * pixel + channel];
  }
  return pixels;
}

/** The same picture, upright. `orientation` is EXIF's, 1 to 8. */
export function upright(picture: Picture, orientation: number): Picture {
  if (orientation < 2 || orientation > 8) return picture;
  const { width, height, rgb } = picture;
  const across = orientation >= 5; // rows become columns
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBelow = [3, 4, 6, 7].includes(orientation);
  const turned = { width: across ? height : width, height: across ? width : height, rgb: new Uint8Array(rgb.length) };
  let to = 0;
  for (let y = 0; y < turned.height; y++) {
    for (let x = 0; x < turned.width; x++) {
      const [column, row] = across ? [y, x] : [x, y];
      const from = 3 * ((fromBelow ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column));
      turned.rgb[to++] = rgb[from];
      turned.rgb[to++] = rgb[from + 1];
      turned.rgb[to++] = rgb[from + 2];
    }
  }
  return turned;
}

/** A value over white, both of 8 bits, as Pillow composites. */
export function overWhite(value: number, alpha: number): number {
  if (alpha === 0) return 255;
  const share = alpha * 128; // of 255 * 128
  const sum = value * share + 255 * (32640 - share) + 16384;
  return ((sum >> 8) + sum) >> 15;
}

/** To the nearest whole number, of two equally near ones to the even one. */
export function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
