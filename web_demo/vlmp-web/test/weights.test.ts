// Stages that weigh the tokens that they keep, on a stand-in for the runtime. Real bundles are in steps.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BadBundle, elements, type Manifest, type Numbers, parseManifest, Session, type Step } from "vlmp-web";
import { type Json, json } from "./conformance-files.js";

const BOTH = ["onnx", "executorch"];
const METHODS = ["prefill", "decode", "extend"] as const;

/** A manifest of two stages, of which the second weighs. */
function weighing(kind: string): Json {
  const manifest = json(`dialog/${kind}.json`);
  const stage = manifest.shapes[0].stages[1];
  stage.weighs = true;
  const tensor = (name: string): Json => ({ name, shape: [stage.num_kept], dtype: "float32" });
  for (const method of METHODS) {
    const { inputs, outputs } = manifest.methods[method];
    if (kind === "in_place" || method !== "prefill") inputs.push(tensor("bias_cache_1"));
    if (kind === "in_place" || method === "prefill") outputs.push(tensor("bias_1"));
  }
  return manifest;
}

/** Returns the given weights from prefill, and those that came in from other calls. `seen`: those that came in. */
class Weighing {
  readonly name = "weighing";
  readonly seen: [Step, number[]][] = [];

  constructor(
    private readonly manifest: Manifest,
    private readonly weights: number[][],
  ) {}

  async run(step: Step, inputs: ReadonlyMap<string, Numbers>): Promise<ReadonlyMap<string, Numbers>> {
    const outputs = new Map(
      this.manifest.methods[step].outputs.map(({ name, shape, dtype }): [string, Numbers] => [
        name,
        dtype === "int32" ? new Int32Array(elements(shape)) : new Float32Array(elements(shape)),
      ]),
    );
    const came = inputs.get("bias_cache_1");
    if (step === "decode" || step === "extend") this.seen.push([step, [...came!]]);
    outputs.get("bias_1")?.set(step === "prefill" ? this.weights.shift()! : came!);
    return outputs;
  }

  async close(): Promise<void> {}
}

for (const kind of ["rows", "in_place"]) {
  test(`later calls take the weights of the last prefill: ${kind}`, async () => {
    const manifest = parseManifest(JSON.stringify(weighing(kind)), "manifest.json", BOTH);
    assert.deepEqual(
      manifest.stages.map((stage) => stage.weighs),
      [false, true],
    );
    const runtime = new Weighing(manifest, [
      [0.5, 1.5],
      [2, -1],
    ]);
    const session = new Session(manifest, runtime);
    const seen = await session.vision(new Float32Array(3 * 56 * 56));
    for (let turn = 0; turn < 2; turn++) {
      await session.prefill([1, 2, 3], seen);
      await session.decode(4);
      await session.extend([5, 6]);
      await session.decode(7);
    }
    const steps: Step[] = ["decode", "extend", "decode"];
    assert.deepEqual(runtime.seen, [
      ...steps.map((step) => [step, [0.5, 1.5]]),
      ...steps.map((step) => [step, [2, -1]]),
    ]);
  });

  test(`weights that do not follow from the stages are refused: ${kind}`, () => {
    const { decode, prefill } = weighing(kind).methods;
    const [cache, made] = [decode.inputs.length - 1, prefill.outputs.length - 1];
    const changes: [string, string, (manifest: Json) => void][] = [
      ["stages", "weighs", ({ shapes }) => (shapes[0].stages[1].weighs = 1)],
      ["tensors", "bias", ({ shapes }) => (shapes[0].stages[1].weighs = false)],
      ["tensors", "_0 is missing", ({ shapes }) => (shapes[0].stages[0].weighs = true)],
      ["tensors", "bias_cache_1", ({ methods }) => methods.decode.inputs.pop()],
      ["tensors", "bias_cache_1", ({ methods }) => (methods.decode.inputs[cache].shape = [3])],
      ["tensors", "bias_1", ({ methods }) => methods.prefill.outputs.pop()],
      ["tensors", "bias_1", ({ methods }) => (methods.prefill.outputs[made].dtype = "int32")],
    ];
    for (const [problem, named, change] of changes) {
      const manifest = weighing(kind);
      change(manifest);
      assert.throws(
        () => parseManifest(JSON.stringify(manifest), "manifest.json", BOTH),
        (error) => error instanceof BadBundle && error.kind === problem && error.message.includes(named),
        `${change}`,
      );
    }
  });
}
