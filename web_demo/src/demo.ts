import type { Answer, BenchmarkSettings, Machine } from "vlmp-web";
import { type Client, type Listener, TaskError } from "./client.js";
import type { Compared, Photo, Progress, Source, StoredBundle } from "./protocol.js";

/** A question with what is there of its answer. `answer` is null until it is over. */
export interface Turn {
  readonly question: string;
  text: string;
  answer: Answer | null;
}

/** What the page is doing. stopping: a task was asked to end, and will within a token. */
export type Phase = "starting" | "ready" | "busy" | "stopping";

const LIMIT = 64; // tokens of an answer

/** All that the pages show, and all that they can ask for. One task at a time; others are refused meanwhile. */
export class Demo {
  phase: Phase = "starting";
  /** What went wrong last, null when nothing did. */
  problem: string | null = null;
  progress: Progress | null = null;
  /** Whether bundles stay when the page is closed. */
  keeps = true;
  bundles: readonly StoredBundle[] = [];
  photo: Photo | null = null;
  turns: Turn[] = [];
  /** The bundle that the turns are with. */
  asked: StoredBundle | null = null;
  compared: readonly Compared[] = [];
  /** The last benchmark, in the schema of vlmp-profile. */
  profile: object | null = null;
  private readonly listeners: (() => void)[] = [];

  constructor(private readonly client: Client) {}

  /** Calls a function after each change. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  get free(): boolean {
    return this.phase === "ready";
  }

  /** Whether a further question to this bundle goes to the same photo. */
  canReply(bundle: string): boolean {
    const [first, last] = [this.turns[0]?.answer, this.turns.at(-1)?.answer];
    const begun = first !== undefined && first !== null && first.tokens.length > 0; // else it has left no picture
    return begun && this.asked?.name === bundle && last?.end !== "full";
  }

  /** Opens the store, imports what comes with the page, and opens the first photo. */
  async start(shipped: readonly string[], photo: File): Promise<void> {
    await this.task(async (listener) => {
      const { keeps, bundles } = await this.client.start();
      this.keeps = keeps;
      this.bundles = bundles;
      this.photo = await this.client.do("photo", photo);
      for (const name of shipped.filter((each) => bundles.every((bundle) => bundle.name !== each))) {
        this.bundles = (await this.client.do("import", { kind: "shipped", name }, listener)) ?? this.bundles;
        this.changed();
      }
    }, "starting");
  }

  /** Takes another photo, which begins a new conversation. */
  choose(file: File): Promise<void> {
    return this.task(async () => {
      this.photo = await this.client.do("photo", file);
      this.compared = [];
      this.forget();
    });
  }

  /** Asks about the photo, or further where the conversation is with this bundle. */
  ask(bundle: string, words: string): Promise<void> {
    return this.task(async (listener) => {
      const follows = this.canReply(bundle);
      const chosen = this.bundle(bundle);
      if (!follows) this.forget();
      const turn: Turn = { question: words, text: "", answer: null };
      this.turns.push(turn);
      this.asked = chosen;
      const onText = (piece: string): void => {
        turn.text += piece;
        this.changed();
      };
      try {
        const limit = Math.min(LIMIT, chosen.manifest.prompt.maxNewTokens);
        const order = { bundle, words, limit, follows };
        turn.answer = await this.client.do("ask", order, { ...listener, onText });
        turn.text = turn.answer.text;
      } catch (error) {
        this.turns = this.turns.filter((other) => other !== turn);
        throw error;
      }
    });
  }

  /** The same question to each bundle in its turn. */
  compare(bundles: readonly string[], words: string): Promise<void> {
    return this.task(async (listener) => {
      this.forget();
      this.compared = [];
      const limit = Math.min(LIMIT, ...bundles.map((name) => this.bundle(name).manifest.prompt.maxNewTokens));
      this.compared = await this.client.do("compare", { bundles, words, limit }, listener);
    });
  }

  /** Times the bundles in turns. */
  measure(bundles: readonly string[], wanted: Omit<BenchmarkSettings, "photo">, machine: Machine): Promise<void> {
    return this.task(async (listener) => {
      this.forget();
      const most = Math.min(...bundles.map((name) => this.bundle(name).manifest.prompt.maxNewTokens));
      const decodeTokens = Math.min(wanted.decodeTokens, most);
      const settings: BenchmarkSettings = { ...wanted, decodeTokens, photo: this.photo?.name ?? "" };
      this.profile = (await this.client.do("measure", { bundles, settings, machine }, listener)) ?? this.profile;
    });
  }

  /** Copies a bundle into the store. */
  import(source: Source): Promise<void> {
    return this.task(async (listener) => {
      const bundles = await this.client.do("import", source, listener);
      this.bundles = bundles ?? this.bundles;
      if (bundles === null) this.problem = "The import was stopped; nothing of it is left.";
    });
  }

  delete(bundle: string): Promise<void> {
    return this.task(async () => {
      if (this.asked?.name === bundle) this.forget();
      this.bundles = await this.client.do("delete", bundle);
    });
  }

  /** Ends what is running: within a token, or at the next block of an import. */
  stop(): void {
    if (this.phase !== "busy") return;
    this.phase = "stopping";
    this.client.stop();
    this.changed();
  }

  /** Says something in the place where problems are told. */
  tell(problem: string): void {
    this.problem = problem;
    this.changed();
  }

  private bundle(name: string): StoredBundle {
    return this.bundles.find((bundle) => bundle.name === name)!;
  }

  private forget(): void {
    this.turns = [];
    this.asked = null;
  }

  /** Does something while nothing else can begin. Whatever it throws ends as a line. */
  private async task(act: (listener: Listener) => Promise<void>, phase: Phase = "busy"): Promise<void> {
    if (!this.free && phase !== "starting") return;
    this.phase = phase;
    this.problem = null;
    this.changed();
    const onProgress = (progress: Progress): void => {
      this.progress = progress;
      this.changed();
    };
    try {
      await act({ onProgress });
    } catch (error) {
      if (error instanceof TaskError && error.lost) this.forget();
      this.problem = error instanceof Error ? error.message : String(error);
    }
    this.phase = "ready";
    this.progress = null;
    this.changed();
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }
}
