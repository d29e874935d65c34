// Each number alone, then GPT-2's pattern over what stands between them, matched by hand:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Its third alternative never has anything to match then.
import { isLetter, isNumber, isOtherNumber, isSpace } from "./unicode.js";
import { cut } from "./words.js";

type Kind = "letter" | "number" | "space" | "other";

const APOSTROPHE = 0x27;
const BLANK = 0x20;
const CONTRACTIONS = ["s", "t", "m", "d", "re", "ve", "ll"].map((text) =>
  Array.from(text, (each) => each.charCodeAt(0)),
);

/** Cuts code points into words. */
export function gpt2Words(points: readonly number[]): number[][] {
  const kinds = points.map(kindOf);
  return cut(points, (begin) => wordEnd(points, kinds, begin));
}

function wordEnd(points: readonly number[], kinds: readonly Kind[], begin: number): number {
  const runEnd = (from: number): number => {
    let end = from;
    while (kinds[end] === kinds[from]) end++;
    return end;
  };
  if (kinds[begin] === "number") return begin + 1;
  const contraction = contractionLength(points, begin);
  if (contraction > 0) return begin + contraction;
  const first = points[begin] === BLANK ? begin + 1 : begin;
  if (isWord(kinds[first])) return runEnd(first);
  const end = runEnd(begin); // of white space: all of it but a last one that belongs to the next word
  return isWord(kinds[end]) && end > begin + 1 ? end - 1 : end;
}

/** Not of a number, which is cut out before, nor of the end. */
function isWord(kind: Kind | undefined): boolean {
  return kind === "letter" || kind === "other";
}

/** Length of an English contraction in small letters, or 0. */
function contractionLength(points: readonly number[], begin: number): number {
  if (points[begin] !== APOSTROPHE) return 0;
  const found = CONTRACTIONS.find((text) => text.every((point, place) => points[begin + 1 + place] === point));
  return found === undefined ? 0 : 1 + found.length;
}

function kindOf(point: number): Kind {
  if (isLetter(point)) return "letter";
  if (isNumber(point) || isOtherNumber(point)) return "number";
  return isSpace(point) ? "space" : "other";
}
