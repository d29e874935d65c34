import { decode } from "fast-png";
import { BadPicture, oneLine, VlmpError } from "./errors.js";
import { readJpeg } from "./jpeg.js";
import { orientation } from "./orientation.js";
import { checkSize, overWhite, type Picture, roundHalfToEven, upright } from "./picture.js";
import { isPng, readPng } from "./png.js";

const STRIP_ROWS = 256; // of a canvas: phones limit how large one may be

/** What draws a JPEG or another format; in a page and in a worker `drawPicture`. */
export type Draw = (file: Blob) => Promise<Picture>;

/**
 * A photo's file as pixels: 8-bit RGB, upright, alpha over white, without colour conversion. PNG is exact; of other
 * formats `draw` decodes the pixels.
 *
 * Throws BadPicture, for a size before it decodes.
 */
export async function decodePicture(file: Blob, draw: Draw = drawPicture): Promise<Picture> {
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (isPng(bytes)) return decodePng(bytes);
    const jpeg = readJpeg(bytes);
    if (jpeg === null) return await drawChecked(file, draw);
    checkSize(jpeg.width, jpeg.height);
    return upright(await drawChecked(new Blob([jpeg.plain], { type: "image/jpeg" }), draw), orientation(jpeg.metadata));
  } catch (error) {
    if (error instanceof VlmpError) throw error;
    throw new BadPicture("unreadable", `The photo cannot be read: ${oneLine(error)}`, { cause: error });
  }
}

async function drawChecked(file: Blob, draw: Draw): Promise<Picture> {
  const picture = await draw(file);
  checkSize(picture.width, picture.height);
  return picture;
}

/** By the browser's own decoder. */
export async function drawPicture(file: Blob): Promise<Picture> {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  try {
    const { width, height } = bitmap;
    checkSize(width, height);
    const rgb = new Uint8Array(3 * width * height);
    const canvas = new OffscreenCanvas(width, Math.min(height, STRIP_ROWS));
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    let to = 0;
    for (let top = 0; top < height; top += STRIP_ROWS) {
      const rows = Math.min(STRIP_ROWS, height - top);
      context.clearRect(0, 0, width, rows);
      context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
      const { data } = context.getImageData(0, 0, width, rows);
      for (let from = 0; from < data.length; from += 4) {
        const alpha = data[from + 3];
        for (let channel = 0; channel < 3; channel++) rgb[to++] = overWhite(data[from + channel], alpha);
      }
    }
    return { width, height, rgb };
  } finally {
    bitmap.close();
  }
}

function decodePng(bytes: Uint8Array): Picture {
  const file = readPng(bytes);
  checkSize(file.width, file.height);
  if (file.interlaced && file.depth < 8) throw new Error("interlaced PNG of less than 8 bits");
  const png = decode(file.plain, { checkCrc: true });
  const { width, height, channels, depth, palette, transparency } = png;
  const samples = unpacked(png.data, width * channels, height, depth);
  const grey = channels < 3;
  const hasAlpha = channels % 2 === 0;
  const to8 = toEightBits(depth, channels);
  const rgb = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const from = pixel * channels;
    if (palette !== undefined) {
      const colour = palette[samples[from]];
      if (colour === undefined) throw new Error("a pixel is of no colour in the palette");
      for (let channel = 0; channel < 3; channel++)
        rgb[3 * pixel + channel] = overWhite(colour[channel], colour[3] ?? 255);
      continue;
    }
    const isClear = transparency?.every((value, channel) => value === samples[from + channel]) ?? false;
    const alpha = isClear ? 0 : hasAlpha ? to8(samples[from + channels - 1]) : 255;
    for (let channel = 0; channel < 3; channel++) {
      rgb[3 * pixel + channel] = overWhite(to8(samples[from + (grey ? 0 : channel)]), alpha);
    }
  }
  return upright({ width, height, rgb }, orientation(file.metadata));
}

/** A sample as 8 bits. 16-bit grey is rounded; of 16-bit colour, and of grey with alpha, the high byte is taken. */
function toEightBits(depth: number, channels: number): (sample: number) => number {
  if (depth === 16)
    return channels === 1 ? (sample) => roundHalfToEven(sample * (255 / 65535)) : (sample) => sample >> 8;
  const top = 2 ** depth - 1;
  return (sample) => (sample * 255) / top;
}

/** Samples, one a number, of rows that begin with a whole byte. */
function unpacked(data: ArrayLike<number>, rowSamples: number, rows: number, depth: number): ArrayLike<number> {
  if (depth >= 8) return data;
  const rowBytes = Math.ceil((rowSamples * depth) / 8);
  const samples = new Uint8Array(rowSamples * rows);
  for (let row = 0; row < rows; row++) {
    for (let place = 0; place < rowSamples; place++) {
      const bit = place * depth;
      const byte = data[row * rowBytes + (bit >> 3)];
      samples[row * rowSamples + place] = (byte >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
    }
  }
  return samples;
}
