import type { Step } from "./manifest.js";

/** Numbers of a tensor, row after row. */
export type Numbers = Float32Array | Int32Array;

/**
 * What runs the graphs of one bundle, of the shapes and dtypes that its manifest says. One call at a time. It keeps
 * nothing between calls: caches come in and go out as other tensors do.
 */
export interface Runtime {
  /** Name and version, for people: `onnxruntime-web 1.30.0`. */
  readonly name: string;

  /**
   * Runs a method on all its inputs, by name. Returns all its outputs.
   *
   * Throws RuntimeFailure, and Stopped where it could end the call.
   */
  run(step: Step, inputs: ReadonlyMap<string, Numbers>, stop: Stop): Promise<ReadonlyMap<string, Numbers>>;

  /** Frees its memory. */
  close(): Promise<void>;
}

/** A call of a turn that was asked to stop. What the caches hold is as it was before. */
export class Stopped extends Error {
  constructor() {
    super("stopped");
  }
}

/** By which anybody may end one turn's calls at any time. */
export class Stop {
  /** Whether somebody has asked. */
  asked = false;

  /** Lets the call that runs throw Stopped when it is over, and all later ones. */
  ask(): void {
    this.asked = true;
  }

  /** Throws Stopped if somebody has asked. */
  check(): void {
    if (this.asked) throw new Stopped();
  }
}
