// The host loop against the conformance files, on a stand-in for the runtime that says a script.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Answer,
  BadPrompt,
  BadTurn,
  Chat,
  elements,
  type Numbers,
  parseManifest,
  type Runtime,
  RuntimeFailure,
  Session,
  type Step,
  Stop,
} from "vlmp-web";
import { type Json, json, tokenizer } from "./conformance-files.js";

const PICTURE = { width: 2, height: 2, rgb: new Uint8Array(12) };
const PLACES = [1, 2, 3];
const BIAS = [0.5, 1.5, 2.5];

for (const kind of ["", "tower-", "rebuilt-"].flatMap((form) => [`${form}rows`, `${form}in_place`])) {
  for (const each of json("dialog/cases.json").cases) {
    test(`${kind}: ${each.name}`, async () => {
      const scripted = new Scripted(json(`dialog/${kind}.json`));
      for (const action of each.actions) await scripted.check(action);
    });
  }
}

test("half a character is no text, and nothing is run", async () => {
  const scripted = new Scripted(json("dialog/rows.json"));
  await assert.rejects(
    scripted.chat.ask(PICTURE, "Why\ud83d?"),
    (error) => error instanceof BadPrompt && error.kind === "no_text",
  );
});

test("a token that the model does not know is refused", async () => {
  const manifest = JSON.parse(JSON.stringify(json("dialog/rows.json")).replaceAll("2048", "1546"));
  await assert.rejects(
    new Scripted(manifest).chat.ask(PICTURE, "Why?"),
    (error) => error instanceof BadPrompt && error.kind === "no_token",
  );
});

test("one turn at a time", async () => {
  const { chat } = new Scripted(json("dialog/rows.json"));
  const first = chat.ask(PICTURE, "Why?", { limit: 1 });
  await assert.rejects(chat.ask(PICTURE, "Why?"), (error) => error instanceof BadTurn && error.kind === "busy");
  assert.equal((await first).tokens.length, 1);
});

test("a turn that was stopped before it began runs nothing", async () => {
  const { chat } = new Scripted(json("dialog/rows.json"));
  const stop = new Stop();
  stop.ask();
  const answer = await chat.ask(PICTURE, "Why?", { stop });
  assert.deepEqual([answer.tokens, answer.end, chat.session.past], [[], "stopped", 0]);
});

/** A chat whose model says a script, as tests/conformance/README.md describes it. The bookkeeping is the real one. */
class Scripted implements Runtime {
  readonly name = "scripted";
  readonly manifest;
  readonly chat: Chat;
  private action: Json = {};
  private script: number[] = [];
  private calls: [string, number | null, number[]][] = [];
  private made = 0;

  constructor(manifest: Json) {
    this.manifest = parseManifest(JSON.stringify(manifest), "manifest.json", ["onnx", "executorch"]);
    this.chat = new Chat(new Session(this.manifest, this), tokenizer("tiny"));
  }

  /** Does an action, and compares all that comes of it. */
  async check(action: Json): Promise<void> {
    const { then } = action;
    this.action = action;
    this.script = [...(action.script ?? [])];
    this.calls = [];
    this.made = 0;
    const pieces: string[] = [];
    const onText = (piece: string): void => {
      pieces.push(piece);
      if (pieces.length === action.stop_after) this.chat.stop();
    };
    try {
      const answer = await this.act(onText);
      assert.equal(then.refused ?? then.failed, undefined);
      if (answer !== null) {
        assert.deepEqual(answer.tokens, then.tokens);
        assert.equal(answer.text, then.text);
        assert.deepEqual(pieces, then.pieces);
        assert.equal(answer.end === "stopped", then.stopped ?? false);
        if (action.do === "ask" && answer.tokens.length > 0) {
          assert.deepEqual(answer.stages, [
            [1, 2, 3],
            [1, 3],
          ]);
          assert.deepEqual(answer.order, [3, 1]);
        }
      }
    } catch (error) {
      if (error instanceof BadPrompt) {
        assert.equal(error.kind, then.refused);
        if (then.tokens !== undefined) assert.deepEqual([error.tokens, error.most], [then.tokens, then.most]);
      } else if (error instanceof BadTurn) {
        assert.equal(error.kind, then.refused);
        if (then.needed !== undefined) assert.equal(error.needed, then.needed);
        if (then.most !== undefined) assert.equal(error.most, then.most);
      } else if (error instanceof RuntimeFailure) {
        assert.equal(then.failed, true, error.message);
      } else {
        throw error;
      }
    }
    assert.deepEqual(this.calls, then.calls);
    assert.deepEqual(this.held(), then.held);
    assert.deepEqual(this.chat.unfed === null ? [] : [this.chat.unfed], then.unfed);
    assert.equal(this.chat.session.room, then.room);
  }

  private async act(onText: (piece: string) => void): Promise<Answer | null> {
    const { do: what, prompt, limit, control_tokens: controlTokens } = this.action;
    const options = { limit: limit ?? undefined, controlTokens, onText };
    if (what === "ask") return this.chat.ask(PICTURE, prompt, options);
    if (what === "reply") return this.chat.reply(prompt, options);
    this.chat.reset();
    return null;
  }

  async run(step: Step, inputs: ReadonlyMap<string, Numbers>): Promise<ReadonlyMap<string, Numbers>> {
    const { manifest, action } = this;
    const number = this.made++;
    if (number === action.fails_at) throw new RuntimeFailure("the runtime failed");
    if (number === action.stop_in) this.chat.stop();
    const kept = number !== action.stop_in && number !== action.not_finite_at;
    for (const { name, shape } of manifest.methods[step].inputs) {
      assert.equal(inputs.get(name)?.length, elements(shape), name);
    }
    const outputs = new Map(
      manifest.methods[step].outputs.map(({ name, shape, dtype }): [string, Numbers] => [
        name,
        dtype === "int32" ? new Int32Array(elements(shape)) : new Float32Array(elements(shape)),
      ]),
    );
    if (step === "vision") {
      if (kept) this.calls.push([step, null, []]);
      outputs.get("places")?.set(PLACES);
      outputs.get("bias_0")?.set(BIAS);
      return outputs;
    }
    const [places, bias] = [inputs.get("places"), inputs.get("bias_cache_0")];
    if (places !== undefined) assert.deepEqual(places, Int32Array.from(step === "prefill" ? PLACES : []));
    if (bias !== undefined) assert.deepEqual(bias, Float32Array.from(BIAS));
    const ids = [...inputs.get("ids")!];
    const length = inputs.get("text_len")?.[0] ?? 1;
    const past = inputs.get("past")?.[0] ?? 0;
    assert.ok(ids.slice(length).every((id) => id === manifest.prompt.padId));
    const fed = ids.slice(0, length);
    if (kept) this.calls.push([step, step === "prefill" ? null : past, fed]);
    this.returnRows(step, inputs, outputs, fed, past, ids.length - length);
    outputs.get("logits")![number === action.not_finite_at ? 7 : (this.script.shift() ?? 0)] =
      number === action.not_finite_at ? NaN : 1;
    if (step === "prefill") {
      outputs.get("kept_0")?.set(PLACES);
      outputs.get("kept")!.set([1, 3]);
      outputs.get("order")!.set([3, 1]);
    }
    return outputs;
  }

  private returnRows(
    step: Step,
    inputs: ReadonlyMap<string, Numbers>,
    outputs: ReadonlyMap<string, Numbers>,
    fed: number[],
    past: number,
    padding: number,
  ): void {
    this.manifest.kv.layers.forEach(({ base, state }, layer) => {
      if (state !== null) {
        const given = [...(inputs.get(`state_cache_${layer}`) ?? [0, 0, 0, 0])];
        if (step === "prefill") assert.deepEqual(given, [0, 0, 0, 0]);
        const rows = fed.flatMap((id, place) => [id, past + place]);
        outputs.get(`state_${layer}`)!.set([...given, ...rows].slice(-4));
        return;
      }
      const before = step === "prefill" ? Array.from({ length: base }, (_, slot) => [7000 + slot, slot]) : [];
      const text = fed.map((id, place) => [id, past + place]);
      for (const [kind, sign] of [
        ["key", 1],
        ["value", -1],
      ] as const) {
        const rows = [...before, ...text].flat().map((value) => sign * value);
        const output = outputs.get(`${kind}_${layer}`)!;
        if (this.manifest.kv.update === "in_place") {
          output.set(inputs.get(`${kind}_cache_${layer}`)!);
          output.set(rows, 2 * (step === "prefill" ? 0 : base + past));
        } else {
          output.set([...rows, ...new Array<number>(2 * padding).fill(9999)]);
        }
      }
    });
  }

  async close(): Promise<void> {}

  /** Text ids whose rows are in the caches, the same in each layer's, each at its place. */
  private held(): number[] {
    const { past } = this.chat.session;
    const found = this.manifest.kv.layers.flatMap(({ base, state }, layer) => {
      if (state !== null) return [];
      const keys = [...this.chat.session.cache(`key_cache_${layer}`)];
      const values = [...this.chat.session.cache(`value_cache_${layer}`)];
      assert.ok(keys.every((key, place) => key === -values[place] || (key === 0 && values[place] === 0)));
      const rows = Array.from({ length: base + past }, (_, slot) => keys.slice(2 * slot, 2 * slot + 2));
      if (past > 0) {
        assert.deepEqual(
          rows.slice(0, base),
          Array.from({ length: base }, (_, slot) => [7000 + slot, slot]),
        );
      }
      const text = rows.slice(base);
      assert.deepEqual(
        text.map((row) => row[1]),
        text.map((_, place) => place),
      );
      return [text.map((row) => row[0])];
    });
    const fed = [0, 0, 0, 0, ...found[0].flatMap((id, place) => [id, place])];
    for (const state of this.chat.session.progress.states.values()) assert.deepEqual([...state], fed.slice(-4));
    for (const other of found) assert.deepEqual(other, found[0]);
    return found[0];
  }
}
