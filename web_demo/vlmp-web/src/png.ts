import type { Metadata } from "./orientation.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const PIXEL_CHUNKS = ["IHDR", "PLTE", "tRNS", "IDAT", "IEND"];
const XMP_KEYWORD = "XML:com.adobe.xmp";

/** `plain`: the same file with nothing but what makes its pixels, so that a damaged note refuses no photo. */
export interface PngFile {
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  readonly interlaced: boolean;
  readonly metadata: Metadata;
  readonly plain: Uint8Array;
}

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, place) => bytes[place] === byte);
}

/** Reads what is around the pixels. Throws RangeError or Error where the file is cut off. */
export function readPng(bytes: Uint8Array): PngFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kept: Uint8Array[] = [bytes.subarray(0, 8)];
  const metadata: Metadata = {};
  let place = 8;
  let type = "";
  while (type !== "IEND") {
    const end = place + 12 + view.getUint32(place);
    if (end > bytes.length) throw new Error("its end is missing");
    type = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const content = bytes.subarray(place + 8, end - 4);
    if (PIXEL_CHUNKS.includes(type)) kept.push(bytes.subarray(place, end));
    else if (type === "eXIf") metadata.exif ??= content;
    else if (type === "iTXt" && keyword(content) === XMP_KEYWORD) metadata.xmp ??= content;
    place = end;
  }
  const depth = bytes[24];
  return {
    width: view.getUint32(16),
    height: view.getUint32(20),
    depth,
    interlaced: bytes[28] !== 0,
    metadata,
    plain: joined(kept),
  };
}

function keyword(content: Uint8Array): string {
  return String.fromCharCode(...content.subarray(0, XMP_KEYWORD.length));
}

export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
