// The reader of manifests against the conformance files.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BadBundle,
  type BundleFolder,
  cacheBytes,
  checkMemory,
  type Manifest,
  memoryBytes,
  numKept,
  parseManifest,
  readBundle,
  sizeBytes,
  STEPS,
  type TensorSpec,
  TooLittleMemory,
} from "vlmp-web";
import { change, type Json, json, text } from "./conformance-files.js";

const files = json("manifest/cases.json");
const BOTH = ["onnx", "executorch"]; // those of ExecuTorch have `rows`

for (const { file, facts } of files.valid) {
  test(`valid: ${file}`, () => {
    const read = (): Manifest => parseManifest(text(`manifest/${file}`), "manifest.json", BOTH);
    if (file.startsWith("schema-1")) {
      assert.throws(read, (error) => isBad(error, "version") && error.message.includes("vlmp-export --model "));
    } else if (facts.target === "coreml") {
      assert.throws(read, (error) => isBad(error, "target"));
    } else {
      compare(facts, read());
    }
  });
}

function compare(facts: Json, found: Manifest): void {
  const { image, prompt, kv } = found;
  const { model, target, precision, quantization, vocabSize } = found;
  assert.deepEqual(
    { model, target, precision, quantization, vocabSize },
    {
      model: facts.model,
      target: facts.target,
      precision: facts.precision,
      quantization: facts.quantization,
      vocabSize: facts.vocab_size,
    },
  );
  assert.deepEqual(
    {
      height: image.height,
      width: image.width,
      fit: image.fit,
      pad_rgb: image.padRgb,
      resample: image.resample,
      visual_tokens: image.visualTokens,
    },
    facts.image,
  );
  assert.deepEqual(
    image.segments.map(({ rows, columns, first, stride, box }) => [rows, columns, first, stride, box]),
    facts.segments,
  );
  assert.deepEqual(
    found.stages.map(({ numKept, ...stage }) => ({ ...stage, num_kept: numKept })),
    facts.stages,
  );
  assert.equal(numKept(found), facts.num_kept);
  assert.deepEqual(
    kv.layers.map(({ kvHeads, headDim, base, slots, state }) => state ?? [kvHeads, headDim, base, slots]),
    facts.kv.layers,
  );
  assert.equal(kv.update, facts.kv.update);
  assert.equal(prompt.first, facts.prompt.first);
  assert.equal(prompt.following, facts.prompt.following);
  assert.equal(prompt.textLen, facts.prompt.text_len);
  assert.equal(prompt.maxNewTokens, facts.prompt.max_new_tokens);
  assert.deepEqual(prompt.endIds, facts.prompt.end_ids);
  assert.equal(prompt.endTextId, facts.prompt.end_text_id);
  assert.equal(prompt.padId, facts.prompt.pad_id);
  assert.deepEqual(prompt.controlTokens, facts.prompt.control_tokens);
  assert.equal(prompt.tokenizerFile, facts.prompt.tokenizer_file);
  const plain = (tensors: readonly TensorSpec[]): Json => tensors.map(({ name, shape, dtype }) => [name, shape, dtype]);
  for (const step of STEPS) {
    const { file, entry, dataFile, inputs, outputs } = found.methods[step];
    assert.deepEqual(
      { file, entry, data_file: dataFile, inputs: plain(inputs), outputs: plain(outputs) },
      facts.methods[step],
    );
  }
}

for (const [bases, hostile] of [
  [files.bases, files.hostile],
  [files.bases_tower, files.hostile_tower],
])
  for (const base of bases) {
    test(`the base is a bundle: ${base}`, async () => {
      let told = [0, 0];
      const found = await readBundle(folder(json(`manifest/${base}`), {}), (done, all) => (told = [done, all]), BOTH);
      assert.equal(found.model, "scripted");
      assert.ok(told[0] > 0 && told[0] === told[1]);
    });

    for (const [number, each] of hostile.entries()) {
      test(`hostile: ${base} ${number}: ${each.class} ${each.field ?? ""}`, async () => {
        const manifest = json(`manifest/${base}`);
        change(manifest, each.change);
        await assert.rejects(
          readBundle(folder(manifest, each.files), () => {}, BOTH),
          (error) => isBad(error, each.class) && (each.class !== "field" || error.message.includes(each.field)),
        );
      });
    }
  }

test("those of schema 1 are refused before files are looked for", () => {
  for (const base of files.bases_1) {
    for (const each of files.hostile_1) {
      const manifest = json(`manifest/${base}`);
      change(manifest, each.change);
      assert.throws(() => parseManifest(JSON.stringify(manifest), "manifest.json", BOTH), BadBundle);
    }
  }
});

test("what is no manifest is refused", async () => {
  for (const each of files.texts) {
    await assert.rejects(
      readBundle({ name: "bad", file: async () => new Blob([each]) }),
      (error) => error instanceof BadBundle && /^bad\/manifest.json[^\n]*$/.test(error.message),
    );
  }
});

test("a folder without a manifest is refused", async () => {
  await assert.rejects(readBundle({ name: "empty", file: async () => null }), (error) => isBad(error, "unreadable"));
});

test("only what runs here is taken", () => {
  const executorch = text("manifest/rows.json");
  assert.throws(
    () => parseManifest(executorch, "manifest.json"),
    (error) => isBad(error, "target"),
  );
});

test("other resampling is refused", () => {
  const manifest = json("manifest/in_place.json");
  manifest.shapes[0].image.resample = "nearest";
  assert.throws(
    () => parseManifest(JSON.stringify(manifest), "manifest.json"),
    (error) => isBad(error, "field"),
  );
});

test("memory counts the caches and more than the files", () => {
  const manifest = parseManifest(text("manifest/rows.json"), "manifest.json", BOTH);
  assert.equal(cacheBytes(manifest), 4 * (2 * 2 * (51 + 50 + 49) + 2 * 2));
  assert.equal(numKept(manifest), 2);
  const needed = memoryBytes(manifest);
  assert.ok(needed > sizeBytes(manifest) + cacheBytes(manifest));
  checkMemory("it", manifest, null);
  checkMemory("it", manifest, needed);
  assert.throws(
    () => checkMemory("it", manifest, needed - 1),
    (error) => error instanceof TooLittleMemory && error.neededBytes === needed && error.mostBytes === needed - 1,
  );
});

function isBad(error: unknown, kind: string): error is BadBundle {
  return error instanceof BadBundle && error.kind === kind && !error.message.includes("\n");
}

/** A bundle with the contents of the conformance files, some of them changed (null: missing). */
function folder(manifest: Json, changed: Record<string, string | null>): BundleFolder {
  const contents: Record<string, string | null> = {
    ...files.contents,
    ...changed,
    "manifest.json": JSON.stringify(manifest),
  };
  return {
    name: "bundle",
    file: async (path) =>
      Object.hasOwn(contents, path) && contents[path] !== null ? new Blob([contents[path]!]) : null,
  };
}
