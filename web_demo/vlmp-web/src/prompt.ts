import { BadPrompt } from "./errors.js";
import type { Manifest } from "./manifest.js";
import type { Tokenizer } from "./tokenizer.js";
import { codePoints, isSpace } from "./unicode.js";

/** Stands for the user's words in a template. */
export const MARK = "{prompt}";

/**
 * Ids of a template with the user's words in it.
 *
 * What a user types is text, whatever it looks like, unless `controlTokens` are meant. `most`: ids that have room. Throws
 * BadPrompt.
 */
export function encodePrompt(
  tokenizer: Tokenizer,
  manifest: Manifest,
  template: string,
  words: string,
  most: number,
  controlTokens: boolean,
): number[] {
  const listed = manifest.prompt.controlTokens;
  const control = controlTokens ? [] : listed.length > 0 ? listed : tokenizer.specialTokens;
  const ids = encodeTurn(tokenizer, template, words, control);
  if (ids.some((id) => id >= manifest.vocabSize)) {
    throw new BadPrompt("no_token", "The question has a token that this bundle's model does not know: reword it.");
  }
  const around = encodeTurn(tokenizer, template, "", []).length;
  if (ids.length > most) {
    const [own, room] = [ids.length - around, Math.max(0, most - around)];
    throw new BadPrompt(
      "prompt_too_long",
      `The question has ${own} tokens, this bundle takes up to ${room}: shorten it.`,
      own,
      room,
    );
  }
  return ids;
}

/** Throws BadPrompt where there is nothing to encode: white space only, or no Unicode text. */
export function checkWords(words: string): void {
  const points = codePoints(words);
  if (points.every((point) => isSpace(point) || (point >= 0x1c && point <= 0x1f))) {
    throw new BadPrompt("empty_prompt", "The question is empty: ask something about the picture.");
  }
  if (points.map((point) => String.fromCodePoint(point)).join("") !== words) {
    throw new BadPrompt("no_text", "The question holds half a character: type it again.");
  }
}

/** The same without limits. `control`: tokens that are text where the user types them. */
export function encodeTurn(
  tokenizer: Tokenizer,
  template: string,
  words: string,
  control: readonly string[],
): number[] {
  const ids = filled(template, cut(words, control)).flatMap((piece, place) =>
    place % 2 === 1 ? tokenizer.encodeAsText(piece) : tokenizer.encode(piece),
  );
  const meant = new Set(control.map((text) => tokenizer.addedId(text)));
  const found = ids.filter((id) => meant.has(id));
  const own = tokenizer.encode(template.replaceAll(MARK, "")).filter((id) => meant.has(id));
  if (found.join() !== own.join()) {
    throw new BadPrompt("control_token", "The question is no plain text to this bundle's tokenizer: reword it.");
  }
  return ids;
}

/** Text, control token, text, ..., text. Of several tokens that begin at one place the longest is taken. */
function cut(words: string, control: readonly string[]): string[] {
  const longestFirst = [...control].sort((one, other) => other.length - one.length);
  const pieces: string[] = [];
  let plain = 0;
  let place = 0;
  while (place < words.length) {
    const token = longestFirst.find((text) => words.startsWith(text, place));
    if (token === undefined) {
      place++;
      continue;
    }
    pieces.push(words.slice(plain, place), token);
    place += token.length;
    plain = place;
  }
  return [...pieces, words.slice(plain)];
}

/** The template with these pieces in the place of each mark, cut at the control tokens alike. */
function filled(template: string, pieces: readonly string[]): string[] {
  const [before, ...others] = template.split(MARK);
  const all = [before];
  for (const after of others) {
    all[all.length - 1] += pieces[0];
    all.push(...pieces.slice(1));
    all[all.length - 1] += after;
  }
  return all;
}
