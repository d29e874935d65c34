// The page in Chromium, at a phone's size, from the first visit on.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { serve, type Site, wantedHeaders } from "./server.js";
import { BUNDLES, DIST, FILES, type Json, launch, OUTPUT, Visit } from "./visit.js";

const SHIPPED = ["tiny-pruned", "tiny-unpruned"];
const QUESTION = "What is in this picture?";
const steps: Json = JSON.parse(readFileSync(join(FILES, "steps/cases.json"), "utf8"));

let browser: Browser;
let site: Site;
let visit: Visit;
/** What Python compares with its own. */
const results: Record<string, Json> = {};

before(async () => {
  mkdirSync(OUTPUT, { recursive: true });
  browser = await launch();
  site = await serve({ "/": DIST }, wantedHeaders(DIST));
  visit = await Visit.open(browser, site.address, (context) => context.addInitScript(noteProgress));
});

after(async () => {
  writeFileSync(join(OUTPUT, "results.json"), JSON.stringify(results));
  await browser.close();
  await site.close();
});

test("the first visit brings bundles, and threads", async () => {
  assert.deepEqual(await visit.bundles(), SHIPPED);
  assert.equal(await visit.page.evaluate(() => crossOriginIsolated), true);
  assert.match((await visit.page.textContent("#surroundings"))!, /^CPU, [2-4] threads$/);
});

test("the first visit says how far it is", async () => {
  const said: string[] = await visit.page.evaluate(() => (globalThis as Json).said);
  for (const name of SHIPPED) {
    const downloaded = said.filter((text) => text.startsWith(`Downloading ${name}: `));
    assert.ok(downloaded.length > 1, said.join("\n"));
    assert.ok(
      said.some((text) => /^Copying and checking .*: [\d.]+ MiB of [\d.]+ MiB$/.test(text) && text.includes(name)),
    );
  }
  assert.equal(said[0], "Downloading the page");
  const shares: number[] = await visit.page.evaluate(() => (globalThis as Json).shares);
  assert.ok(shares.some((share) => share > 0 && share < 1) && shares.includes(1));
  assert.equal(await visit.page.locator("#working").isVisible(), false);
});

test("a question about the page's own photo", async () => {
  const answer = await visit.ask(QUESTION);
  results["photo"] = { tokens: answer.tokens, text: answer.text, stages: answer.stages, order: answer.order };
  assert.equal(answer.order.length, 16);
  assert.equal(
    await visit.page.textContent("#shown-line"),
    "16 of 16 kept tokens, in the order of selection, of 144 visual tokens",
  );
  await visit.screenshot("ask");
});

test("the slider shows the first tokens of the selection", async () => {
  const whole = await visit.page.locator("#photo").screenshot();
  await visit.page.locator("#shown").fill("3");
  assert.match((await visit.page.textContent("#shown-line"))!, /^3 of 16/);
  assert.match((await visit.page.getAttribute("#photo", "aria-label"))!, /3 of 144 visual tokens/);
  assert.notDeepEqual(await visit.page.locator("#photo").screenshot(), whole);
});

test("a reply goes on, another photo begins anew", async () => {
  assert.equal(await visit.page.textContent("#ask"), "Reply");
  const answer = await visit.ask("And what colour is it?");
  assert.deepEqual(answer.stages, []);
  assert.equal(await visit.demo((demo) => demo.turns.length), 2);
  await visit.choose(FILES, "steps/photo-2.png");
  assert.equal(await visit.demo((demo) => demo.turns.length), 0);
  assert.equal(await visit.page.textContent("#ask"), "Ask");
});

test("a photo of the camera, upright", async () => {
  assert.equal(await visit.page.getAttribute("#take", "capture"), "environment");
  assert.equal(await visit.give("take", join(FILES, "picture/turn-6.jpg")), null);
  const { width, height }: Json = await visit.demo(({ photo }) => ({ width: photo.width, height: photo.height }));
  assert.equal(await visit.page.textContent("#photo-line"), `turn-6.jpg, ${width} × ${height} pixels`);
  assert.deepEqual([width, height], [32, 48]); // the file has them the other way round
  assert.ok((await visit.ask(QUESTION)).tokens.length > 0);
});

test("a folder of one's own answers as Python does, token for token", async () => {
  assert.equal(await visit.import("folder", join(BUNDLES, "onnx-pruned")), null);
  for (const { photo, turns } of steps.expected.pruned.conversations) {
    await visit.choose(FILES, `steps/${photo}`);
    for (const turn of turns) {
      const answer = await visit.ask(turn.prompt, "onnx-pruned");
      const wanted = turn.tokens.slice(0, turn.limit ?? undefined);
      if (turn.limit === null) assert.equal(answer.text, turn.text);
      assert.deepEqual(answer.tokens.slice(0, wanted.length), wanted);
      assert.deepEqual([answer.stages, answer.order], [turn.stages, turn.order]);
      if (turn.limit !== null) break; // the page has another limit: what follows is another conversation
    }
  }
});

test("a zip with a bundle of three stages in a folder, each of which is shown", async () => {
  const zip = join(OUTPUT, "staged.zip");
  execFileSync("python3", ["-m", "zipfile", "-c", zip, join(BUNDLES, "onnx-staged")]);
  assert.equal(await visit.import("zip", zip), null);
  await visit.choose(FILES, "picture/one-pixel.png"); // of one colour
  const { stages } = await visit.ask(QUESTION, "onnx-staged");
  assert.deepEqual(
    stages.map((stage: number[]) => stage.length),
    [27, 18, 9],
  );
  assert.match((await visit.page.textContent("#stage"))!, /^vision tower, block 2: 27 of 36before layer 2: 18 of 27/);
  const drawn = await cells("#photo", 6);
  const lightness = (tokens: number[]): number[] => [...new Set(tokens.map((token) => drawn[token]))];
  const [shown, dropped, dark] = [
    lightness(stages[2]),
    lightness(stages[1].filter((token: number) => !stages[2].includes(token))),
    lightness(drawn.map((_, token) => token).filter((token) => !stages[1].includes(token))),
  ];
  assert.deepEqual([shown.length, dropped.length, dark.length], [1, 1, 1]);
  assert.ok(shown[0] > dropped[0] && dropped[0] > dark[0], String([shown, dropped, dark]));
  await visit.page.locator("#stage").selectOption("0");
  assert.match((await visit.page.textContent("#shown-line"))!, /^27 tokens, of 36/);
});

test("three stages against none", async () => {
  const compared = await visit.compare("tiny-unpruned", "onnx-staged");
  assert.match(
    compared,
    /tiny-unpruned.*144 of 144 tokens.*onnx-staged.*27, then 18, then 9 of 36 tokens.*not of one model and picture size/s,
  );
  assert.match(compared, /vision tower, block 2: 27 of 36.*before layer 2: 18 of 27.*before layer 4: 9 of 18/s);
  assert.equal(await visit.page.locator("#compared canvas").count(), 4);
  await visit.screenshot("compare-staged");
});

test("two schedules against one another", async () => {
  const compared = await visit.compare("tiny-pruned", "onnx-staged");
  assert.match(compared, /tiny-pruned.*16 of 144 tokens.*onnx-staged.*27, then 18, then 9 of 36 tokens/s);
});

test("a bundle is deleted", async () => {
  await visit.tab("Bundles");
  await visit.screenshot("bundles");
  await visit.page.getByRole("button", { name: "Delete onnx-staged" }).click();
  assert.equal(await visit.ready(), null);
  assert.deepEqual(await visit.stored(), ["onnx-pruned", ...SHIPPED]);
  await visit.tab("Ask");
});

test("an import that is stopped leaves nothing", async () => {
  const before = await visit.stored();
  await visit.page.evaluate(() => {
    const cancel = document.getElementById("cancel") as HTMLButtonElement;
    new MutationObserver((_, observer) => {
      if (cancel.disabled) return;
      observer.disconnect();
      cancel.click();
    }).observe(cancel, { attributes: true });
  });
  assert.match((await visit.import("folder", join(BUNDLES, "onnx-unpruned")))!, /was stopped; nothing of it is left/);
  assert.deepEqual(await visit.stored(), before);
});

test("a changed byte is found, and nothing of the bundle stays", async () => {
  const folder = copyOf("onnx-int4", "damaged");
  const weights = readFileSync(join(folder, "weights.bin"));
  weights[weights.length >> 1] ^= 1;
  writeFileSync(join(folder, "weights.bin"), weights);
  const before = await visit.stored();
  assert.match((await visit.import("folder", folder))!, /^damaged: 'weights.bin' is damaged/);
  assert.deepEqual(await visit.stored(), before);
  assert.equal(await visit.page.locator("#problem").isVisible(), true);
});

test("what is no bundle is refused in words", async () => {
  assert.match((await visit.import("folder", join(FILES, "stream")))!, /manifest.json does not exist/);
  assert.match((await visit.import("zip", join(FILES, "steps/photo-1.png")))!, /archive cannot be read/);
  assert.match((await visit.give("pick", join(FILES, "picture/too-wide.png")))!, /one side may be at most 200 times/);
});

test("a disk that is full ends the copy in words, and nothing stays", async () => {
  const before = await visit.stored();
  const protocol = await visit.context.newCDPSession(visit.page);
  const { origin } = new URL(site.address);
  const { usage } = await protocol.send("Storage.getUsageAndQuota", { origin });
  await protocol.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: usage + 2 ** 20 });
  assert.match((await visit.import("folder", join(BUNDLES, "onnx-unpruned")))!, /26 MiB, and .* storage is full/);
  assert.deepEqual(await visit.stored(), before);
  await protocol.send("Storage.overrideQuotaForOrigin", { origin });
});

test("where the browser tells that there is no room, nothing is copied", async () => {
  const before = await visit.stored();
  const worker = visit.worker();
  await worker.evaluate(() => {
    navigator.storage.estimate = async () => ({ quota: 30 * 2 ** 20, usage: 20 * 2 ** 20 });
  });
  const problem = await visit.import("folder", join(BUNDLES, "onnx-unpruned"));
  assert.match(problem!, /needs 26 MiB of this browser's storage, and 10 are free/);
  assert.deepEqual(await visit.stored(), before);
  await worker.evaluate(() => delete (navigator.storage as Partial<StorageManager>).estimate);
});

test("stop ends an answer within a token, and the conversation goes on", async () => {
  const folder = endless();
  assert.equal(await visit.import("folder", folder), null);
  await visit.choose(FILES, "steps/photo-3.png");
  await visit.page.evaluate(() => {
    const pieces: string[] = ((globalThis as Json).pieces = []);
    const turns = document.getElementById("turns")!;
    const note = (): void => void pieces.push(turns.querySelector("p")?.textContent ?? "");
    new MutationObserver(note).observe(turns, { childList: true, subtree: true });
  });
  const whole = await visit.ask("Describe the picture.", "endless");
  assert.deepEqual([whole.tokens.length, whole.end], [32, "limit"]);
  const streamed: string[] = await visit.page.evaluate(() => [...new Set<string>((globalThis as Json).pieces)]);
  assert.ok(streamed.length > 8, streamed.join("\n")); // it came piece by piece
  assert.ok(streamed.every((text) => text === "…" || whole.text.startsWith(text)));
  await visit.choose(FILES, "steps/photo-3.png");
  await visit.page.evaluate(() => {
    new MutationObserver((_, observer) => {
      if (document.querySelector("#turns p")?.textContent === "…") return;
      observer.disconnect();
      document.getElementById("stop")!.click();
    }).observe(document.getElementById("turns")!, { childList: true, subtree: true });
  });
  const answer = await visit.ask("Describe the picture.");
  assert.equal(answer.end, "stopped");
  assert.ok(answer.tokens.length < 16, `${answer.tokens.length} tokens`); // the observer is not the first to hear
  assert.deepEqual(answer.tokens, whole.tokens.slice(0, answer.tokens.length));
  assert.match((await visit.page.textContent("#turns"))!, /It was stopped/);
  assert.equal((await visit.ask("Why?")).stages.length, 0);
});

test("pruned against unpruned", async () => {
  await visit.choose(FILES, "steps/photo-1.png");
  const compared = await visit.compare("tiny-unpruned", "tiny-pruned");
  assert.match(
    compared,
    /tiny-unpruned.*First token.*KV caches.*144 of 144.*tiny-pruned.*First token.*KV caches.*16 of 144/s,
  );
  assert.match(compared, /the first token takes \d+ % of the time, and the KV caches \d+ % of the bytes\.$/);
  await visit.screenshot("compare");
});

test("a benchmark, and its file", async () => {
  await visit.tab("Benchmark");
  for (const box of await visit.page.locator("#subjects input").all()) {
    await box.setChecked(SHIPPED.includes((await box.getAttribute("value"))!));
  }
  await visit.page.getByLabel("Rounds").fill("2");
  await visit.page.getByLabel("Tokens after the first").fill("2");
  await visit.page.locator("#measure").click();
  assert.equal(await visit.ready(), null);
  assert.equal(await visit.page.locator("#figures tbody tr").count(), 6);
  const [download] = await Promise.all([
    visit.page.waitForEvent("download"),
    visit.page.getByRole("link", { name: "Save as JSON" }).click(),
  ]);
  await download.saveAs(join(OUTPUT, "profile.json"));
  await visit.screenshot("benchmark");
});

test("a benchmark can be stopped", async () => {
  await visit.page.getByLabel("Rounds").fill("50");
  const profile = await visit.demo((demo) => demo.profile.created);
  await visit.page.locator("#measure").click();
  await visit.page.locator("#cancel").click();
  assert.equal(await visit.ready(), null);
  assert.equal(await visit.demo((demo) => demo.profile.created), profile);
  await visit.tab("Ask");
});

test("what breaks down is said, and the next question works", async () => {
  await visit.page.locator("#bundle").selectOption("endless");
  await visit.worker().evaluate(() => {
    const breakDown = (): void => {
      throw new Error("a part of it is gone");
    };
    addEventListener("message", breakDown, { once: true }); // as the question comes: an answer may be a short one
  });
  await visit.page.locator("#ask").click();
  assert.match((await visit.ready())!, /broken down: .*a part of it is gone/);
  assert.ok((await visit.ask(QUESTION, "tiny-pruned")).tokens.length > 0);
});

test("the keyboard, names for a screen reader, and the dark", async () => {
  const { page } = visit;
  await page.getByRole("tab", { name: "Ask" }).focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.getByRole("tabpanel", { name: "Compare" }).isVisible(), true);
  await page.keyboard.press("ArrowLeft");
  await page.getByRole("textbox", { name: "Question" }).fill(QUESTION);
  await page.keyboard.press("Enter");
  assert.equal(await visit.ready(), null);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLInputElement>("input, select, button, canvas, progress")]
      .filter((each) => !each.labels?.length && !each.textContent?.trim() && !each.ariaLabel)
      .map((each) => each.id),
  );
  assert.deepEqual(nameless, []);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(wider, false, "the page scrolls sideways");
  const background = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await background(), "rgb(255, 255, 255)");
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await background(), "rgb(20, 23, 26)");
  await visit.screenshot("dark");
});

test("nothing is asked of anybody else, and the policy forbids it", async () => {
  const { origin } = new URL(site.address);
  const elsewhere = visit.asked.filter((address) => !address.startsWith(origin) && !address.startsWith("blob:"));
  assert.deepEqual(elsewhere, []);
  assert.deepEqual(visit.errors, []);
  await forbidden(visit);
});

test("behind its flag the GPU answers, or the page says that there is none", async () => {
  const page = await visit.context.newPage();
  await page.goto(`${site.address}?webgpu`);
  await page.waitForFunction(() => (globalThis as Json).demo?.phase === "ready");
  assert.match((await page.textContent("#surroundings"))!, /^WebGPU, /);
  await page.locator("#bundle").selectOption("tiny-pruned");
  await page.locator("#ask").click();
  await page.waitForFunction(() => (globalThis as Json).demo.phase === "ready");
  if (await page.evaluate(async () => (await (navigator as Json).gpu?.requestAdapter()) != null)) {
    assert.ok(await page.evaluate(() => (globalThis as Json).demo.turns[0].answer.tokens.length > 0));
  } else {
    assert.match((await page.textContent("#problem"))!, /cannot be loaded: .*webgpu/i);
  }
  await page.close();
});

test("without a network the page opens and answers", async () => {
  await visit.page.close();
  await site.close();
  const page = await visit.context.newPage();
  await page.goto(site.address);
  await page.waitForFunction(() => (globalThis as Json).demo?.phase === "ready");
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  await page.locator("#bundle").selectOption("tiny-pruned");
  await page.locator("#ask").click();
  await page.waitForFunction(() => (globalThis as Json).demo.turns[0]?.answer);
  assert.deepEqual(
    await page.evaluate(() => (globalThis as Json).demo.turns[0].answer.tokens),
    results["photo"].tokens,
  );
  await visit.close();
});

test("a host without headers costs threads at the first visit only", async () => {
  const plain = await serve({ "/somewhere": DIST });
  const guest = await Visit.open(browser, `${plain.address}somewhere/`);
  assert.match((await guest.page.textContent("#surroundings"))!, /^CPU, 1 thread \(/);
  assert.deepEqual((await guest.ask(QUESTION)).tokens, results["photo"].tokens);
  await forbidden(guest);
  await guest.page.reload();
  await guest.ready();
  assert.match((await guest.page.textContent("#surroundings"))!, /^CPU, [2-4] threads$/);
  assert.deepEqual((await guest.ask(QUESTION)).tokens, results["photo"].tokens);
  await guest.close();
  await plain.close();
});

test("a bundle that is too large for the tab's memory is refused before it is read", async () => {
  const host = await serve({ "/": DIST }, wantedHeaders(DIST));
  const guest = await Visit.open(browser, host.address, (context) =>
    context.addInitScript(() => Object.defineProperty(navigator, "deviceMemory", { value: 0.25 })),
  );
  assert.match(
    (await guest.import("folder", join(BUNDLES, "onnx-pruned")))!,
    /needs about 1\d\d MiB of memory, and this page may take 128/,
  );
  assert.deepEqual(await guest.stored(), SHIPPED);
  await guest.close();
  await host.close();
});

test("without HTTPS it answers from memory", async () => {
  const host = await serve({ "/": DIST });
  const other = await launch("--host-resolver-rules=MAP vlmp.example 127.0.0.1");
  const guest = await Visit.open(other, `http://vlmp.example:${host.port}/`);
  assert.equal(await guest.page.evaluate(() => isSecureContext), false);
  assert.deepEqual((await guest.ask(QUESTION)).tokens, results["photo"].tokens);
  await guest.tab("Bundles");
  assert.equal(await guest.page.locator("#keeps").isVisible(), true);
  await other.close();
  await host.close();
});

/** Keeps what is said of progress, and the bar's values. It runs in the page, before its own scripts. */
function noteProgress(): void {
  const [said, shares]: [string[], number[]] = [[], []];
  Object.assign(globalThis, { said, shares });
  new MutationObserver(() => {
    const text = document.getElementById("progress-label")?.textContent ?? "";
    if (text !== "" && said.at(-1) !== text) said.push(text);
    shares.push((document.getElementById("progress") as HTMLProgressElement | null)?.value ?? 0);
  }).observe(document, { attributes: true, characterData: true, childList: true, subtree: true });
}

/** How light a drawn photo is near the corner of each cell of a grid, where no number stands. */
function cells(canvas: string, grid: number): Promise<number[]> {
  return visit.page.locator(canvas).evaluate((element, size) => {
    const { width, height } = element as HTMLCanvasElement;
    const context = (element as HTMLCanvasElement).getContext("2d")!;
    return Array.from({ length: size * size }, (_, cell) => {
      const [row, column] = [Math.floor(cell / size), cell % size];
      const [x, y] = [((column + 0.15) * width) / size, ((row + 0.15) * height) / size];
      return context
        .getImageData(Math.floor(x), Math.floor(y), 1, 1)
        .data.slice(0, 3)
        .reduce((sum, value) => sum + value, 0);
    });
  }, grid);
}

/** A bundle to be changed. */
function copyOf(name: string, copy: string): string {
  const folder = join(OUTPUT, copy);
  rmSync(folder, { recursive: true, force: true });
  cpSync(join(BUNDLES, name), folder, { recursive: true });
  return folder;
}

/** A bundle that goes on after its end token, and shows it: vlmp-tiny's own answers are too short to be stopped. */
function endless(): string {
  const folder = copyOf("onnx-pruned", "endless");
  const [manifest, tokenizer]: Json[] = ["manifest.json", "tokenizer.json"].map((name) =>
    JSON.parse(readFileSync(join(folder, name), "utf8")),
  );
  for (const token of tokenizer.added_tokens) token.special = false;
  const changed = Buffer.from(JSON.stringify(tokenizer));
  writeFileSync(join(folder, "tokenizer.json"), changed);
  const file = manifest.files.find(({ path }: Json) => path === "tokenizer.json");
  Object.assign(file, { size_bytes: changed.length, sha256: createHash("sha256").update(changed).digest("hex") });
  manifest.prompt.end_ids = [];
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  return folder;
}

/** Page and worker cannot reach anybody else, not even this machine under another name. */
async function forbidden(visitor: Visit): Promise<void> {
  const reach = (): Promise<string> =>
    fetch("http://127.0.0.1:9/").then(
      () => "reached",
      () => "refused",
    );
  const listen = (): void => {
    (globalThis as Json).violations = [];
    addEventListener("securitypolicyviolation", (event) => {
      (globalThis as Json).violations.push((event as SecurityPolicyViolationEvent).effectiveDirective);
    });
  };
  for (const place of [visitor.page, visitor.worker()] as const) {
    await (place as Json).evaluate(listen);
    assert.equal(await (place as Json).evaluate(reach), "refused");
    const violations: string[] = await (place as Json).evaluate(() => (globalThis as Json).violations);
    assert.deepEqual([...new Set(violations)], ["connect-src"]); // the page's own policy and the host's are two
  }
}
