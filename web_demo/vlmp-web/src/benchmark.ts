import { type BundleFolder, readManifest } from "./bundle.js";
import type { Chat } from "./chat.js";
import { BadTurn } from "./errors.js";
import { type Manifest, numKept, sizeBytes } from "./manifest.js";
import { type Picture, toPixels } from "./picture.js";
import { Stop, Stopped } from "./runtime.js";
import { GREEDY } from "./sampler.js";

/** What a browser tells of itself. `memoryMib`: 0 where it does not. `facts`: threads, isolation, and the like. */
export interface Machine {
  readonly name: string;
  readonly os: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly facts: Readonly<Record<string, string>>;
}

/**
 * `runs`: timed runs of each bundle. `decodeTokens`: tokens after the first, whatever they are. `threads`: null is the
 * runtime's own choice. `photo`: a file's name.
 */
export interface BenchmarkSettings {
  readonly runs: number;
  readonly decodeTokens: number;
  readonly threads: number | null;
  readonly prompt: string;
  readonly photo: string;
}

/** What a benchmark needs of its surroundings. */
export interface BenchmarkTools {
  readonly machine: Machine;
  readonly load: (folder: BundleFolder) => Promise<Chat>;
  /** Gets runs that are done, and all. */
  readonly onProgress?: (done: number, all: number) => void;
  /** Ends it within a token. */
  readonly stop?: Stop;
  /** Milliseconds. */
  readonly clock?: () => number;
  readonly now?: () => Date;
}

const PHASES = ["load_warm", "preprocess", "vision", "prefill", "decode", "first_token"] as const;
type Samples = Record<(typeof PHASES)[number], number[]>;

interface Subject {
  readonly folder: BundleFolder;
  readonly manifest: Manifest;
  /** One a run, milliseconds; of decode, per token. */
  readonly samples: Samples;
  runtimeName: string;
}

/**
 * Times bundles in turns, so that a phone that grows hot slows all of them alike: in each round each bundle is loaded,
 * asked once to warm it up, asked once more with a clock, and closed.
 *
 * Returns an object in the schema of `vlmp-profile`, which `--device browser --import` reads; null if it was stopped.
 * Throws what loading and asking throw.
 */
export async function benchmark(
  folders: readonly BundleFolder[],
  picture: Picture,
  settings: BenchmarkSettings,
  tools: BenchmarkTools,
): Promise<object | null> {
  const subjects = await Promise.all(folders.map((folder) => newSubject(folder, settings)));
  const all = settings.runs * subjects.length;
  const stop = tools.stop ?? new Stop();
  try {
    for (let done = 0; done < all; done++) {
      stop.check();
      await measure(subjects[done % subjects.length], picture, settings, tools, stop);
      tools.onProgress?.(done + 1, all);
    }
  } catch (error) {
    if (error instanceof Stopped) return null;
    throw error;
  }
  return profile(subjects, picture, settings, tools);
}

async function newSubject(folder: BundleFolder, settings: BenchmarkSettings): Promise<Subject> {
  const manifest = await readManifest(folder);
  const most = manifest.prompt.maxNewTokens;
  if (settings.decodeTokens > most) {
    throw new BadTurn("limit", `${folder.name} has room for ${most} tokens after the question.`, 0, most);
  }
  const samples: Samples = { load_warm: [], preprocess: [], vision: [], prefill: [], decode: [], first_token: [] };
  return { folder, manifest, samples, runtimeName: "" };
}

async function measure(
  subject: Subject,
  picture: Picture,
  settings: BenchmarkSettings,
  tools: BenchmarkTools,
  stop: Stop,
): Promise<void> {
  const clock = tools.clock ?? (() => performance.now());
  const start = clock();
  const chat = await tools.load(subject.folder);
  try {
    const loaded = clock();
    subject.runtimeName = chat.session.runtimeName;
    await turn(chat, picture, settings, clock, stop);
    const timed = await turn(chat, picture, settings, clock, stop);
    for (const phase of PHASES) subject.samples[phase].push({ load_warm: loaded - start, ...timed }[phase]);
  } finally {
    await chat.session.close();
  }
}

async function turn(
  chat: Chat,
  picture: Picture,
  settings: BenchmarkSettings,
  clock: () => number,
  stop: Stop,
): Promise<Record<Exclude<keyof Samples, "load_warm">, number>> {
  const { session } = chat;
  const ids = chat.firstIds(settings.prompt);
  const start = clock();
  const pixels = toPixels(picture, session.manifest.image);
  const fitted = clock();
  const seen = await session.vision(pixels, stop);
  const looked = clock();
  let { logits } = await session.prefill(ids, seen, stop);
  const first = clock();
  for (let step = 0; step < settings.decodeTokens; step++) logits = await session.decode(GREEDY.sample(logits), stop);
  return {
    preprocess: fitted - start,
    vision: looked - fitted,
    prefill: first - looked,
    first_token: first - start,
    decode: (clock() - first) / settings.decodeTokens,
  };
}

/** The form of runtimes/profile/profile.schema.json. */
function profile(
  subjects: readonly Subject[],
  picture: Picture,
  settings: BenchmarkSettings,
  tools: BenchmarkTools,
): object {
  const { machine } = tools;
  const now = tools.now ?? (() => new Date());
  return {
    schema_version: 1,
    created: now().toISOString(),
    command: "",
    machine: {
      kind: "browser",
      name: machine.name,
      os: machine.os,
      cpu: machine.cpu,
      cores: machine.cores,
      memory_mib: machine.memoryMib,
      runtimes: Object.fromEntries(subjects.map(({ runtimeName }) => runtimeName.split(" ", 2))),
      facts: machine.facts,
    },
    settings: {
      runs: settings.runs,
      decode_tokens: settings.decodeTokens,
      threads: settings.threads,
      prompt: settings.prompt,
      photo: settings.photo,
      photo_size: [picture.width, picture.height],
    },
    bundles: subjects.map((subject) => ({
      name: subject.folder.name,
      manifest: facts(subject.manifest),
      runtime: subject.runtimeName,
      size_mib: sizeBytes(subject.manifest) / 2 ** 20,
      phases: Object.fromEntries(PHASES.map((phase) => [phase, summary(subject.samples[phase])])),
      prefill_split: "not split: the page asks for no operator's time",
      cold_cached_share: null,
      memory: null,
    })),
  };
}

function facts(manifest: Manifest): object {
  return {
    model: manifest.model,
    checkpoint: manifest.checkpoint,
    target: manifest.target,
    precision: manifest.precision,
    quantization: manifest.quantization,
    image: [manifest.image.height, manifest.image.width],
    text_len: manifest.prompt.textLen,
    layers: manifest.kv.layers.length,
    pruner: manifest.stages.map((stage) => stage.pruner).join("+") || "none",
    prune_layer: manifest.stages.find(({ place }) => place === "layer")?.index ?? 0,
    visual_tokens: manifest.image.visualTokens,
    kept_tokens: numKept(manifest),
    stages: manifest.stages.map(({ place, index, pruner, numKept }) => ({
      place,
      layer: index,
      pruner,
      kept_tokens: numKept,
    })),
  };
}

function summary(samples: readonly number[]): object {
  const [low, median, high] = quartiles(samples);
  return { median_ms: median, low_ms: low, high_ms: high, samples_ms: samples };
}

/** Lower quartile, median and upper quartile, with a line drawn between neighbours. */
export function quartiles(samples: readonly number[]): [number, number, number] {
  const sorted = [...samples].sort((one, other) => one - other);
  const at = (share: number): number => {
    const place = share * (sorted.length - 1);
    const below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
  };
  return [at(0.25), at(0.5), at(0.75)];
}
