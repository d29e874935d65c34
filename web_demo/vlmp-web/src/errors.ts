/** Something that whoever uses the package can mend. Its message is one line for people. */
export abstract class VlmpError extends Error {
  override readonly name: string = "VlmpError";
}

/** What is wrong with a bundle: see "Check before you load" in docs/bundle.md. */
export type BundleProblem =
  | "unreadable"
  | "version"
  | "target"
  | "field"
  | "stages"
  | "tensors"
  | "name"
  | "unlisted"
  | "missing"
  | "size"
  | "hash"
  | "tokenizer"
  | "runtime";

/** A bundle that is not run. `kind` says which check refused it. */
export class BadBundle extends VlmpError {
  constructor(
    readonly kind: BundleProblem,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** No room for a bundle: it needs `neededBytes`, and may take `mostBytes`. */
export class TooLittleMemory extends VlmpError {
  constructor(
    readonly neededBytes: number,
    readonly mostBytes: number,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Why words are no question. control_token: the tokenizer makes a control token of plain text. no_text: half a
 * surrogate pair. no_token: the tokenizer has more tokens than the model.
 */
export type PromptProblem = "empty_prompt" | "prompt_too_long" | "control_token" | "no_text" | "no_token";

/** Words that are no question to this bundle. `tokens`, `most`: of a prompt that is too long, its tokens and the limit. */
export class BadPrompt extends VlmpError {
  constructor(
    readonly kind: PromptProblem,
    message: string,
    readonly tokens = 0,
    readonly most = 0,
  ) {
    super(message);
  }
}

/** size: more than 100 megapixels. shape: one side more than 200 times the other. */
export type PictureProblem = "size" | "shape" | "unreadable";

/** A photo that is refused. */
export class BadPicture extends VlmpError {
  constructor(
    readonly kind: PictureProblem,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** busy: another turn is running. */
export type TurnProblem = "no_image" | "full" | "limit" | "busy";

/** A call that does not fit the state of the chat; nothing has changed. `needed`, `most`: tokens, where they are why. */
export class BadTurn extends VlmpError {
  constructor(
    readonly kind: TurnProblem,
    message: string,
    readonly needed = 0,
    readonly most = 0,
  ) {
    super(message);
  }
}

/** The runtime failed in a call, or returned numbers that are none. The conversation is as it was before that call. */
export class RuntimeFailure extends VlmpError {}

/** A text from outside, as it may stand in a line: short, and without control characters. */
export function quoted(text: string): string {
  const short = text.length > 80 ? text.slice(0, 80) + "..." : text;
  return `'${Array.from(short, (character) => (isPlain(character) ? character : "?")).join("")}'`;
}

function isPlain(character: string): boolean {
  const point = character.codePointAt(0)!;
  return point >= 0x20 && (point < 0x7f || point > 0x9f) && (point < 0xd800 || point > 0xdfff) && !isLineBreak(point);
}

function isLineBreak(point: number): boolean {
  return point === 0x2028 || point === 0x2029;
}

/** The message of another library's error, as one line. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.split(/\s+/).filter(Boolean).join(" ").slice(0, 300);
}
