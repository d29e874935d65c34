import { quoted } from "./errors.js";
import { Field } from "./json.js";
import {
  type Added,
  Bpe,
  BYTE_CHARACTERS,
  LINE,
  type Merge,
  mergeKey,
  type Settings,
  type Token,
  type Tokenizer,
} from "./tokenizer.js";
import { codePoints, toUtf8 } from "./unicode.js";

const MODEL_SETTINGS = ["dropout", "continuing_subword_prefix", "end_of_word_suffix"];
const ADDED_SETTINGS = ["single_word", "lstrip", "rstrip", "normalized"];
const QWEN2 = pattern("\\p{N}");
const LLAMA3 = pattern("\\p{N}{1,3}");

type Meaning = (text: string, special: boolean) => Token;

/**
 * Reads a tokenizer.json. `file` is named in messages.
 *
 * Throws BadBundle where it is none, or of no kind that docs/bundle.md names, which would give other ids.
 */
export function parseTokenizer(text: string, file: string): Tokenizer {
  const root = Field.parse(text, file, "tokenizer");
  const settings = readSettings(root);
  const ofCharacters = settings.kind === "characters";
  const meaning = ofCharacters ? characterToken : byteLevelToken;
  const model = root.at("model");
  const { ids, tokens } = readVocabulary(model.at("vocab"), meaning);
  const byteIds = BYTE_CHARACTERS.map(
    (character, byte) =>
      ids.get(ofCharacters ? byteName(byte) : character) ?? model.at("vocab").refuse(`has no token for byte ${byte}`),
  );
  const merges = readMerges(model.at("merges"), ids);
  const added = readAdded(root.at("added_tokens"), ids, tokens, meaning);
  return new Bpe(settings, { ids, byteIds, tokens, merges, added });
}

/** Throws BadBundle unless all but the vocabulary is as one of the known kinds has it. */
function readSettings(root: Field): Settings {
  const model = root.at("model");
  if (model.has("type")) model.at("type").choice("BPE");
  for (const name of MODEL_SETTINGS) model.mustNotHave(name);
  if (model.has("byte_fallback") && model.at("byte_fallback").boolean()) {
    model.mustNotHave("ignore_merges");
    return { kind: "characters", compose: false, wholeWords: false, strip: readCharacters(root) };
  }
  const wholeWords = model.has("ignore_merges") && model.at("ignore_merges").boolean();
  const kind = readSplit(root.at("pre_tokenizer"));
  root.at("decoder").at("type").choice("ByteLevel");
  const compose = root.has("normalizer");
  if (compose) root.at("normalizer").at("type").choice("NFC");
  return { kind, compose, wholeWords, strip: false };
}

/** Of a vocabulary of characters. Returns whether decoding drops a space at the beginning. */
function readCharacters(root: Field): boolean {
  if (root.has("pre_tokenizer")) root.at("pre_tokenizer").refuse("must be null where there are tokens of bytes");
  root.at("normalizer").mustBe({ type: "Replace", pattern: { String: " " }, content: LINE });
  const decoder = root.at("decoder");
  decoder.at("type").choice("Sequence");
  const steps = decoder.at("decoders").items();
  if (steps.length < 3 || steps.length > 4) decoder.refuse("must have three or four steps");
  steps[0].mustBe({ type: "Replace", pattern: { String: LINE }, content: " " });
  steps[1].at("type").choice("ByteFallback");
  steps[2].at("type").choice("Fuse");
  steps[3]?.mustBe({ type: "Strip", content: " ", start: 1, stop: 0 });
  return steps.length === 4;
}

/** How words are cut. */
function readSplit(field: Field): Settings["kind"] {
  field.at("type").choice("Sequence");
  const steps = field.at("pretokenizers").items();
  if (steps.length !== 2) field.refuse("must be a split and a byte level step");
  const [split, byteLevel] = steps;
  const byDigits = split.at("type").choice("Split", "Digits") === "Digits";
  byteLevel.at("type").choice("ByteLevel");
  byteLevel.at("add_prefix_space").mustBe(false);
  byteLevel.at("use_regex").mustBe(byDigits);
  if (byDigits) {
    split.at("individual_digits").mustBe(true);
    return "gpt2";
  }
  split.at("behavior").choice("Isolated");
  split.at("invert").mustBe(false);
  return split.at("pattern").at("Regex").choice(QWEN2, LLAMA3) === LLAMA3 ? "llama3" : "qwen2";
}

/** Qwen2's and Llama 3's, which differ in how many digits are a word. */
function pattern(digits: string): string {
  return (
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|` +
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  );
}

function readVocabulary(field: Field, meaning: Meaning): { ids: Map<string, number>; tokens: Map<number, Token> } {
  const ids = new Map<string, number>();
  const tokens = new Map<number, Token>();
  for (const [text, value] of field.entries()) {
    const id = value.integer(0);
    if (tokens.has(id)) value.refuse("is another token's id, too");
    tokens.set(id, meaning(text, false));
    ids.set(text, id);
  }
  return { ids, tokens };
}

function readMerges(field: Field, ids: ReadonlyMap<string, number>): Map<number, Merge> {
  const idOf = (token: string, place: Field): number =>
    ids.get(token) ?? place.refuse(`needs token ${quoted(token)}, which is not in the vocabulary`);
  return new Map(
    field.items().map((item, rank) => {
      const [left, right] = mergeParts(item);
      return [mergeKey(idOf(left, item), idOf(right, item)), { rank, id: idOf(left + right, item) }];
    }),
  );
}

/** Two parts of a merge: a list or, in older files, with a space between them. */
function mergeParts(field: Field): string[] {
  const parts = field.isText ? field.text().split(" ") : field.items().map((part) => part.text());
  return parts.length === 2 ? parts : field.refuse("must be two tokens");
}

/** Added tokens, which become part of `tokens`. */
function readAdded(
  field: Field,
  ids: ReadonlyMap<string, number>,
  tokens: Map<number, Token>,
  meaning: Meaning,
): Added[] {
  const addedIds = new Map<string, number>();
  return field.items().map((item) => {
    for (const flag of ADDED_SETTINGS) item.mustNotHave(flag);
    const text = item.at("content").text() || item.at("content").refuse("is empty");
    const id = item.at("id").integer(0);
    const known = ids.get(text) ?? addedIds.get(text);
    if (known === undefined ? tokens.has(id) : known !== id) item.at("id").refuse("is not the token's own");
    const special = item.at("special").boolean();
    addedIds.set(text, id);
    tokens.set(id, meaning(text, special));
    return { text, id, special };
  });
}

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** In a vocabulary of bytes; a token with a character that stands for no byte is taken as it is. */
function byteLevelToken(text: string, special: boolean): Token {
  const bytes = Array.from(text, (character) => BYTES.get(character));
  const known = !bytes.includes(undefined);
  return { bytes: known ? Uint8Array.from(bytes as number[]) : utf8(text), special, isByte: false };
}

/** In a vocabulary of characters, where some stand for single bytes. */
function characterToken(text: string, special: boolean): Token {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(text);
  return byte === null
    ? { bytes: utf8(text.replaceAll(LINE, " ")), special, isByte: false }
    : { bytes: Uint8Array.of(parseInt(byte[1], 16)), special, isByte: true };
}

/** The token of a byte in a vocabulary of characters. */
function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

function utf8(text: string): Uint8Array {
  return toUtf8(codePoints(text));
}
