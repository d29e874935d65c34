// Classes of characters and NFC by the conformance files' tables: each browser has another version of Unicode.
import * as tables from "./unicode-tables.js";

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
const SYLLABLES = 0xac00;
const LEADS = 0x1100;
const VOWELS = 0x1161;
const TAILS = 0x11a7;
const LEAD_COUNT = 19;
const VOWEL_COUNT = 21;
const TAIL_COUNT = 28;
const SYLLABLE_COUNT = LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT;
const REPLACEMENT = 0xfffd;

const letters = entries(tables.LETTERS);
const numbers = entries(tables.NUMBERS);
const otherNumbers = entries(tables.OTHER_NUMBERS);
const spaces = entries(tables.SPACES);
const marks = entries(tables.MARKS);
const decompositions = new Map(entries(tables.DECOMPOSITIONS).map(([point, ...parts]) => [point, parts]));
const compositions = new Map(entries(tables.COMPOSITIONS).map(([first, second, both]) => [pair(first, second), both]));

export function isLetter(point: number): boolean {
  return find(letters, point) !== undefined;
}

export function isNumber(point: number): boolean {
  return find(numbers, point) !== undefined;
}

/** Of a newer Unicode: GPT-2's kind of tokenizer cuts them out as it does numbers. */
export function isOtherNumber(point: number): boolean {
  return find(otherNumbers, point) !== undefined;
}

export function isSpace(point: number): boolean {
  return find(spaces, point) !== undefined;
}

/** Code points of a text; half a surrogate pair is U+FFFD. */
export function codePoints(text: string): number[] {
  return Array.from(text, (character) => {
    const point = character.codePointAt(0)!;
    return point >= 0xd800 && point <= 0xdfff ? REPLACEMENT : point;
  });
}

/** UTF-8 of code points. */
export function toUtf8(points: readonly number[]): Uint8Array {
  return new TextEncoder().encode(points.map((point) => String.fromCodePoint(point)).join(""));
}

/** NFC of code points. */
export function compose(points: readonly number[]): number[] {
  return composed(sorted(decomposed(points)));
}

function decomposed(points: readonly number[]): number[] {
  return points.flatMap((point) => {
    const syllable = point - SYLLABLES;
    if (syllable < 0 || syllable >= SYLLABLE_COUNT) return decompositions.get(point) ?? point;
    const lead = LEADS + Math.floor(syllable / (VOWEL_COUNT * TAIL_COUNT));
    const vowel = VOWELS + (Math.floor(syllable / TAIL_COUNT) % VOWEL_COUNT);
    const tail = syllable % TAIL_COUNT;
    return tail === 0 ? [lead, vowel] : [lead, vowel, TAILS + tail];
  });
}

/** Marks between two starters by their class, stably. */
function sorted(points: number[]): number[] {
  let begin = 0;
  while (begin < points.length) {
    let end = begin;
    while (end < points.length && combiningClass(points[end]) !== 0) end++;
    if (end - begin > 1) {
      const run = points.slice(begin, end).sort((one, other) => combiningClass(one) - combiningClass(other));
      run.forEach((point, place) => (points[begin + place] = point));
    }
    begin = end + 1;
  }
  return points;
}

function composed(points: readonly number[]): number[] {
  const result: number[] = [];
  let starter = -1;
  let blocked = 0; // class of the last mark that stayed after the starter
  for (const point of points) {
    const own = combiningClass(point);
    if (starter >= 0 && (result.length === starter + 1 || blocked < own)) {
      const whole = composition(result[starter], point);
      if (whole !== undefined) {
        result[starter] = whole;
        continue;
      }
    }
    if (own === 0) starter = result.length;
    blocked = own;
    result.push(point);
  }
  return result;
}

function composition(first: number, second: number): number | undefined {
  const lead = first - LEADS;
  const vowel = second - VOWELS;
  if (lead >= 0 && lead < LEAD_COUNT && vowel >= 0 && vowel < VOWEL_COUNT) {
    return SYLLABLES + (lead * VOWEL_COUNT + vowel) * TAIL_COUNT;
  }
  const syllable = first - SYLLABLES;
  const tail = second - TAILS;
  if (syllable >= 0 && syllable < SYLLABLE_COUNT && syllable % TAIL_COUNT === 0 && tail > 0 && tail < TAIL_COUNT) {
    return first + tail;
  }
  return compositions.get(pair(first, second));
}

/** Canonical combining class. */
function combiningClass(point: number): number {
  return find(marks, point)?.[2] ?? 0;
}

/** The range that holds a code point. */
function find(sortedRanges: number[][], point: number): number[] | undefined {
  let low = 0;
  let high = sortedRanges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const range = sortedRanges[middle];
    if (point < range[0]) high = middle - 1;
    else if (point > range[1]) low = middle + 1;
    else return range;
  }
  return undefined;
}

function entries(table: string): number[][] {
  return table.split(",").map((entry) => entry.split(" ").map((number) => parseInt(number, 36)));
}

function pair(first: number, second: number): number {
  return first * 2 ** 21 + second;
}
