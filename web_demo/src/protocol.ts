// What the page and its worker say to each other.
import type { Answer, BenchmarkSettings, Machine, Manifest } from "vlmp-web";

/** What the page knows of the browser when it starts its worker. `mostBytes`: memory that a bundle may take. */
export interface Surroundings {
  readonly mostBytes: number;
  readonly threads: number;
  readonly webgpu: boolean;
}

/** A bundle that is there. */
export interface StoredBundle {
  readonly name: string;
  readonly manifest: Manifest;
}

/** Where a bundle is imported from: the page's own host, a folder, a zip archive. */
export type Source =
  | { readonly kind: "shipped"; readonly name: string }
  | { readonly kind: "folder"; readonly name: string; readonly files: readonly (readonly [string, File])[] }
  | { readonly kind: "zip"; readonly name: string; readonly file: File };

/** The photo as it was decoded. `preview`: the same, at most 1280 pixels wide or high. */
export interface Photo {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly preview: ImageBitmap;
}

/** An answer of a bundle that was asked in turn with others. */
export interface Compared {
  readonly bundle: StoredBundle;
  readonly answer: Answer;
}

/** What the worker does: a name, what it takes, what comes of it. One at a time. */
export interface Tasks {
  start: { takes: Surroundings; gives: { readonly keeps: boolean; readonly bundles: readonly StoredBundle[] } };
  /** Gives null if it was stopped. */
  import: { takes: Source; gives: readonly StoredBundle[] | null };
  delete: { takes: string; gives: readonly StoredBundle[] };
  photo: { takes: File; gives: Photo };
  ask: { takes: { bundle: string; words: string; limit: number; follows: boolean }; gives: Answer };
  /** Gives what there is when it is stopped. */
  compare: { takes: { bundles: readonly string[]; words: string; limit: number }; gives: readonly Compared[] };
  /** Gives a profile in the schema of vlmp-profile, null if it was stopped. */
  measure: {
    takes: { bundles: readonly string[]; settings: BenchmarkSettings; machine: Machine };
    gives: object | null;
  };
}

export type TaskName = keyof Tasks;

export type Order<Name extends TaskName = TaskName> = {
  [Each in Name]: { readonly number: number; readonly task: Each; readonly takes: Tasks[Each]["takes"] };
}[Name];

/** From the page. "stop": the task that runs shall end. */
export type ToWorker = Order | "stop";

/** How far a task is: what is done, how much of it, and all. */
export interface Progress {
  readonly what: "downloading" | "copying" | "loading" | "answering" | "measuring";
  readonly name: string;
  readonly done: number;
  readonly all: number;
}

/** From the worker, about the order of that number. `lost`: nothing is loaded any more. */
export type FromWorker =
  | { readonly number: number; readonly kind: "progress"; readonly progress: Progress }
  | { readonly number: number; readonly kind: "text"; readonly piece: string }
  | { readonly number: number; readonly kind: "done"; readonly value: unknown }
  | { readonly number: number; readonly kind: "failed"; readonly message: string; readonly lost: boolean };
