import { quoted } from "./errors.js";
import { Field } from "./json.js";
import { codePoints, compose, toUtf8 } from "./unicode.js";
import { qwen2Words } from "./words.js";

/** Texts to ids and back. It changes nothing. */
export interface Tokenizer {
  /** Ids of a text in which added tokens are meant. */
  encode(text: string): number[];
  /** Ids of a text in which nothing is an added token. */
  encodeAsText(text: string): number[];
  /** The text of ids, without special tokens and what is no token. */
  decode(ids: readonly number[]): string;
  /** Id of an added token, undefined where there is none of this text. */
  addedId(text: string): number | undefined;
  /** Texts of the special tokens. */
  readonly specialTokens: readonly string[];
}

/**
 * Reads a tokenizer.json. `file` is named in messages.
 *
 * Throws BadBundle where it is none, or of a kind that would give other ids here: byte-level BPE with Qwen2's pattern is
 * the one that is known.
 */
export function parseTokenizer(text: string, file: string): Tokenizer {
  const root = Field.parse(text, file, "tokenizer");
  const composed = checkSettings(root);
  const model = root.at("model");
  const vocabulary = readVocabulary(model.at("vocab"));
  const merges = readMerges(model.at("merges"), vocabulary.ids);
  const byteIds = BYTE_CHARACTERS.map(
    (character, byte) => vocabulary.ids.get(character) ?? model.at("vocab").refuse(`has no token for byte ${byte}`),
  );
  const added = root
    .at("added_tokens")
    .items()
    .map((field) => readAdded(field, vocabulary));
  return new ByteLevelBpe(composed, byteIds, merges, vocabulary.tokens, added);
}

interface Token {
  readonly bytes: Uint8Array;
  readonly special: boolean;
}

interface Added {
  readonly text: string;
  readonly id: number;
  readonly special: boolean;
}

interface Vocabulary {
  readonly ids: Map<string, number>;
  readonly tokens: Map<number, Token>;
}

/** Of a pair: its rank, and the id of what it becomes. */
interface Merge {
  readonly rank: number;
  readonly id: number;
}

class ByteLevelBpe implements Tokenizer {
  readonly specialTokens: readonly string[];
  private readonly addedIds: Map<string, number>;
  /** By their first character, the longest first. */
  private readonly addedAt: Map<string, Added[]>;

  constructor(
    private readonly composed: boolean,
    private readonly byteIds: readonly number[],
    private readonly merges: Map<number, Merge>,
    private readonly tokens: Map<number, Token>,
    added: readonly Added[],
  ) {
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
    const parts = ids.map((id) => this.tokens.get(id)).filter((token) => token !== undefined && !token.special);
    const bytes = new Uint8Array(parts.reduce((sum, token) => sum + token!.bytes.length, 0));
    let place = 0;
    for (const token of parts) {
      bytes.set(token!.bytes, place);
      place += token!.bytes.length;
    }
    // By the Encoding standard, broken UTF-8 becomes U+FFFD as docs/bundle.md wants it, in all browsers alike.
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  private encodePlain(text: string, ids: number[]): void {
    const points = codePoints(text);
    for (const word of qwen2Words(this.composed ? compose(points) : points)) this.encodeWord(toUtf8(word), ids);
  }

  /** Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long. */
  private encodeWord(bytes: Uint8Array, ids: number[]): void {
    const symbols = Array.from(bytes, (byte) => this.byteIds[byte]); // -1: merged into its left neighbour
    const before = symbols.map((_, place) => place - 1);
    const after = symbols.map((_, place) => place + 1);
    const candidates = new Heap();
    const mergeAt = (left: number): Merge | undefined =>
      left >= 0 && after[left] < symbols.length
        ? this.merges.get(pair(symbols[left], symbols[after[left]]))
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

const PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const MODEL_SETTINGS = [
  "dropout",
  "unk_token",
  "continuing_subword_prefix",
  "end_of_word_suffix",
  "byte_fallback",
  "ignore_merges",
];
const ADDED_SETTINGS = ["single_word", "lstrip", "rstrip", "normalized"];

/** Throws BadBundle unless all but the vocabulary is as Qwen2 has it. Returns whether text is composed (NFC). */
function checkSettings(root: Field): boolean {
  const model = root.at("model");
  if (model.has("type")) model.at("type").choice("BPE");
  for (const name of MODEL_SETTINGS) model.mustNotHave(name);
  root.at("pre_tokenizer").at("type").choice("Sequence");
  const steps = root.at("pre_tokenizer").at("pretokenizers").items();
  if (steps.length !== 2) root.at("pre_tokenizer").refuse("must be a split and a byte level step");
  const [split, byteLevel] = steps;
  split.at("type").choice("Split");
  split.at("pattern").mustBe({ Regex: PATTERN });
  split.at("behavior").choice("Isolated");
  split.at("invert").mustBe(false);
  byteLevel.at("type").choice("ByteLevel");
  byteLevel.at("add_prefix_space").mustBe(false);
  byteLevel.at("use_regex").mustBe(false);
  root.at("decoder").at("type").choice("ByteLevel");
  if (!root.has("normalizer")) return false;
  root.at("normalizer").at("type").choice("NFC");
  return true;
}

function readVocabulary(field: Field): Vocabulary {
  const ids = new Map<string, number>();
  const tokens = new Map<number, Token>();
  for (const [text, value] of field.entries()) {
    const id = value.integer(0);
    if (tokens.has(id)) value.refuse("is another token's id, too");
    tokens.set(id, { bytes: bytesOf(text), special: false });
    ids.set(text, id);
  }
  return { ids, tokens };
}

function readMerges(field: Field, ids: Map<string, number>): Map<number, Merge> {
  const idOf = (token: string, place: Field): number =>
    ids.get(token) ?? place.refuse(`needs token ${quoted(token)}, which is not in the vocabulary`);
  return new Map(
    field.items().map((item, rank) => {
      const [left, right] = mergeParts(item);
      return [pair(idOf(left, item), idOf(right, item)), { rank, id: idOf(left + right, item) }];
    }),
  );
}

/** Two parts of a merge: a list or, in older files, with a space between them. */
function mergeParts(field: Field): string[] {
  const parts = field.isText ? field.text().split(" ") : field.items().map((part) => part.text());
  return parts.length === 2 ? parts : field.refuse("must be two tokens");
}

function readAdded(field: Field, { ids, tokens }: Vocabulary): Added {
  for (const flag of ADDED_SETTINGS) field.mustNotHave(flag);
  const text = field.at("content").text() || field.at("content").refuse("is empty");
  const id = field.at("id").integer(0);
  const known = ids.get(text);
  if (known === undefined ? tokens.has(id) : known !== id) field.at("id").refuse("is not the token's own");
  const special = field.at("special").boolean();
  ids.set(text, id);
  tokens.set(id, { bytes: bytesOf(text), special });
  return { text, id, special };
}

/** The printable character that stands for each byte: itself, or one from U+0100 on. */
const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
})();

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** What a token stands for; one with a character that stands for no byte is taken as it is. */
function bytesOf(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => BYTES.get(character));
  return bytes.includes(undefined) ? toUtf8(codePoints(token)) : Uint8Array.from(bytes as number[]);
}

function pair(left: number, right: number): number {
  return left * 2 ** 25 + right;
}

/** The text of an answer, piece by piece: no character of which bytes are still to come. */
export class TextStream {
  /** All that was handed out. */
  shown = "";

  constructor(private readonly tokenizer: Tokenizer) {}

  /** What is new with all tokens so far, empty where nothing is. Once it has ended, nothing is held back. */
  next(tokens: readonly number[], ended: boolean): string {
    const text = this.tokenizer.decode(tokens);
    if (text.length <= this.shown.length || (!ended && text.endsWith("\uFFFD"))) return "";
    const piece = text.slice(this.shown.length);
    this.shown = text;
    return piece;
  }
}
