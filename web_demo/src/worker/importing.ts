import {
  type BundleFolder,
  checkFile,
  checkMemory,
  eachBlock,
  FileDigest,
  MANIFEST_NAME,
  type Manifest,
  readManifest,
  sizeBytes,
  type Stop,
  VlmpError,
} from "vlmp-web";
import type { Progress } from "../protocol.js";
import type { Store } from "./store.js";

/** What the user can mend about an import, in a line. */
export class ImportError extends VlmpError {}

/**
 * Copies a bundle into the store, and checks sizes and hashes on the way. Whether it fits into memory and store is
 * compared before anything is copied. An import that fails or is stopped leaves nothing.
 *
 * Throws BadBundle, TooLittleMemory, ImportError, Stopped.
 */
export async function importBundle(
  source: BundleFolder,
  store: Store,
  mostBytes: number,
  onProgress: (progress: Progress) => void,
  stop: Stop,
): Promise<void> {
  const manifest = await readManifest(source);
  checkMemory(source.name, manifest, mostBytes);
  const name = await freeName(source.name, store);
  const needed = sizeBytes(manifest);
  if (store.keeps) await checkRoom(source.name, needed);
  let done = 0;
  try {
    for (const spec of manifest.files) {
      const file = await source.file(spec.path);
      checkFile(source.name, spec.path, file?.size, spec.sizeBytes);
      const digest = new FileDigest();
      await copy(file!, store, name, spec.path, (block) => {
        stop.check();
        digest.add(block);
        done += block.length;
        onProgress({ what: "copying", name: source.name, done, all: needed });
      });
      digest.check(source.name, spec.path, spec.sha256);
    }
    stop.check();
    await copy((await source.file(MANIFEST_NAME))!, store, name, MANIFEST_NAME, () => {});
  } catch (error) {
    await store.remove(name);
    if (isFull(error)) throw full(source.name, manifest);
    throw error;
  }
}

async function copy(
  file: Blob,
  store: Store,
  name: string,
  path: string,
  onBlock: (block: Uint8Array) => void,
): Promise<void> {
  const writer = await store.write(name, path);
  try {
    await eachBlock(file.stream(), path, (block) => {
      onBlock(block);
      writer.write(block);
    });
  } finally {
    writer.close();
  }
}

/** The same name, with a number where there is one already. */
async function freeName(wanted: string, store: Store): Promise<string> {
  const plain = wanted.replaceAll(/[^\w.-]+/g, "-").replace(/^\.+/, "") || "bundle";
  const names = await store.names();
  for (let number = 1; ; number++) {
    const name = number === 1 ? plain : `${plain}-${number}`;
    if (!names.includes(name)) return name;
  }
}

async function checkRoom(name: string, needed: number): Promise<void> {
  const { quota, usage } = await navigator.storage.estimate();
  if (quota === undefined || usage === undefined || needed <= quota - usage) return;
  const [needs, has] = [Math.ceil(needed / 2 ** 20), Math.floor(Math.max(0, quota - usage) / 2 ** 20)];
  throw new ImportError(
    `${name} needs ${needs} MiB of this browser's storage, and ${has} are free: delete a bundle, or free the disk.`,
  );
}

function full(name: string, manifest: Manifest): ImportError {
  const needs = Math.ceil(sizeBytes(manifest) / 2 ** 20);
  return new ImportError(
    `${name} needs ${needs} MiB, and this browser's storage is full: delete a bundle, or free the disk.`,
  );
}

function isFull(error: unknown): boolean {
  return error instanceof Error && error.name === "QuotaExceededError";
}
