// Qwen2's pattern, matched by hand, since regexes and their Unicode versions differ from browser to browser. That of
// Llama 3 has \p{N}{1,3} for \p{N}.
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// The first alternative that matches wins; together they match every character.
import { isLetter, isNumber, isSpace } from "./unicode.js";

type Kind = "letter" | "number" | "space" | "newline" | "other";

const APOSTROPHE = 0x27;
const BLANK = 0x20;
const CONTRACTIONS = ["s", "t", "m", "d", "re", "ve", "ll"];

/** Cuts code points into words. `digits`: the most numbers that are one. */
export function words(points: readonly number[], digits: number): number[][] {
  const kinds = points.map(kindOf);
  return cut(points, (begin) => wordEnd(points, kinds, begin, digits));
}

/** Cuts code points where `wordEnd` says that what begins at a place ends. */
export function cut(points: readonly number[], wordEnd: (begin: number) => number): number[][] {
  const found: number[][] = [];
  let begin = 0;
  while (begin < points.length) {
    const end = wordEnd(begin);
    found.push(points.slice(begin, end));
    begin = end;
  }
  return found;
}

function wordEnd(points: readonly number[], kinds: readonly Kind[], begin: number, digits: number): number {
  const runEnd = (from: number, kind: Kind): number => {
    let end = from;
    while (kinds[end] === kind) end++;
    return end;
  };
  const contraction = contractionLength(points, begin);
  if (contraction > 0) return begin + contraction;
  const [kind, next] = [kinds[begin], kinds[begin + 1]];
  if (kind === "letter") return runEnd(begin, "letter");
  if (kind === "number") {
    let end = begin + 1;
    while (end < begin + digits && kinds[end] === "number") end++;
    return end;
  }
  if (kind !== "newline" && next === "letter") return runEnd(begin + 1, "letter");
  if (kind === "other") return runEnd(runEnd(begin, "other"), "newline");
  if (points[begin] === BLANK && next === "other") return runEnd(runEnd(begin + 1, "other"), "newline");
  return blankEnd(kinds, begin);
}

/** Length of an English contraction, or 0. */
function contractionLength(points: readonly number[], begin: number): number {
  if (points[begin] !== APOSTROPHE) return 0;
  const first = folded(points[begin + 1]);
  const found = CONTRACTIONS.find((text) => text === first || text === first + folded(points[begin + 2]));
  return found === undefined ? 0 : 1 + found.length;
}

/** White space: up to its last newline; else all of it but a last one that belongs to the next word. */
function blankEnd(kinds: readonly Kind[], begin: number): number {
  let end = begin;
  let newline = begin;
  while (kinds[end] === "space" || kinds[end] === "newline") if (kinds[end++] === "newline") newline = end;
  if (newline > begin) return newline;
  return end === kinds.length || end === begin + 1 ? end : end - 1;
}

function folded(point: number | undefined): string {
  if (point === undefined) return "";
  if (point === 0x17f) return "s"; // the long s
  return point < 0x80 ? String.fromCharCode(point).toLowerCase() : "\0";
}

function kindOf(point: number): Kind {
  if (point === 0x0d || point === 0x0a) return "newline";
  if (isSpace(point)) return "space";
  if (isLetter(point)) return "letter";
  return isNumber(point) ? "number" : "other";
}
