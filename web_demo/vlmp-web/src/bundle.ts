import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { BadBundle, oneLine, type BundleProblem, quoted, TooLittleMemory } from "./errors.js";
import { type Manifest, memoryBytes, sizeBytes } from "./manifest.js";
import { parseManifest } from "./manifest-reader.js";
import type { Tokenizer } from "./tokenizer.js";
import { parseTokenizer } from "./tokenizer-file.js";

export const MANIFEST_NAME = "manifest.json";
const MOST_MANIFEST_BYTES = 2 ** 26;
const MOST_TOKENIZER_BYTES = 2 ** 28;

/** Where the files of a bundle are: a folder, an archive, a store of the browser. */
export interface BundleFolder {
  readonly name: string;
  /** A file by its path in the bundle, null where there is none. */
  file(path: string): Promise<Blob | null>;
}

/** Bytes done so far, and all. */
export type OnProgress = (done: number, all: number) => void;

/** The manifest of a bundle, whose other files are not looked at. `targets`: as `parseManifest` has it. Throws BadBundle, whose message is one line. */
export async function readManifest(folder: BundleFolder, targets?: readonly string[]): Promise<Manifest> {
  const name = `${folder.name}/${MANIFEST_NAME}`;
  const file = await folder.file(MANIFEST_NAME);
  return parseManifest(await readText(file, name, MOST_MANIFEST_BYTES, "unreadable"), name, targets);
}

/** The same, where each file is there, of its size and its sha256. */
export async function readBundle(
  folder: BundleFolder,
  onProgress: OnProgress = () => {},
  targets?: readonly string[],
): Promise<Manifest> {
  const manifest = await readManifest(folder, targets);
  const all = sizeBytes(manifest);
  const found: [Blob, string][] = [];
  for (const spec of manifest.files) {
    const file = await folder.file(spec.path);
    checkFile(folder.name, spec.path, file?.size, spec.sizeBytes);
    found.push([file!, spec.sha256]);
  }
  let done = 0;
  for (const [number, [file, wanted]] of found.entries()) {
    const digest = new FileDigest();
    const { path } = manifest.files[number];
    await eachBlock(file.stream(), `${folder.name}: ${quoted(path)}`, (block) => {
      digest.add(block);
      onProgress((done += block.length), all);
    });
    digest.check(folder.name, path, wanted);
  }
  return manifest;
}

/** Throws BadBundle unless a file is there (`found`: its bytes) and has the size that the manifest says. */
export function checkFile(folder: string, path: string, found: number | undefined, wanted: number): void {
  if (found === undefined) {
    throw new BadBundle("missing", `${folder}: ${quoted(path)} is missing: copy the bundle again`);
  }
  if (found !== wanted) {
    throw new BadBundle(
      "size",
      `${folder}: ${quoted(path)} has ${found} bytes, the manifest says ${wanted}: copy the bundle again`,
    );
  }
}

/** The sha256 of a file that comes in blocks. */
export class FileDigest {
  private readonly hash = sha256.create();

  add(block: Uint8Array): void {
    this.hash.update(block);
  }

  /** Throws BadBundle unless it is `wanted`. No block may come after it. */
  check(folder: string, path: string, wanted: string): void {
    if (bytesToHex(this.hash.digest()) !== wanted) {
      throw new BadBundle("hash", `${folder}: ${quoted(path)} is damaged (sha256 differs): copy the bundle again`);
    }
  }
}

/** Hands out the bytes of a stream in their order. `name` is named in messages. Throws BadBundle. */
export async function eachBlock(
  stream: ReadableStream<Uint8Array>,
  name: string,
  onBlock: (block: Uint8Array<ArrayBuffer>) => void | Promise<void>,
): Promise<void> {
  const reader = stream.getReader();
  while (true) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw new BadBundle("unreadable", `${name} cannot be read: ${oneLine(error)}`, { cause: error });
    });
    if (done) return;
    await onBlock(value as Uint8Array<ArrayBuffer>);
  }
}

/** The tokenizer of a bundle. Throws BadBundle. */
export async function readTokenizer(folder: BundleFolder, manifest: Manifest): Promise<Tokenizer> {
  const path = manifest.prompt.tokenizerFile;
  const name = `${folder.name}/${path}`;
  return parseTokenizer(await readText(await folder.file(path), name, MOST_TOKENIZER_BYTES, "tokenizer"), name);
}

/** Throws TooLittleMemory where running a bundle takes more than `mostBytes`; null: nobody knows how much there is. */
export function checkMemory(folder: string, manifest: Manifest, mostBytes: number | null): void {
  const needed = memoryBytes(manifest);
  if (mostBytes === null || needed <= mostBytes) return;
  const [needs, most] = [Math.ceil(needed / 2 ** 20), Math.floor(mostBytes / 2 ** 20)];
  throw new TooLittleMemory(
    needed,
    mostBytes,
    `${folder} needs about ${needs} MiB of memory, and this page may take ${most}: take a smaller bundle.`,
  );
}

async function readText(file: Blob | null, name: string, most: number, kind: BundleProblem): Promise<string> {
  if (file === null) throw new BadBundle(kind, `${name} does not exist: is this the folder of a bundle?`);
  if (file.size > most) throw new BadBundle(kind, `${name} is too large: ${file.size} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
  } catch (error) {
    const what = error instanceof TypeError ? "is not UTF-8" : `cannot be read: ${oneLine(error)}`;
    throw new BadBundle(kind, `${name} ${what}`, { cause: error });
  }
}
