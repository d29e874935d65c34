import { BadTurn } from "./errors.js";
import { type Picture, toPixels } from "./picture.js";
import { checkWords, encodePrompt } from "./prompt.js";
import { Stop, Stopped } from "./runtime.js";
import { GREEDY, type Sampler } from "./sampler.js";
import type { Prefilled, Session } from "./session.js";
import { TextStream, type Tokenizer } from "./tokenizer.js";

/** Why an answer ended: an end token, the limit, full caches, or somebody's `stop`. */
export type End = "finished" | "limit" | "full" | "stopped";

/**
 * One turn. `tokens` with the end token, if one came; none if it was stopped before the first one.
 *
 * `stages`: visual tokens that each stage has kept, ascending; the last is what is left. `order`: the last stage's as
 * they were chosen. Later turns have none of both.
 */
export interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly end: End;
  readonly stages: readonly (readonly number[])[];
  readonly order: readonly number[];
  readonly timings: Timings;
}

/** Where the time went, in milliseconds; 0 of what did not happen. `prefillMs` of a later turn is that of `extend`. */
export interface Timings {
  readonly preprocessMs: number;
  readonly visionMs: number;
  readonly prefillMs: number;
  /** One for each token after the first. */
  readonly decodeMs: readonly number[];
}

/** From the photo to the first token, without loading. */
export function firstTokenMs(timings: Timings): number {
  return timings.preprocessMs + timings.visionMs + timings.prefillMs;
}

export interface TurnOptions {
  /** Most tokens of the answer; the bundle's own limit unless given. */
  readonly limit?: number | undefined;
  /** Such tokens in the words are meant; otherwise all of it is text. */
  readonly controlTokens?: boolean | undefined;
  readonly sampler?: Sampler | undefined;
  /** Ends the turn, as `Chat.stop` does. */
  readonly stop?: Stop | undefined;
  /** Gets the answer piece by piece. */
  readonly onText?: ((piece: string) => void) | undefined;
}

/**
 * Questions about a picture, and answers: the host loop of docs/bundle.md.
 *
 * One turn at a time; `stop` may be called meanwhile. A turn that is refused changes nothing. `clock`: milliseconds.
 */
export class Chat {
  private running: Stop | null = null; // of the turn that runs
  private unfedToken: number | null = null;

  constructor(
    readonly session: Session,
    private readonly tokenizer: Tokenizer,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  /** Last token of the answer, where the caches do not hold it yet. */
  get unfed(): number | null {
    return this.unfedToken;
  }

  /**
   * Answers a question about a picture, which starts a conversation. Stopped before its first token, it leaves no picture.
   *
   * Throws BadPrompt, BadPicture, BadTurn, RuntimeFailure.
   */
  ask(picture: Picture, words: string, options: TurnOptions = {}): Promise<Answer> {
    return this.turn(options, async (telling, stop) => {
      telling.limit = this.checkedLimit(options.limit);
      const { manifest } = this.session;
      const ids = this.firstIds(words, options.controlTokens);
      try {
        const pixels = await telling.time("preprocess", async () => toPixels(picture, manifest.image));
        const seen = await telling.time("vision", () => this.session.vision(pixels, stop));
        this.unfedToken = null;
        const prefilled = await telling.time("prefill", () => this.session.prefill(ids, seen, stop));
        telling.prefilled = prefilled;
        await this.decode(telling, prefilled.logits, stop);
      } catch (error) {
        if (!(error instanceof Stopped)) throw error;
        if (telling.tokens.length === 0) this.reset();
      }
      return telling.answer();
    });
  }

  /**
   * Answers a further question about the same picture. Stopped before its first token, it leaves the conversation as it
   * was. Throws as `ask` does.
   */
  reply(words: string, options: TurnOptions = {}): Promise<Answer> {
    return this.turn(options, async (telling, stop) => {
      if (this.session.past === 0) this.session.checkRoom(1);
      checkWords(words);
      telling.limit = this.checkedLimit(options.limit);
      const { manifest } = this.session;
      const { following, textLen, endTextId } = manifest.prompt;
      const own = encodePrompt(this.tokenizer, manifest, following, words, textLen - 1, options.controlTokens ?? false);
      const ids = [endTextId, ...own];
      const before = { progress: this.session.progress, unfed: this.unfedToken };
      this.session.checkRoom(ids.length + (before.unfed === null ? 0 : 1));
      try {
        const logits = await telling.time("prefill", async () => {
          if (before.unfed !== null) await this.session.decode(before.unfed, stop);
          this.unfedToken = null;
          return this.session.extend(ids, stop);
        });
        await this.decode(telling, logits, stop);
      } catch (error) {
        if (!(error instanceof Stopped)) throw error;
      } finally {
        if (telling.tokens.length === 0) {
          this.session.rewind(before.progress);
          this.unfedToken = before.unfed;
        }
      }
      return telling.answer();
    });
  }

  /** What a first question feeds after the picture. Throws BadPrompt. */
  firstIds(words: string, controlTokens = false): number[] {
    checkWords(words);
    const { manifest } = this.session;
    const { first, textLen } = manifest.prompt;
    return encodePrompt(this.tokenizer, manifest, first, words, textLen, controlTokens);
  }

  /** Ends the turn that runs, within a token: it returns what it has so far. Without a turn it does nothing. */
  stop(): void {
    this.running?.ask();
  }

  /** Forgets the conversation. */
  reset(): void {
    this.session.reset();
    this.unfedToken = null;
  }

  private async turn(options: TurnOptions, run: (telling: Telling, stop: Stop) => Promise<Answer>): Promise<Answer> {
    if (this.running !== null) {
      throw new BadTurn("busy", "Another question is being answered: wait for it, or stop it.");
    }
    const stop = options.stop ?? new Stop();
    this.running = stop;
    try {
      return await run(new Telling(new TextStream(this.tokenizer), this.clock, options), stop);
    } finally {
      this.running = null;
    }
  }

  /** From the logits of the first token to the last token. */
  private async decode(telling: Telling, first: Float32Array, stop: Stop): Promise<void> {
    let logits = first;
    while (true) {
      const token = telling.sampler.sample(logits);
      telling.tokens.push(token);
      const isEnd = this.session.manifest.prompt.endIds.includes(token);
      this.unfedToken = isEnd ? null : token;
      if (isEnd) telling.end = "finished";
      else if (telling.tokens.length === telling.limit) telling.end = "limit";
      else if (this.session.room === 0) telling.end = "full";
      const ended = telling.end !== "stopped";
      telling.show(ended);
      if (ended || stop.asked) return;
      logits = await telling.time("decode", () => this.session.decode(token, stop));
    }
  }

  private checkedLimit(limit: number | undefined): number {
    const most = this.session.manifest.prompt.maxNewTokens;
    if (limit !== undefined && !(Number.isInteger(limit) && limit >= 1 && limit <= most)) {
      throw new BadTurn("limit", `An answer of ${limit} tokens: this bundle allows 1 to ${most}.`, 0, most);
    }
    return limit ?? most;
  }
}

type Lap = "preprocess" | "vision" | "prefill" | "decode";

/** An answer that is on its way. */
class Telling {
  readonly tokens: number[] = [];
  readonly sampler: Sampler;
  end: End = "stopped"; // until another reason comes
  limit = 0;
  prefilled: Prefilled | null = null;
  private readonly laps: Record<Lap, number[]> = { preprocess: [], vision: [], prefill: [], decode: [] };

  constructor(
    private readonly text: TextStream,
    private readonly clock: () => number,
    private readonly options: TurnOptions,
  ) {
    this.sampler = options.sampler ?? GREEDY;
  }

  async time<Made>(lap: Lap, call: () => Promise<Made>): Promise<Made> {
    const start = this.clock();
    const made = await call();
    this.laps[lap].push(this.clock() - start);
    return made;
  }

  show(ended: boolean): void {
    const piece = this.text.next(this.tokens, ended);
    if (piece !== "") this.options.onText?.(piece);
  }

  answer(): Answer {
    this.show(true);
    const sum = (lap: Lap): number => this.laps[lap].reduce((all, ms) => all + ms, 0);
    return {
      text: this.text.shown,
      tokens: this.tokens,
      end: this.end,
      stages: this.prefilled?.stages ?? [],
      order: this.prefilled?.order ?? [],
      timings: {
        preprocessMs: sum("preprocess"),
        visionMs: sum("vision"),
        prefillMs: sum("prefill"),
        decodeMs: this.laps.decode,
      },
    };
  }
}
