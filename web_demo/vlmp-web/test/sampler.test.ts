import assert from "node:assert/strict";
import { test } from "node:test";
import { Mt19937, Nucleus } from "vlmp-web";
import { json } from "./conformance-files.js";

const files = json("sampler/cases.json");

test("numbers of the generator", () => {
  const random = new Mt19937(5489n);
  for (const wanted of files.seed_5489) assert.equal(String(random.next()), wanted);
});

test("drawn tokens", () => {
  for (const each of files.cases) {
    const logits = Float32Array.from(files.logits[each.logits]);
    const sampler = new Nucleus(each.temperature, each.top_p, BigInt(each.seed));
    assert.deepEqual(
      each.tokens.map(() => sampler.sample(logits)),
      each.tokens,
      JSON.stringify(each),
    );
  }
});

test("settings out of their limits are refused", () => {
  for (const [temperature, topP] of [
    [-1, 1],
    [NaN, 1],
    [Infinity, 1],
    [100.5, 1],
    [1, -0.1],
    [1, 1.1],
    [1, NaN],
  ]) {
    assert.throws(() => new Nucleus(temperature, topP, 0n), RangeError);
  }
});
