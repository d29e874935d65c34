import type { Metadata } from "./orientation.js";
import { joined } from "./png.js";

const EXIF = "Exif\0\0";
const XMP = "http://ns.adobe.com/xap/1.0/\0";

/**
 * `plain`: the same file without EXIF, XMP and colour profile. So no browser turns it, and none converts its colours,
 * whatever it makes of `createImageBitmap`'s options.
 */
export interface JpegFile {
  readonly width: number;
  readonly height: number;
  readonly metadata: Metadata;
  readonly plain: Uint8Array<ArrayBuffer>;
}

/** Reads what is around the pixels, null where it is no JPEG. Throws RangeError or Error where the file is cut off. */
export function readJpeg(bytes: Uint8Array): JpegFile | null {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kept: Uint8Array[] = [bytes.subarray(0, 2)];
  const metadata: Metadata = {};
  let size = { width: 0, height: 0 };
  let place = 2;
  let marker = 0;
  while (marker !== START_OF_SCAN) {
    while (bytes[place + 1] === 0xff) place++; // filling
    marker = view.getUint8(place + 1);
    const end = place + 2 + view.getUint16(place + 2);
    if (bytes[place] !== 0xff || end > bytes.length) throw new Error("its head is damaged");
    const segment = bytes.subarray(place + 4, end);
    if (isFrame(marker)) size = { height: view.getUint16(place + 5), width: view.getUint16(place + 7) };
    if (marker === APP1) addMetadata(metadata, segment);
    if (marker !== APP1 && marker !== APP2) kept.push(bytes.subarray(place, end));
    place = end;
  }
  const scan = bytes.subarray(place);
  if (!hasEnd(scan)) throw new Error("its end is missing");
  return { ...size, metadata, plain: joined([...kept, scan]) };
}

const APP1 = 0xe1;
const APP2 = 0xe2;
const START_OF_SCAN = 0xda;

function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
}

function hasEnd(scan: Uint8Array): boolean {
  for (let place = scan.length - 2; place >= 0; place--) {
    if (scan[place] === 0xff && scan[place + 1] === 0xd9) return true;
  }
  return false;
}

function addMetadata(metadata: Metadata, segment: Uint8Array): void {
  const begins = (text: string): boolean => String.fromCharCode(...segment.subarray(0, text.length)) === text;
  if (begins(EXIF)) metadata.exif ??= segment.subarray(EXIF.length);
  else if (begins(XMP)) metadata.xmp ??= segment.subarray(XMP.length);
}
