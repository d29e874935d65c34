// Which way up a photo is, as EXIF or XMP has it: docs/bundle.md, "Upright".

const TAG = 0x0112;

/** What a file says of itself beside its pixels. */
export interface Metadata {
  /** An EXIF block from its TIFF header on. */
  exif?: Uint8Array;
  xmp?: Uint8Array;
}

/** EXIF's number, 1 to 8. A block that is damaged says 1; where it does not tell, XMP does. */
export function orientation({ exif, xmp }: Metadata): number {
  const told = exif === undefined ? undefined : tiffOrientation(exif);
  return told ?? xmpOrientation(xmp) ?? 1;
}

/** undefined: the block ends, or breaks off, before the tag. */
function tiffOrientation(block: Uint8Array): number | undefined {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const order = String.fromCharCode(...block.subarray(0, 2));
  const little = order === "II";
  if (block.length < 8 || (!little && order !== "MM") || view.getUint16(2, little) !== 42) return 1;
  const directory = view.getUint32(4, little);
  if (directory + 2 > block.length) return undefined;
  const count = view.getUint16(directory, little);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
    if (entry + 12 > block.length) return undefined;
    if (view.getUint16(entry, little) === TAG) return valid(tagValue(view, entry, little));
  }
  return undefined;
}

function tagValue(view: DataView, entry: number, little: boolean): number {
  const SHORT = 3;
  const LONG = 4;
  const type = view.getUint16(entry + 2, little);
  if (view.getUint32(entry + 4, little) !== 1) return 1;
  if (type === LONG) return view.getUint32(entry + 8, little);
  return type === SHORT ? view.getUint16(entry + 8, little) : 1;
}

function xmpOrientation(packet: Uint8Array | undefined): number | undefined {
  const text = new TextDecoder("latin1").decode(packet ?? new Uint8Array());
  const found = /tiff:Orientation(?:="|>)([0-9])/.exec(text);
  return found === null ? undefined : valid(Number(found[1]));
}

function valid(number: number): number {
  return number >= 1 && number <= 8 ? number : 1;
}
