import { codePoints, compose, toUtf8 } from "./unicode.js";
import { words } from "./words.js";
import { gpt2Words } from "./words-gpt2.js";

/** Texts to ids and back. It changes nothing. */
export interface Tokenizer {
  /** Ids of a text in which added tokens are meant. */
  encode(text: string): number[];
  /** Ids of a text in which nothing is an added token. */
  encodeAsText(text: string): number[];
  /** The text of ids, without special tokens and what is no token. */
  decode(ids: readonly number[]): string;
  /** Whether the last of what `decode` shows is a single byte, which the next ones may make part of a character. */
  endsInByte(ids: readonly number[]): boolean;
  /** Id of an added token, undefined where there is none of this text. */
  addedId(text: string): number | undefined;
  /** Texts of the special tokens. */
  readonly specialTokens: readonly string[];
}

/** What of a tokenizer.json is not its vocabulary. */
export interface Settings {
  /** characters: the vocabulary is of characters, and a text is one word. The others are of bytes: how words are cut. */
  readonly kind: "characters" | "qwen2" | "llama3" | "gpt2";
  /** To NFC first. */
  readonly compose: boolean;
  /** A word of the vocabulary is one token, whatever merges say. */
  readonly wholeWords: boolean;
  /** Decoding drops a space at the beginning. */
  readonly strip: boolean;
}

/** The vocabulary of a tokenizer.json. */
export interface Vocabulary {
  /** Ids by what the file says, without added tokens. */
  readonly ids: ReadonlyMap<string, number>;
  /** Ids of single bytes. */
  readonly byteIds: readonly number[];
  readonly tokens: ReadonlyMap<number, Token>;
  /** By `mergeKey`. */
  readonly merges: ReadonlyMap<number, Merge>;
  readonly added: readonly Added[];
}

/** isByte: it is one byte in a vocabulary of characters. */
export interface Token {
  readonly bytes: Uint8Array;
  readonly special: boolean;
  readonly isByte: boolean;
}

/** Of a pair: its rank, and the id of what it becomes. */
export interface Merge {
  readonly rank: number;
  readonly id: number;
}

export interface Added {
  readonly text: string;
  readonly id: number;
  readonly special: boolean;
}

/** What stands for a space in a vocabulary of characters. */
export const LINE = "\u2581";

/** The printable character that stands for each byte in the others: itself, or one from U+0100 on. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
})();

/** Two ids as a key. */
export function mergeKey(left: number, right: number): number {
  return left * 2 ** 25 + right;
}

/** Byte pair encoding, as bundles carry it. */
export class Bpe implements Tokenizer {
  readonly specialTokens: readonly string[];
  private readonly addedIds: Map<string, number>;
  /** By their first character, the longest first. */
  private readonly addedAt: Map<string, Added[]>;

  constructor(
    private readonly settings: Settings,
    private readonly vocabulary: Vocabulary,
  ) {
    const { added } = vocabulary;
    this.specialTokens = added.filter((token) => token.special).map((token) => token.text);
    this.addedIds = new Map(added.map((token) => [token.text, token.id]));
    this.addedAt = new Map();
    for (const token of [...added].sort((one, other) => other.text.length - one.text.length)) {
      this.addedAt.set(token.text[0], [...(this.addedAt.get(token.text[0]) ?? []), token]);
    }
  }

  addedId(text: string): number | undefined {
    return this.addedIds.get(text);
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    let plain = 0; // begin of what is not encoded yet
    let place = 0;
    while (place < text.length) {
      const token = this.addedAt.get(text[place])?.find((added) => text.startsWith(added.text, place));
      if (token === undefined) {
        place++;
        continue;
      }
      this.encodePlain(text.slice(plain, place), ids);
      ids.push(token.id);
      place += token.text.length;
      plain = place;
    }
    this.encodePlain(text.slice(plain), ids);
    return ids;
  }

  encodeAsText(text: string): number[] {
    const ids: number[] = [];
    this.encodePlain(text, ids);
    return ids;
  }

  decode(ids: readonly number[]): string {
    const shown = ids.flatMap((id) => this.shown(id) ?? []);
    if (this.settings.kind !== "characters") return fromUtf8(shown);
    const text = runs(shown).map(decodedRun).join("");
    return this.settings.strip && text.startsWith(" ") ? text.slice(1) : text;
  }

  endsInByte(ids: readonly number[]): boolean {
    const last = ids.findLast((id) => this.shown(id) !== undefined);
    return last !== undefined && this.shown(last)!.isByte;
  }

  /** Undefined where it is left out of a text. */
  private shown(id: number): Token | undefined {
    const token = this.vocabulary.tokens.get(id);
    return token?.special ? undefined : token;
  }

  private encodePlain(text: string, ids: number[]): void {
    const points = codePoints(text);
    if (this.settings.kind === "characters") this.merge(this.characters(points), ids);
    else for (const word of this.split(points)) this.encodeWord(toUtf8(word), ids);
  }

  private split(points: number[]): number[][] {
    const composed = this.settings.compose ? compose(points) : points;
    if (this.settings.kind === "gpt2") return gpt2Words(composed);
    return words(composed, this.settings.kind === "llama3" ? 3 : 1);
  }

  private encodeWord(bytes: Uint8Array, ids: number[]): void {
    const whole = this.settings.wholeWords ? this.vocabulary.ids.get(inCharacters(bytes)) : undefined;
    if (whole !== undefined) ids.push(whole);
    else this.merge(this.single(bytes), ids);
  }

  private single(bytes: Uint8Array): number[] {
    return Array.from(bytes, (byte) => this.vocabulary.byteIds[byte]);
  }

  /** Ids of single characters, and of the bytes of those that are not in the vocabulary. */
  private characters(points: readonly number[]): number[] {
    return points.flatMap((point) => {
      const character = String.fromCodePoint(point);
      return this.vocabulary.ids.get(character === " " ? LINE : character) ?? this.single(toUtf8([point]));
    });
  }

  /**
   * Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long. Of
   * `symbols` it makes -1 what was merged into its left neighbour.
   */
  private merge(symbols: number[], ids: number[]): void {
    const before = symbols.map((_, place) => place - 1);
    const after = symbols.map((_, place) => place + 1);
    const candidates = new Heap();
    const mergeAt = (left: number): Merge | undefined =>
      left >= 0 && after[left] < symbols.length
        ? this.vocabulary.merges.get(mergeKey(symbols[left], symbols[after[left]]))
        : undefined;
    const consider = (left: number): void => {
      const merge = mergeAt(left);
      if (merge !== undefined) candidates.add(merge.rank * PLACES + left);
    };
    symbols.forEach((_, left) => consider(left));
    for (let best = candidates.take(); best !== undefined; best = candidates.take()) {
      const left = best % PLACES;
      if (symbols[left] < 0) continue;
      const merge = mergeAt(left);
      if (merge === undefined || merge.rank !== (best - left) / PLACES) continue; // a neighbour has been merged since
      const right = after[left];
      symbols[left] = merge.id;
      symbols[right] = -1;
      after[left] = after[right];
      if (after[left] < symbols.length) before[after[left]] = left;
      consider(before[left]);
      consider(left);
    }
    for (const symbol of symbols) if (symbol >= 0) ids.push(symbol);
  }
}

const PLACES = 2 ** 28; // a word is shorter: a candidate is rank * PLACES + place, so that numbers sort as wanted

/** Numbers, of which the smallest is taken first. */
class Heap {
  private readonly numbers: number[] = [];

  add(number: number): void {
    const { numbers } = this;
    let place = numbers.length;
    numbers.push(number);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (numbers[parent] <= number) break;
      numbers[place] = numbers[parent];
      place = parent;
    }
    numbers[place] = number;
  }

  take(): number | undefined {
    const { numbers } = this;
    const smallest = numbers[0];
    const last = numbers.pop();
    if (last === undefined || numbers.length === 0) return smallest;
    let place = 0;
    while (true) {
      let child = 2 * place + 1;
      if (child + 1 < numbers.length && numbers[child + 1] < numbers[child]) child++;
      if (child >= numbers.length || numbers[child] >= last) break;
      numbers[place] = numbers[child];
      place = child;
    }
    numbers[place] = last;
    return smallest;
  }
}

/** Bytes as a vocabulary writes them. */
function inCharacters(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => BYTE_CHARACTERS[byte]).join("");
}

/** Tokens that follow one another, cut where those of single bytes begin and end. */
function runs(tokens: readonly Token[]): Token[][] {
  const found: Token[][] = [];
  for (const token of tokens) {
    const last = found.at(-1);
    if (last?.[0].isByte === token.isByte) last.push(token);
    else found.push([token]);
  }
  return found;
}

/** A run of single bytes is characters as a whole, or each of them is broken. */
function decodedRun(run: readonly Token[]): string {
  try {
    return fromUtf8(run, true);
  } catch {
    return "\uFFFD".repeat(run.length);
  }
}

/**
 * By the Encoding standard, broken UTF-8 becomes U+FFFD as docs/bundle.md wants it, in all browsers alike. strict: it
 * throws TypeError.
 */
function fromUtf8(tokens: readonly Token[], strict = false): string {
  const bytes = new Uint8Array(tokens.reduce((sum, token) => sum + token.bytes.length, 0));
  let place = 0;
  for (const token of tokens) {
    bytes.set(token.bytes, place);
    place += token.bytes.length;
  }
  return new TextDecoder("utf-8", { fatal: strict, ignoreBOM: true }).decode(bytes);
}

/** The text of an answer, piece by piece: no character of which bytes are still to come. */
export class TextStream {
  /** All that was handed out. */
  shown = "";

  constructor(private readonly tokenizer: Tokenizer) {}

  /** What is new with all tokens so far, empty where nothing is. Once it has ended, nothing is held back. */
  next(tokens: readonly number[], ended: boolean): string {
    const text = this.tokenizer.decode(tokens);
    const waits = !ended && (text.endsWith("\uFFFD") || this.tokenizer.endsInByte(tokens));
    if (waits || text.length <= this.shown.length) return "";
    const piece = text.slice(this.shown.length);
    this.shown = text;
    return piece;
  }
}
