import type { Picture } from "vlmp-web";

const MOST = 1280; // pixels of a side

/** A photo as the page shows it: the mean of squares, so that it is at most 1280 pixels wide and high. */
export function preview({ width, height, rgb }: Picture): Promise<ImageBitmap> {
  const factor = Math.ceil(Math.max(width, height) / MOST);
  const small = { width: Math.ceil(width / factor), height: Math.ceil(height / factor) };
  const pixels = new Uint8ClampedArray(4 * small.width * small.height).fill(255);
  for (let y = 0; y < small.height; y++) {
    for (let x = 0; x < small.width; x++) {
      const right = Math.min(width, (x + 1) * factor);
      const bottom = Math.min(height, (y + 1) * factor);
      const sums = [0, 0, 0];
      for (let row = y * factor; row < bottom; row++) {
        for (let column = x * factor; column < right; column++) {
          for (let channel = 0; channel < 3; channel++) sums[channel] += rgb[3 * (row * width + column) + channel];
        }
      }
      const count = (right - x * factor) * (bottom - y * factor);
      for (let channel = 0; channel < 3; channel++) pixels[4 * (y * small.width + x) + channel] = sums[channel] / count;
    }
  }
  return createImageBitmap(new ImageData(pixels, small.width, small.height));
}
