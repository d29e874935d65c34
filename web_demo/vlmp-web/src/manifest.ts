// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, D hidden, H KV heads, C head
// size

/** The four methods of a bundle. */
export const STEPS = ["vision", "prefill", "decode", "extend"] as const;
export type Step = (typeof STEPS)[number];

/** Those of the KV caches: `key_cache_0`, `value_cache_0`, ... */
export const CACHE_KINDS = ["key", "value"] as const;
/** That of the cache which a stage that weighs has: `bias_cache_0`, ... */
export const BIAS = "bias";
/** That of what a layer without keys keeps: `state_cache_0`, ... */
export const STATE = "state";

/** How a photo is resized: Pillow's filters of these names. */
export const FILTERS = ["bilinear", "bicubic", "lanczos"] as const;
export type Resample = (typeof FILTERS)[number];

export const FLOAT_BYTES = 4;

/**
 * What a bundle is: its manifest of schema version 2 with the first picture size. docs/bundle.md explains each field.
 * It is plain data, so that a worker can send it to its page.
 */
export interface Manifest {
  readonly model: string;
  readonly checkpoint: string;
  readonly target: string;
  readonly precision: string;
  readonly quantization: string;
  /** V */
  readonly vocabSize: number;
  readonly prompt: PromptSpec;
  readonly image: ImageSpec;
  /** Where tokens are pruned; an unpruned bundle has one whose pruner is `none`, or none at all. */
  readonly stages: readonly StageSpec[];
  readonly kv: KvSpec;
  /** What each step runs. */
  readonly methods: Readonly<Record<Step, MethodSpec>>;
  readonly files: readonly FileSpec[];
}

/** How words become tokens. No `controlTokens`: all special tokens of the tokenizer. */
export interface PromptSpec {
  readonly first: string;
  readonly following: string;
  /** T */
  readonly textLen: number;
  /** G */
  readonly maxNewTokens: number;
  readonly endIds: readonly number[];
  readonly endTextId: number;
  readonly padId: number;
  readonly controlTokens: readonly string[];
  readonly tokenizerFile: string;
}

/** The picture that the model sees, in pixels. `padRgb`: 0..255, of the bars. `visualTokens`: N. */
export interface ImageSpec {
  readonly height: number;
  readonly width: number;
  readonly fit: "pad" | "stretch";
  readonly padRgb: readonly number[];
  readonly resample: Resample;
  readonly visualTokens: number;
  readonly segments: readonly SegmentSpec[];
}

/** Tokens on a grid over `box`: left, top, right, bottom, in pixels of the fitted picture. */
export interface SegmentSpec {
  readonly rows: number;
  readonly columns: number;
  readonly first: number;
  readonly stride: number;
  readonly box: readonly number[];
}

/**
 * Before decoder layer `index`, or block `index` of the vision tower, `tokens` visual tokens become `numKept`. rebuilt:
 * after the tower the others come back. weighs: attention counts each of them as those that it stands for.
 */
export interface StageSpec {
  readonly place: "vision" | "layer";
  readonly form: "dropped" | "rebuilt";
  readonly index: number;
  readonly pruner: string;
  readonly tokens: number;
  readonly numKept: number;
  readonly weighs: boolean;
}

/** rows: graphs return new rows, which the host stores. in_place: they return the caches after the call. */
export interface KvSpec {
  readonly update: "rows" | "in_place";
  readonly layers: readonly KvLayerSpec[];
}

/**
 * H, C, the slot of the first text token after the picture, and all slots; all 0 of a layer without keys, which has the
 * shape of its `state`: each call replaces it.
 */
export interface KvLayerSpec {
  readonly kvHeads: number;
  readonly headDim: number;
  readonly base: number;
  readonly slots: number;
  readonly state: readonly number[] | null;
}

/** A graph: `file` and `dataFile` (empty: none) inside the bundle, `entry` its name there. */
export interface MethodSpec {
  readonly file: string;
  readonly entry: string;
  readonly dataFile: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: "float32" | "float16" | "int32";
}

export interface FileSpec {
  readonly path: string;
  /** 64 hexadecimal digits */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** S: visual tokens that are left after the last stage. */
export function numKept(manifest: Manifest): number {
  return manifest.stages.at(-1)?.numKept ?? manifest.image.visualTokens;
}

/** The stage in the vision tower, which is the first, undefined where none is there. */
export function towerStage({ stages }: Manifest): StageSpec | undefined {
  return stages[0]?.place === "vision" ? stages[0] : undefined;
}

/** Numbers of the stages whose weights the language model takes. */
export function weighedStages({ stages }: Manifest): number[] {
  return [...stages.keys()].filter((number) => stages[number].weighs && stages[number].form === "dropped");
}

/** Where a stage stands, for people. */
export function placeInWords({ place, index }: StageSpec): string {
  return place === "vision" ? `vision tower, block ${index}` : `before layer ${index}`;
}

/** Whether any visual token is left out somewhere. */
export function isPruned({ stages }: Manifest): boolean {
  return stages.some(({ tokens, numKept }) => numKept < tokens);
}

/** Whether the last stage tells in which order it chose; `none` chooses nothing. */
export function isOrdered({ stages }: Manifest): boolean {
  const last = stages.at(-1);
  return last !== undefined && last.numKept < last.tokens;
}

/** Bytes of all files of the bundle. */
export function sizeBytes(manifest: Manifest): number {
  return manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0);
}

/** Bytes of all KV caches. */
export function cacheBytes(manifest: Manifest): number {
  const numbers = manifest.kv.layers.map(({ kvHeads, headDim, slots, state }) =>
    state === null ? 2 * kvHeads * headDim * slots : elements(state),
  );
  return FLOAT_BYTES * numbers.reduce((sum, count) => sum + count, 0);
}

/**
 * Bytes that running the bundle takes, about: its files as they are read, once more in the runtime's memory, the caches
 * as they go in and come out, and what the runtime itself takes.
 */
export function memoryBytes(manifest: Manifest): number {
  return 2 * sizeBytes(manifest) + 3 * cacheBytes(manifest) + 96 * 2 ** 20;
}

/** Numbers in a tensor. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Row and column of a visual token, null where it is not on this grid. */
export function cellOf(segment: SegmentSpec, token: number): { row: number; column: number } | null {
  const row = Math.floor((token - segment.first) / segment.stride);
  const column = token - segment.first - row * segment.stride;
  return row >= 0 && row < segment.rows && column < segment.columns ? { row, column } : null;
}
