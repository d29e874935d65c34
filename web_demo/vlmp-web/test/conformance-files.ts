// The files that every reader of a bundle is tested by: tests/conformance/README.md.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseTokenizer, type Tokenizer } from "vlmp-web";

/** JSON of the conformance files, which has no types. */
export type Json = any;

export const FOLDER = join(import.meta.dirname, "../../../../tests/conformance/files");

export function bytes(path: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(FOLDER, path)));
}

export function text(path: string): string {
  return readFileSync(join(FOLDER, path), "utf8");
}

export function json(path: string): Json {
  return JSON.parse(text(path));
}

export function blob(path: string): Blob {
  return new Blob([bytes(path)]);
}

/** A tokenizer by its name there. */
export function tokenizer(name: string): Tokenizer {
  const known = tokenizers.get(name) ?? parseTokenizer(text(`tokenizer/${name}/tokenizer.json`), "tokenizer.json");
  tokenizers.set(name, known);
  return known;
}

const tokenizers = new Map<string, Tokenizer>();

interface Change {
  readonly at: readonly (string | number)[];
  readonly value?: unknown;
}

/** Makes a file hostile, as its README.md says. */
export function change(root: Json, changes: readonly Change[]): void {
  for (const each of changes) {
    const part = each.at.slice(0, -1).reduce((inner: Json, step) => inner[step], root);
    const last = each.at.at(-1)!;
    if ("value" in each) part[last] = each.value;
    else if (Array.isArray(part)) part.splice(Number(last), 1);
    else delete part[last];
  }
}
