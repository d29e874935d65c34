// Real bundles on onnxruntime-web against what PyTorch answered.
import assert from "node:assert/strict";
import { test } from "node:test";
import { GREEDY, loadChat, openOnnx, type Prefilled, readBundle, type Seen, Session, toPixels } from "vlmp-web";
import { bundle, ort, photo, withoutBundles } from "./bundles.js";
import { bytes, type Json, json } from "./conformance-files.js";

const cases = json("steps/cases.json");
const NAMES = ["onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4"];

/** A session with what is expected of it. */
class Case {
  readonly expected: Json;
  readonly exact: boolean;
  private readonly rows: Float32Array;
  private readonly keptShares: number[] = [];
  private readonly sameTop: boolean[] = [];

  private constructor(
    name: string,
    readonly session: Session,
  ) {
    this.expected = cases.expected[cases.bundles[name].expected];
    this.exact = this.expected.top1_share === 1;
    this.rows = new Float32Array(bytes(`steps/${this.expected.logits}`).buffer);
  }

  static async open(name: string): Promise<Case> {
    const manifest = await readBundle(bundle(name));
    return new Case(name, new Session(manifest, await openOnnx(ort, bundle(name), manifest)));
  }

  async see(name: string): Promise<Seen> {
    return this.session.vision(toPixels(await photo(name), this.session.manifest.image));
  }

  /** Compares logits from a row on. Each must be as near as the files say. */
  compare(firstRow: number, found: readonly Float32Array[]): void {
    const { vocab_size: size, relative } = this.expected;
    found.forEach((logits, place) => {
      const wanted = this.rows.subarray((firstRow + place) * size, (firstRow + place + 1) * size);
      assert.equal(logits.length, wanted.length);
      const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const farthest = wanted.reduce((most, value, id) => Math.max(most, Math.abs(value - logits[id])), 0) / largest;
      assert.ok(farthest <= relative, `row ${firstRow + place} is off by ${farthest} of its largest logit`);
      const gap = Math.max(...wanted) - wanted[GREEDY.sample(logits)];
      this.sameTop.push(gap <= (this.exact ? 0 : relative * largest));
    });
  }

  compareKept(first: Prefilled, stages: readonly number[][]): void {
    assert.equal(first.stages.length, stages.length);
    stages.forEach((wanted, stage) => {
      this.keptShares.push(first.stages[stage].filter((token) => wanted.includes(token)).length / wanted.length);
    });
    assert.deepEqual(
      [...first.order].sort((one, other) => one - other),
      first.stages.at(-1),
    );
  }

  checkShares(): void {
    const kept = this.keptShares.reduce((sum, share) => sum + share, 0) / this.keptShares.length;
    assert.ok(kept >= this.expected.kept_share, `kept ${kept}`);
    const top = this.sameTop.filter(Boolean).length / this.sameTop.length;
    assert.ok(top >= this.expected.top1_share, `best tokens ${top}`);
  }
}

for (const name of NAMES) {
  test(`steps with the expected tokens: ${name}`, { skip: withoutBundles }, async () => {
    const each = await Case.open(name);
    for (const { photo: picture, turns } of each.expected.conversations) {
      const seen = await each.see(picture);
      for (const turn of turns) {
        const logits: Float32Array[] = [];
        if (turn.do === "ask") {
          const first = await each.session.prefill(turn.ids, seen);
          each.compareKept(first, turn.stages);
          if (each.exact) assert.deepEqual(first.order, turn.order);
          logits.push(first.logits);
        } else {
          for (const token of turn.unfed) await each.session.decode(token);
          logits.push(await each.session.extend(turn.ids));
        }
        for (const token of turn.tokens.slice(0, -1)) logits.push(await each.session.decode(token));
        each.compare(turn.first_row, logits);
      }
    }
    each.checkShares();
    await each.session.close();
  });

  test(`many steps: ${name}`, { skip: withoutBundles }, async () => {
    const each = await Case.open(name);
    const { forced } = each.expected;
    const first = await each.session.prefill(forced.ids, await each.see(forced.photo));
    each.compareKept(first, forced.stages);
    const logits = [first.logits];
    for (const token of forced.decode) logits.push(await each.session.decode(token));
    logits.push(await each.session.extend(forced.extend));
    if (forced.decode_after !== null) logits.push(await each.session.decode(forced.decode_after));
    each.compare(forced.first_row, logits);
    each.checkShares();
    await each.session.close();
  });
}

// Of int4 rounding may turn a near tie, after which answers differ.
for (const name of NAMES.slice(0, 3)) {
  test(`from a photo and words to text: ${name}`, { skip: withoutBundles }, async () => {
    const chat = await loadChat(ort, bundle(name));
    const expected = cases.expected[cases.bundles[name].expected];
    for (const { photo: picture, turns } of expected.conversations) {
      for (const turn of turns) {
        const limit = turn.limit ?? undefined;
        const pieces: string[] = [];
        const options = { limit, onText: (piece: string) => pieces.push(piece) };
        const answer =
          turn.do === "ask"
            ? await chat.ask(await photo(picture), turn.prompt, options)
            : await chat.reply(turn.prompt, options);
        assert.deepEqual(answer.tokens, turn.tokens);
        assert.equal(answer.text, turn.text);
        assert.equal(pieces.join(""), turn.text);
        assert.deepEqual(answer.stages, turn.stages);
        assert.deepEqual(answer.order, turn.order);
        assert.equal(answer.timings.decodeMs.length, answer.tokens.length - 1);
      }
    }
    await chat.session.close();
  });
}

test("a message that asks for a stop is heard while an answer is made", { skip: withoutBundles }, async () => {
  const chat = await loadChat(ort, bundle("onnx-pruned"));
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => chat.stop();
  const picture = await photo("photo-1.png");
  const whole = await chat.ask(picture, "What is in this picture?");
  const answer = await chat.ask(picture, "What is in this picture?", { onText: () => port2.postMessage("stop") });
  port1.close();
  assert.equal(answer.end, "stopped");
  assert.ok(answer.tokens.length >= 1 && answer.tokens.length <= 2, `${answer.tokens.length} tokens`);
  assert.deepEqual(answer.tokens, whole.tokens.slice(0, answer.tokens.length));
  await chat.session.close();
});
