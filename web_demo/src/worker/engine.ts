import {
  benchmark,
  type Chat,
  decodePicture,
  loadChat,
  type OrtModule,
  type Picture,
  readManifest,
  Stop,
  Stopped,
  VlmpError,
} from "vlmp-web";
import type { Compared, Photo, Progress, Source, StoredBundle, Surroundings, Tasks } from "../protocol.js";
import { importBundle } from "./importing.js";
import { openOrt } from "./ort.js";
import { preview } from "./preview.js";
import { openSource } from "./sources.js";
import { alone, openStore, type Store, sweep } from "./store.js";

/** Tokens of an answer that warms a bundle up: one from the photo, one from the caches. */
const WARM_UP_TOKENS = 2;

/** By which a task tells how far it is. */
export interface Teller {
  progress(progress: Progress): void;
  text(piece: string): void;
}

/** What the worker holds: a store, a runtime, at most one bundle, a photo. Whoever calls it does one thing at a time. */
export class Engine {
  private loaded: { readonly name: string; readonly chat: Chat } | null = null;
  private picture: Picture | null = null;
  private stopping = new Stop();

  private constructor(
    private readonly surroundings: Surroundings,
    private readonly store: Store,
    private readonly ort: OrtModule,
  ) {}

  static async open(surroundings: Surroundings): Promise<Engine> {
    const store = await openStore();
    await sweep(store);
    return new Engine(surroundings, store, await openOrt(surroundings));
  }

  /** Whether bundles stay when the page is closed. */
  get keeps(): boolean {
    return this.store.keeps;
  }

  /** Ends what runs: within a token, or at the next block of an import. */
  stop(): void {
    this.stopping.ask();
  }

  /** What was stopped before is over. */
  begin(): void {
    this.stopping = new Stop();
  }

  async bundles(): Promise<StoredBundle[]> {
    const found: StoredBundle[] = [];
    for (const name of await this.store.names()) {
      try {
        found.push({ name, manifest: await readManifest(this.store.folder(name)) });
      } catch (error) {
        if (!(error instanceof VlmpError)) throw error; // another tab is importing it, or another version wrote it
      }
    }
    return found;
  }

  async import(source: Source, teller: Teller): Promise<StoredBundle[] | null> {
    let fetched = 0;
    const folder = await openSource(source, (bytes) => {
      this.stopping.check();
      teller.progress({ what: "downloading", name: source.name, done: (fetched += bytes), all: 0 });
    });
    try {
      await alone({}, () =>
        importBundle(folder, this.store, this.surroundings.mostBytes, teller.progress, this.stopping),
      );
    } catch (error) {
      if (error instanceof Stopped) return null;
      throw error;
    }
    return this.bundles();
  }

  async delete(name: string): Promise<StoredBundle[]> {
    if (this.loaded?.name === name) await this.unload();
    await this.store.remove(name);
    return this.bundles();
  }

  async open(file: File): Promise<Photo> {
    const picture = await decodePicture(file);
    this.picture = picture;
    this.loaded?.chat.reset();
    return { name: file.name, width: picture.width, height: picture.height, preview: await preview(picture) };
  }

  async ask({ bundle, words, limit, follows }: Tasks["ask"]["takes"], teller: Teller): Promise<Tasks["ask"]["gives"]> {
    const chat = await this.chatOf(bundle, teller);
    teller.progress({ what: "answering", name: bundle, done: 0, all: 0 });
    const options = { limit, stop: this.stopping, onText: teller.text };
    return follows ? chat.reply(words, options) : chat.ask(this.photo(), words, options);
  }

  /** The same question to each bundle in its turn, with the clock after another one that warms it up. */
  async compare({ bundles, words, limit }: Tasks["compare"]["takes"], teller: Teller): Promise<Compared[]> {
    const compared: Compared[] = [];
    for (const name of bundles) {
      if (this.stopping.asked) break;
      const chat = await this.chatOf(name, teller);
      teller.progress({ what: "answering", name, done: compared.length, all: bundles.length });
      await chat.ask(this.photo(), words, { limit: Math.min(limit, WARM_UP_TOKENS), stop: this.stopping });
      const answer = await chat.ask(this.photo(), words, { limit, stop: this.stopping });
      if (answer.tokens.length > 0) compared.push({ bundle: { name, manifest: chat.session.manifest }, answer });
    }
    return compared;
  }

  async measure({ bundles, settings, machine }: Tasks["measure"]["takes"], teller: Teller): Promise<object | null> {
    await this.unload();
    const folders = bundles.map((name) => this.store.folder(name));
    return benchmark(folders, this.photo(), settings, {
      machine,
      load: (folder) => loadChat(this.ort, folder, this.loadOptions),
      onProgress: (done, all) => teller.progress({ what: "measuring", name: settings.photo, done, all }),
      stop: this.stopping,
    });
  }

  /** Frees the memory of the bundle that is loaded. */
  async unload(): Promise<void> {
    const chat = this.loaded?.chat;
    this.loaded = null;
    await chat?.session.close();
  }

  private async chatOf(name: string, teller: Teller): Promise<Chat> {
    if (this.loaded?.name === name) return this.loaded.chat;
    await this.unload();
    teller.progress({ what: "loading", name, done: 0, all: 0 });
    const chat = await loadChat(this.ort, this.store.folder(name), this.loadOptions);
    this.loaded = { name, chat };
    return chat;
  }

  private get loadOptions(): { mostBytes: number; executionProviders: string[] } {
    const { mostBytes, webgpu } = this.surroundings;
    return { mostBytes, executionProviders: [webgpu ? "webgpu" : "wasm"] };
  }

  private photo(): Picture {
    if (this.picture === null) throw new Error("no photo was opened");
    return this.picture;
  }
}
