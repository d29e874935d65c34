import { BlobReader, configure, type FileEntry, Uint8ArrayWriter, ZipReader } from "@zip.js/zip.js";
import { BadBundle, type BundleFolder, eachBlock, MANIFEST_NAME, oneLine } from "vlmp-web";
import type { Source } from "../protocol.js";

configure({ useWebWorkers: false }); // this is a worker

/** The files of a bundle that somebody wants to import. `onBytes`: of those that come over the network. Throws BadBundle. */
export async function openSource(source: Source, onBytes: (bytes: number) => void): Promise<BundleFolder> {
  switch (source.kind) {
    case "shipped":
      return { name: source.name, file: (path) => download(`bundles/${source.name}/${path}`, onBytes) };
    case "folder":
      return folderOf(source.name, new Map(source.files.map(([path, file]) => [path, async () => file])));
    case "zip":
      return folderOf(source.name, await zipFiles(source.file));
  }
}

type Files = Map<string, () => Promise<Blob>>;

/** The manifest says where in the files the bundle is: at the top, or in a folder. */
function folderOf(name: string, files: Files): BundleFolder {
  const manifests = [...files.keys()].filter((path) => path === MANIFEST_NAME || path.endsWith(`/${MANIFEST_NAME}`));
  const manifest = manifests.sort((one, other) => one.length - other.length)[0] ?? MANIFEST_NAME;
  const base = manifest.slice(0, -MANIFEST_NAME.length);
  return {
    name: base.split("/").at(-2) ?? name,
    file: async (path) => (await files.get(base + path)?.()) ?? null,
  };
}

async function zipFiles(file: Blob): Promise<Files> {
  try {
    const entries = await new ZipReader(new BlobReader(file)).getEntries();
    const files = entries.filter((entry): entry is FileEntry => !entry.directory);
    return new Map(files.map((entry) => [entry.filename, () => unpacked(entry)]));
  } catch (error) {
    throw new BadBundle("unreadable", `The archive cannot be read: ${oneLine(error)}`, { cause: error });
  }
}

async function unpacked(entry: FileEntry): Promise<Blob> {
  return new Blob([(await entry.getData(new Uint8ArrayWriter())) as Uint8Array<ArrayBuffer>]);
}

async function download(path: string, onBytes: (bytes: number) => void): Promise<Blob | null> {
  const response = await fetch(new URL(path, pageAddress())).catch((error: unknown) => {
    throw new BadBundle("unreadable", `${path} cannot be downloaded: ${oneLine(error)}`, { cause: error });
  });
  if (!response.ok || response.body === null) return null;
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  await eachBlock(response.body, path, (block) => {
    blocks.push(block);
    onBytes(block.length);
  });
  return new Blob(blocks);
}

/** This script stands in a folder of the page's. */
function pageAddress(): URL {
  return new URL("..", self.location.href);
}
