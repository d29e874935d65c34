import type { FromWorker, Order, Progress, Surroundings, TaskName, Tasks, ToWorker } from "./protocol.js";

/** What a task tells while it runs. */
export interface Listener {
  onProgress?(progress: Progress): void;
  onText?(piece: string): void;
}

interface Waiting extends Listener {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A task that failed. Its message is one line for people. `lost`: nothing is loaded any more, the conversation is over. */
export class TaskError extends Error {
  constructor(
    message: string,
    readonly lost: boolean,
  ) {
    super(message);
  }
}

/**
 * The worker, as the page calls it: tasks are done one after the other. One that breaks down, as for want of memory,
 * fails its tasks; the next task gets a new one with the same photo.
 */
export class Client {
  private worker: Worker | null = null;
  private photo: File | null = null;
  private waiting = new Map<number, Waiting>();
  private numbers = 0;

  constructor(private readonly surroundings: Surroundings) {}

  /** Opens the store, and says what is there. */
  start(): Promise<Tasks["start"]["gives"]> {
    this.worker = this.newWorker();
    return this.send("start", this.surroundings, {});
  }

  /** Does a task. Rejects with TaskError. */
  do<Name extends TaskName>(
    task: Name,
    takes: Tasks[Name]["takes"],
    listener: Listener = {},
  ): Promise<Tasks[Name]["gives"]> {
    if (this.worker === null) {
      this.start().catch(() => {}); // then the task fails, too
      if (this.photo !== null && task !== "photo") this.send("photo", this.photo, {}).catch(() => {});
    }
    if (task === "photo") this.photo = takes as File;
    return this.send(task, takes, listener);
  }

  /** Lets the task that runs end early. */
  stop(): void {
    this.tell("stop");
  }

  private send<Name extends TaskName>(
    task: Name,
    takes: Tasks[Name]["takes"],
    listener: Listener,
  ): Promise<Tasks[Name]["gives"]> {
    const number = this.numbers++;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { ...listener, resolve: resolve as (value: unknown) => void, reject });
      this.tell({ number, task, takes } as Order);
    });
  }

  private tell(what: ToWorker): void {
    this.worker?.postMessage(what);
  }

  private newWorker(): Worker {
    const worker = new Worker(new URL("./worker/main.ts", import.meta.url), { type: "module", name: "vlmp" });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.hear(data);
    worker.onerror = (event) => this.breakDown(event.message || "it could not be started");
    return worker;
  }

  private hear(told: FromWorker): void {
    const task = this.waiting.get(told.number);
    if (task === undefined) return;
    if (told.kind === "progress") return task.onProgress?.(told.progress);
    if (told.kind === "text") return task.onText?.(told.piece);
    this.waiting.delete(told.number);
    if (told.kind === "done") task.resolve(told.value);
    else task.reject(new TaskError(told.message, told.lost));
  }

  private breakDown(message: string): void {
    this.worker?.terminate();
    this.worker = null;
    const failed = [...this.waiting.values()];
    this.waiting.clear();
    for (const task of failed) task.reject(new TaskError(`What computes has broken down: ${message}`, true));
  }
}
