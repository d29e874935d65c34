import type { BundleFolder } from "vlmp-web";
import { MANIFEST_NAME } from "vlmp-web";

const FOLDER = "vlmp-bundles"; // other pages of the same host have folders, too

/** A file that is being written. */
export interface FileWriter {
  /** Throws QuotaExceededError where there is no room. */
  write(block: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** Where imported bundles are kept. A bundle is there once its manifest is, which is written last. */
export interface Store {
  /** Whether bundles stay when the page is closed. */
  readonly keeps: boolean;
  names(): Promise<string[]>;
  folder(name: string): BundleFolder;
  write(name: string, path: string): Promise<FileWriter>;
  remove(name: string): Promise<void>;
}

/** The browser's private file system, or memory where it has none: without HTTPS, or in some private windows. */
export async function openStore(): Promise<Store> {
  try {
    const root = await navigator.storage.getDirectory();
    return new FileStore(await root.getDirectoryHandle(FOLDER, { create: true }));
  } catch {
    return new MemoryStore();
  }
}

class FileStore implements Store {
  readonly keeps = true;

  constructor(private readonly root: FileSystemDirectoryHandle) {}

  async names(): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.root.keys()) names.push(name);
    return names.sort();
  }

  folder(name: string): BundleFolder {
    return {
      name,
      file: async (path) => {
        try {
          return await (await this.handle(name, path, false)).getFile();
        } catch {
          return null;
        }
      },
    };
  }

  async write(name: string, path: string): Promise<FileWriter> {
    const file = await (await this.handle(name, path, true)).createSyncAccessHandle();
    file.truncate(0);
    let written = 0;
    return {
      write(block) {
        const count = file.write(block, { at: written });
        if (count < block.length) throw new DOMException("the disk is full", "QuotaExceededError");
        written += count;
      },
      close() {
        file.flush();
        file.close();
      },
    };
  }

  async remove(name: string): Promise<void> {
    await this.root.removeEntry(name, { recursive: true }).catch((error: unknown) => {
      if (!(error instanceof DOMException && error.name === "NotFoundError")) throw error;
    });
  }

  private async handle(name: string, path: string, create: boolean): Promise<FileSystemFileHandle> {
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    let folder = await this.root.getDirectoryHandle(name, { create });
    for (const part of parts.slice(0, -1)) folder = await folder.getDirectoryHandle(part, { create });
    return folder.getFileHandle(parts.at(-1)!, { create });
  }
}

class MemoryStore implements Store {
  readonly keeps = false;
  private readonly bundles = new Map<string, Map<string, Blob>>();

  async names(): Promise<string[]> {
    return [...this.bundles.keys()].sort();
  }

  folder(name: string): BundleFolder {
    return { name, file: async (path) => this.bundles.get(name)?.get(path) ?? null };
  }

  async write(name: string, path: string): Promise<FileWriter> {
    const files = this.bundles.get(name) ?? new Map<string, Blob>();
    this.bundles.set(name, files);
    const blocks: Uint8Array<ArrayBuffer>[] = [];
    return {
      write: (block) => blocks.push(block),
      close: () => files.set(path, new Blob(blocks)),
    };
  }

  async remove(name: string): Promise<void> {
    this.bundles.delete(name);
  }
}

/** Removes what an import has left that was broken off, unless one is running in another tab. */
export async function sweep(store: Store): Promise<void> {
  await alone({ ifAvailable: true }, async () => {
    for (const name of await store.names()) {
      if ((await store.folder(name).file(MANIFEST_NAME)) === null) await store.remove(name);
    }
  });
}

/** Does something that only one tab may do at a time. */
export async function alone<Made>(options: LockOptions, act: () => Promise<Made>): Promise<Made | undefined> {
  if (!("locks" in navigator)) return act(); // without HTTPS, where tabs share no store
  return navigator.locks.request(FOLDER, options, (lock) => (lock === null ? undefined : act()));
}
