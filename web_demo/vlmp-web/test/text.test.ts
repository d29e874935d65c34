// Tokenizer, streaming, prompts and Unicode against the conformance files.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BadBundle, BadPrompt, encodeTurn, parseTokenizer, TextStream } from "vlmp-web";
import { bytes, change, type Json, json, tokenizer } from "./conformance-files.js";

for (const name of ["tiny", "trained", "older", "llama", "llama3", "smollm"]) {
  test(`texts and ids: ${name}`, () => {
    const cases = json(`tokenizer/${name}/cases.json`);
    for (const [text, ids, decoded] of cases.encode) {
      assert.deepEqual(tokenizer(name).encode(text), ids, text);
      assert.equal(tokenizer(name).decode(ids), decoded ?? text);
    }
    for (const [ids, text] of cases.decode) assert.equal(tokenizer(name).decode(ids), text);
    const added: { content: string }[] = json(`tokenizer/${name}/tokenizer.json`).added_tokens;
    const control = added.map((token) => token.content).filter((content) => content.startsWith("<"));
    for (const [text, ids] of cases.as_text) {
      assert.deepEqual(encodeTurn(tokenizer(name), "{prompt}", text, control), ids, text);
    }
  });
}

for (const name of ["tiny", "trained"]) {
  test(`every 23rd code point: ${name}`, () => {
    const numbers = new Uint16Array(bytes(`tokenizer/${name}/code_points.bin`).buffer);
    let place = 0;
    let compared = 0;
    let counted = 0;
    for (let point = 0; point <= 0x10ffff; point++) {
      if (point >= 0xd800 && point <= 0xdfff) continue;
      if (counted++ % 23 !== 0) continue;
      const count = numbers[place++];
      const ids = [...numbers.subarray(place, place + count)];
      place += count;
      assert.deepEqual(tokenizer(name).encode(String.fromCodePoint(point)), ids, `U+${point.toString(16)}`);
      compared++;
    }
    assert.equal(compared, 48351);
    assert.equal(place, numbers.length);
  });
}

const refused = json("tokenizer/refused.json");
for (const [base, cases] of Object.entries<Json>({ [refused.base]: refused.cases, ...refused.other_bases })) {
  test(`tokenizers that are refused: ${base}`, () => {
    assert.ok(cases.length > 0);
    for (const { change: changes } of cases) {
      const damaged = json(`tokenizer/${base}/tokenizer.json`);
      change(damaged, changes);
      assert.throws(
        () => parseTokenizer(JSON.stringify(damaged), "tokenizer.json"),
        (error) => error instanceof BadBundle && error.kind === "tokenizer" && !error.message.includes("\n"),
        JSON.stringify(changes),
      );
    }
  });
}

test("prompts", () => {
  const { cases } = json("prompt/cases.json");
  assert.ok(cases.length > 0);
  for (const each of cases) {
    const read = tokenizer(each.tokenizer);
    const listed = each.control_tokens.length > 0 ? each.control_tokens : read.specialTokens;
    const encode = (): number[] => encodeTurn(read, each.template, each.prompt, each.meant ? [] : listed);
    if ("ids" in each) assert.deepEqual(encode(), each.ids, JSON.stringify(each));
    else assert.throws(encode, (error) => error instanceof BadPrompt && error.kind === each.refused);
  }
});

test("streams", () => {
  const { cases } = json("stream/cases.json");
  assert.ok(cases.length > 0);
  for (const each of cases) {
    const stream = new TextStream(tokenizer(each.tokenizer));
    const chunks = each.ids.map((_: number, place: number) =>
      stream.next(each.ids.slice(0, place + 1), place === each.ids.length - 1),
    );
    assert.deepEqual(chunks, each.chunks);
  }
});

for (const name of ["tiny", "llama"]) {
  test(`long words take no long time: ${name}`, { timeout: 60_000 }, () => {
    const word = "ab".repeat(500_000); // a square of this length would take hours
    assert.equal(tokenizer(name).decode(tokenizer(name).encode(word)), word);
  });
}

test("to GPT-2's kind numbers of a newer Unicode are numbers", () => {
  const [spaces] = tokenizer("smollm").encode("  ");
  assert.equal(tokenizer("smollm").encode("  1")[0], spaces);
  assert.equal(tokenizer("smollm").encode("  \u{11de0}")[0], spaces);
  assert.notEqual(tokenizer("smollm").encode("  \u{11dea}")[0], spaces);
});

test("half a surrogate pair is a replacement character", () => {
  assert.equal(tokenizer("tiny").decode(tokenizer("tiny").encode("a\ud83db")), "a\ufffdb");
});
