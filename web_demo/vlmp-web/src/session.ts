// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, H KV heads, C head size
import { BadTurn, RuntimeFailure } from "./errors.js";
import {
  BIAS,
  CACHE_KINDS,
  elements,
  type Manifest,
  STATE,
  type Step,
  type TensorSpec,
  weighedStages,
} from "./manifest.js";
import { type Numbers, type Runtime, Stop } from "./runtime.js";

/**
 * What vision tells of a picture. visual: tokens [N, D], fewer where the tower has dropped some. Of a bundle with a stage
 * there `places`, the numbers of those that went through all of it, ascending; `bias` if the language model takes what
 * each counts for.
 */
export interface Seen {
  readonly visual: Numbers;
  readonly places: Numbers | null;
  readonly bias: Numbers | null;
}

/**
 * What prefill tells beside filling the caches. logits [V]; stages: kept of each stage, ascending; order: the last one's
 * as chosen.
 */
export interface Prefilled {
  readonly logits: Float32Array;
  readonly stages: readonly number[][];
  readonly order: readonly number[];
}

/**
 * How far a conversation is: text tokens after the picture that the caches hold, and what layers without keys have made
 * of them, by the names of the inputs. No call changes either.
 */
export interface Progress {
  readonly past: number;
  readonly states: ReadonlyMap<string, Numbers>;
}

/**
 * A loaded bundle with the caches of one conversation, in tensors and token ids. A Chat puts words around it.
 *
 * One call at a time. A call that fails or is stopped leaves `past` as it was.
 */
export class Session {
  private readonly caches: Map<string, Numbers>;
  private readonly noStates: ReadonlyMap<string, Numbers>;
  private reached: Progress;

  constructor(
    readonly manifest: Manifest,
    private readonly runtime: Runtime,
  ) {
    const zeros = (kinds: readonly string[]): Map<string, Numbers> =>
      new Map(
        manifest.methods.decode.inputs
          .filter(({ name }) => kinds.some((kind) => name.startsWith(`${kind}_cache_`)))
          .map(({ name, shape }) => [name, new Float32Array(elements(shape))]),
      );
    this.caches = zeros([...CACHE_KINDS, BIAS]);
    this.noStates = zeros([STATE]);
    this.reached = { past: 0, states: this.noStates };
  }

  /** Name and version of what runs the graphs. */
  get runtimeName(): string {
    return this.runtime.name;
  }

  /** Text tokens after the picture that the caches hold. Rows after them are never read. */
  get past(): number {
    return this.reached.past;
  }

  /** How far the conversation is. */
  get progress(): Progress {
    return this.reached;
  }

  /** Text tokens that still fit. */
  get room(): number {
    return this.manifest.prompt.textLen + this.manifest.prompt.maxNewTokens - this.past;
  }

  /** A cache of keys, values or weights by its input's name; for tests. */
  cache(name: string): Numbers {
    return this.caches.get(name)!;
  }

  /** pixels float32 [1, 3, height, width], 0..255 -> what `prefill` takes of the picture. */
  async vision(pixels: Float32Array, stop = new Stop()): Promise<Seen> {
    const outputs = await this.run("vision", { image: pixels }, stop);
    return {
      visual: outputs.get("visual")!,
      places: outputs.get("places") ?? null,
      bias: outputs.get(`${BIAS}_0`) ?? null,
    };
  }

  /** Fills the caches with prefix, picture and the first text, 1 to T ids. If it fails there is no picture. */
  async prefill(ids: readonly number[], seen: Seen, stop = new Stop()): Promise<Prefilled> {
    this.reset();
    const { visual, places, bias } = seen;
    if (bias !== null) this.caches.get(`${BIAS}_cache_0`)!.set(bias);
    const given = places === null ? { visual } : { visual, places };
    const outputs = await this.call("prefill", { ...this.bucket(ids), ...given }, ids.length, stop);
    const earlier = this.manifest.stages
      .slice(0, -1)
      .map(({ place }, number) => (place === "vision" ? places! : outputs.get(`kept_${number}`)!));
    return {
      logits: outputs.get("logits") as Float32Array,
      stages: [...earlier, outputs.get("kept")!].map((kept) => [...kept]),
      order: [...outputs.get("order")!],
    };
  }

  /** Appends one token. Returns logits [V] of the next one. Throws BadTurn when the caches are full. */
  async decode(token: number, stop = new Stop()): Promise<Float32Array> {
    this.checkRoom(1);
    const outputs = await this.call("decode", { ids: Int32Array.of(token), text_len: Int32Array.of(1) }, 1, stop);
    return outputs.get("logits") as Float32Array;
  }

  /** Appends 1 to T ids at once. Returns logits [V] of the next one. Throws BadTurn when the caches are full. */
  async extend(ids: readonly number[], stop = new Stop()): Promise<Float32Array> {
    this.checkRoom(ids.length);
    const outputs = await this.call("extend", this.bucket(ids), ids.length, stop);
    return outputs.get("logits") as Float32Array;
  }

  /** Throws BadTurn unless so many text tokens can be appended. */
  checkRoom(tokens: number): void {
    if (this.past === 0) throw new BadTurn("no_image", "There is no picture yet: ask about one first.");
    if (tokens > this.room) {
      throw new BadTurn(
        "full",
        `The conversation is full: ${tokens} more tokens, room for ${this.room}. Start a new one.`,
        tokens,
        this.room,
      );
    }
  }

  /** Forgets all that came after `before`, an earlier `progress` of this conversation. */
  rewind(before: Progress): void {
    if (before.past > this.past) throw new RangeError(`cannot go back to ${before.past}: the caches hold ${this.past}`);
    this.reached = before;
  }

  /** Forgets the conversation. */
  reset(): void {
    this.rewind({ past: 0, states: this.noStates });
  }

  async close(): Promise<void> {
    await this.runtime.close();
  }

  /** Runs a method that puts `tokens` text tokens into the caches. */
  private async call(
    step: Step,
    inputs: Record<string, Numbers>,
    tokens: number,
    stop: Stop,
  ): Promise<ReadonlyMap<string, Numbers>> {
    const outputs = await this.run(step, { ...inputs, past: Int32Array.of(this.past) }, stop);
    if (!outputs.get("logits")!.every(Number.isFinite)) {
      throw new RuntimeFailure("The model returned numbers that are not finite: its weights or its graph are broken.");
    }
    if (this.manifest.kv.update === "in_place") this.keep(outputs);
    else this.store(step, outputs, tokens);
    const states = [...this.noStates.keys()].map((name): [string, Numbers] => [
      name,
      outputs.get(name.replace("_cache_", "_"))!,
    ]);
    this.reached = { past: this.past + tokens, states: new Map(states) };
    return outputs;
  }

  /** Runs a method on those of the inputs that it takes. */
  private async run(step: Step, given: Record<string, Numbers>, stop: Stop): Promise<ReadonlyMap<string, Numbers>> {
    const { inputs, outputs } = this.manifest.methods[step];
    const feeds = new Map(
      inputs.map(({ name, shape, dtype }): [string, Numbers] => {
        const empty = elements(shape) === 0; // the picture, in later steps
        return [name, empty ? none(dtype) : (this.caches.get(name) ?? this.reached.states.get(name) ?? given[name])];
      }),
    );
    stop.check();
    const made = await this.runtime.run(step, feeds, stop);
    stop.check();
    for (const { name, shape } of outputs) {
      const found = made.get(name)?.length ?? 0;
      if (found !== elements(shape)) {
        throw new RuntimeFailure(`The graph returned ${found} numbers of ${name}, not ${elements(shape)}.`);
      }
    }
    return made;
  }

  /** Takes what was returned as the caches of the next call. The weights of the vision tower stay: no call returns them. */
  private keep(outputs: ReadonlyMap<string, Numbers>): void {
    for (const [name, cache] of this.caches) this.caches.set(name, outputs.get(name.replace("_cache_", "_")) ?? cache);
  }

  /** Copies what was returned into the caches: of keys and values the rows of valid tokens, without padding's. */
  private store(step: Step, outputs: ReadonlyMap<string, Numbers>, tokens: number): void {
    this.manifest.kv.layers.forEach(({ kvHeads, headDim, base, slots, state }, number) => {
      if (state !== null) return;
      const first = step === "prefill" ? 0 : base + this.past;
      const count = step === "prefill" ? base + tokens : tokens;
      for (const kind of CACHE_KINDS) {
        const cache = this.caches.get(`${kind}_cache_${number}`)!;
        const rows = outputs.get(`${kind}_${number}`)!;
        const returned = rows.length / (kvHeads * headDim);
        for (let head = 0; head < kvHeads; head++) {
          const from = head * returned * headDim;
          cache.set(rows.subarray(from, from + count * headDim), (head * slots + first) * headDim);
        }
      }
    });
    if (step !== "prefill") return; // later calls leave weights as they are
    for (const stage of weighedStages(this.manifest)) {
      const bias = outputs.get(`${BIAS}_${stage}`); // that of the vision tower is there already
      if (bias !== undefined) this.caches.get(`${BIAS}_cache_${stage}`)!.set(bias);
    }
  }

  private bucket(ids: readonly number[]): Record<string, Numbers> {
    const { textLen, padId } = this.manifest.prompt;
    if (ids.length < 1 || ids.length > textLen) {
      throw new RangeError(`${ids.length} text tokens: this bundle takes 1 to ${textLen} at once`);
    }
    const padded = new Int32Array(textLen).fill(padId);
    padded.set(ids);
    return { ids: padded, text_len: Int32Array.of(ids.length) };
  }
}

function none(dtype: TensorSpec["dtype"]): Numbers {
  return dtype === "int32" ? new Int32Array() : new Float32Array();
}
