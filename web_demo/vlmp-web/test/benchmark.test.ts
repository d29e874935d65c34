import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import {
  BadTurn,
  benchmark,
  type BenchmarkSettings,
  type BenchmarkTools,
  loadChat,
  quartiles,
  Stop,
  TooLittleMemory,
} from "vlmp-web";
import { bundle, ort, photo, withoutBundles } from "./bundles.js";
import type { Json } from "./conformance-files.js";

const SETTINGS: BenchmarkSettings = {
  runs: 1,
  decodeTokens: 1,
  threads: 1,
  prompt: "What is in this picture?",
  photo: "photo-1.png",
};

/** Each look at the clock is 1.5 ms later than the one before, so that figures are the same each time. */
function tools(more: Partial<BenchmarkTools> = {}): BenchmarkTools {
  let ms = 0;
  return {
    machine: { name: "Node", os: "any", cpu: "unknown", cores: 1, memoryMib: 0, facts: { threads: "1" } },
    load: (folder) => loadChat(ort, folder),
    clock: () => (ms += 1.5),
    now: () => new Date("2026-01-31T12:00:00Z"),
    ...more,
  };
}

/** Whoever runs this test with VLMP_PROFILE=FILE imports what it writes: tests/web/test_package.py. */
test("two bundles in turns", { skip: withoutBundles }, async () => {
  const done: number[][] = [];
  const loaded: string[] = [];
  const settings = { ...SETTINGS, runs: 3, decodeTokens: 4 };
  const folders = [bundle("onnx-unpruned"), bundle("onnx-pruned")];
  const profile: Json = await benchmark(
    folders,
    await photo("photo-1.png"),
    settings,
    tools({
      load: (folder) => {
        loaded.push(folder.name);
        return loadChat(ort, folder);
      },
      onProgress: (some, all) => done.push([some, all]),
    }),
  );
  assert.deepEqual(
    done,
    [1, 2, 3, 4, 5, 6].map((some) => [some, 6]),
  );
  assert.deepEqual(
    loaded,
    [1, 2, 3].flatMap(() => ["onnx-unpruned", "onnx-pruned"]),
  );
  for (const { phases } of profile.bundles) {
    assert.deepEqual(
      ["load_warm", "vision", "first_token", "decode"].map((phase) => phases[phase].median_ms),
      [1.5, 1.5, 4.5, 1.5 / 4],
    );
    assert.equal(phases.prefill.samples_ms.length, 3);
  }
  const output = process.env["VLMP_PROFILE"];
  if (output !== undefined) writeFileSync(output, JSON.stringify(profile));
});

test("it can be stopped, before it begins and inside a run", { skip: withoutBundles }, async () => {
  const picture = await photo("photo-1.png");
  const asked = new Stop();
  asked.ask();
  assert.equal(await benchmark([bundle("onnx-pruned")], picture, SETTINGS, tools({ stop: asked })), null);
  const stop = new Stop();
  const load = async (folder: Parameters<BenchmarkTools["load"]>[0]): ReturnType<BenchmarkTools["load"]> => {
    stop.ask();
    return loadChat(ort, folder);
  };
  assert.equal(await benchmark([bundle("onnx-pruned")], picture, SETTINGS, tools({ stop, load })), null);
});

test("it refuses what has no room", { skip: withoutBundles }, async () => {
  const picture = await photo("photo-1.png");
  await assert.rejects(
    benchmark([bundle("onnx-pruned")], picture, { ...SETTINGS, decodeTokens: 33 }, tools()),
    (error) => error instanceof BadTurn && error.most === 32,
  );
  const load: BenchmarkTools["load"] = (folder) => loadChat(ort, folder, { mostBytes: 2 ** 20 });
  await assert.rejects(benchmark([bundle("onnx-pruned")], picture, SETTINGS, tools({ load })), TooLittleMemory);
});

test("median and quartiles", () => {
  assert.deepEqual(quartiles([61, 60.5, 63, 61.5, 62]), [61, 61.5, 62]);
  assert.deepEqual(quartiles([4, 1, 3, 2]), [1.75, 2.5, 3.25]);
  assert.deepEqual(quartiles([5]), [5, 5, 5]);
});
