// vlmp-web itself in Chromium: what Node cannot decode, and logits with threads.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { serve, type Site } from "./server.js";
import { BUNDLES, FILES, type Json, launch } from "./visit.js";

const HARNESS = join(import.meta.dirname, "../harness");
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const steps: Json = JSON.parse(readFileSync(join(FILES, "steps/cases.json"), "utf8"));

/** `later`: not prefill alone, but the steps after it, too. */
interface How {
  readonly provider: "wasm" | "webgpu";
  readonly threads: number;
  readonly later: boolean;
}

let browser: Browser;
let site: Site;

before(async () => {
  site = await serve({ "/files/": FILES, "/bundles/": BUNDLES, "/": HARNESS }, ISOLATED);
  // A software GPU, where Chromium has one.
  browser = await launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan");
});

after(async () => {
  await browser.close();
  await site.close();
});

async function harness(): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(site.address);
  await page.waitForFunction(() => "harness" in globalThis);
  return page;
}

/** Of a row's largest logit, and of the kept tokens those that are as expected. */
async function compared(page: Page, name: string, how: How): Promise<{ off: number; kept: number }> {
  const expected = steps.expected[steps.bundles[name].expected];
  const found = await page.evaluate(
    ([bundle, forced, options]) => (globalThis as Json).harness.forced(bundle, forced, options),
    [name, expected.forced, how] as const,
  );
  const size = expected.vocab_size;
  const rows = new Float32Array(new Uint8Array(readFileSync(join(FILES, "steps", expected.logits))).buffer);
  let off = 0;
  found.logits.forEach((logits: number[], place: number) => {
    const first = (expected.forced.first_row + place) * size;
    const wanted = rows.subarray(first, first + size);
    const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    logits.forEach((value, id) => (off = Math.max(off, Math.abs(value - wanted[id]) / largest)));
  });
  const wanted: number[] = expected.forced.stages.at(-1);
  const kept = found.stages.at(-1).filter((token: number) => wanted.includes(token)).length / wanted.length;
  return { off, kept };
}

test("pictures, JPEG too", async () => {
  const page = await harness();
  assert.deepEqual(await page.evaluate(() => (globalThis as Json).harness.pictures()), []);
  await page.close();
});

for (const [name, threads] of [
  ["onnx-pruned", 2],
  ["onnx-pruned", 1],
  ["onnx-int4", 2],
] as const) {
  test(`logits of ${name} on wasm, threads: ${threads}`, async () => {
    const expected = steps.expected[steps.bundles[name].expected];
    const page = await harness();
    const { off, kept } = await compared(page, name, { provider: "wasm", threads, later: true });
    assert.ok(off <= expected.relative, `off by ${off}`);
    assert.ok(kept >= expected.kept_share, `kept ${kept}`);
    await page.close();
  });
}

/** It stays behind a flag. If this test fails, WebGPU has come to agree, and the flag may go: docs/web.md. */
test("WebGPU does not agree yet", async (context) => {
  const page = await harness();
  const adapter = await page.evaluate(async () => (await (navigator as Json).gpu?.requestAdapter()) != null);
  if (!adapter) return context.skip("this Chromium has no WebGPU adapter");
  const { off, kept } = await compared(page, "onnx-pruned", { provider: "webgpu", threads: 1, later: false });
  context.diagnostic(`off by ${off} of the largest logit, kept ${kept}`);
  assert.ok(off > 1e-4, `off by ${off}`);
  await page.close();
});
