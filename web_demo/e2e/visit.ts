import assert from "node:assert/strict";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page, type Worker } from "playwright-core";

export type Json = any; // of the page's own objects

export const TOP = join(import.meta.dirname, "../../..");
export const DIST = join(TOP, "web_demo/dist");
export const FILES = join(TOP, "tests/conformance/files");
export const BUNDLES = required("VLMP_BUNDLES");
/** Where screenshots and results go. */
export const OUTPUT = required("VLMP_OUTPUT");

const PATIENCE_MS = 60_000; // the machine may be busy
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

function required(name: string): string {
  const value = process.env[name];
  assert.ok(value !== undefined, `${name} is not set`);
  return value;
}

export function launch(...more: string[]): Promise<Browser> {
  return chromium.launch({ executablePath: required("VLMP_BROWSER"), args: ["--no-sandbox", ...more] });
}

/** The page on a phone that has never been there, or has in this context. */
export class Visit {
  /** What the console said of errors, and where requests went. */
  readonly errors: string[] = [];
  readonly asked: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
  ) {}

  static async open(
    browser: Browser,
    address: string,
    prepare?: (context: BrowserContext) => Promise<unknown>,
  ): Promise<Visit> {
    const context = await browser.newContext({ ...PHONE, acceptDownloads: true });
    context.setDefaultTimeout(PATIENCE_MS);
    await prepare?.(context);
    const visit = new Visit(context, await context.newPage());
    visit.page.on("pageerror", (error) => visit.errors.push(error.message));
    visit.page.on("console", (message) => message.type() === "error" && visit.errors.push(message.text()));
    context.on("request", (request) => visit.asked.push(request.url()));
    await visit.page.goto(address);
    await visit.ready();
    return visit;
  }

  /** Waits until nothing runs. Returns what went wrong, null where nothing did. */
  async ready(): Promise<string | null> {
    await this.page.waitForFunction(() => (globalThis as Json).demo?.phase === "ready");
    return this.demo((demo) => demo.problem);
  }

  /** A value of the page's own state. */
  demo<Value>(read: (demo: Json) => Value): Promise<Value> {
    return this.page.evaluate(`(${read.toString()})(globalThis.demo)`);
  }

  /** The worker that computes, not those of its runtime. */
  worker(): Worker {
    return this.page.workers().findLast((worker) => worker.url().includes("main-"))!;
  }

  async tab(name: string): Promise<void> {
    await this.page.getByRole("tab", { name }).click();
  }

  /** Asks, or replies, and waits for the answer. Fails where the page says that something went wrong. */
  async ask(words: string, bundle?: string): Promise<Json> {
    if (bundle !== undefined) await this.page.locator("#bundle").selectOption(bundle);
    await this.page.getByRole("textbox", { name: "Question" }).fill(words);
    await this.page.locator("#ask").click();
    assert.equal(await this.ready(), null);
    return this.demo((demo) => demo.turns.at(-1).answer);
  }

  /** Puts the question to two bundles. Returns what the page says of it. */
  async compare(first: string, second: string): Promise<string> {
    await this.tab("Compare");
    await this.page.locator("#first-bundle").selectOption(first);
    await this.page.locator("#second-bundle").selectOption(second);
    await this.page.locator("#compare").click();
    assert.equal(await this.ready(), null);
    assert.equal(await this.page.locator("#compared article").count(), 2);
    return (await this.page.textContent("#compared"))!;
  }

  async choose(...path: string[]): Promise<void> {
    assert.equal(await this.give("pick", join(...path)), null);
  }

  /** Imports a folder or a zip. Returns what went wrong. */
  async import(input: "folder" | "zip", path: string): Promise<string | null> {
    await this.tab("Bundles");
    const problem = await this.give(input, path);
    await this.tab("Ask");
    return problem;
  }

  /** Hands a file or folder to an input. Returns what went wrong. */
  async give(input: string, path: string): Promise<string | null> {
    const heard = this.page.evaluate(
      (id) =>
        new Promise((resolve) => document.getElementById(id)!.addEventListener("change", resolve, { once: true })),
      input,
    );
    await this.page.locator(`#${input}`).setInputFiles(path); // the page hears of a folder later
    await heard;
    return this.ready();
  }

  bundles(): Promise<string[]> {
    return this.demo((demo) => demo.bundles.map((bundle: Json) => bundle.name));
  }

  /** Folders in the browser's private file system, complete or not. */
  stored(): Promise<string[]> {
    return this.page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const names: string[] = [];
      for await (const name of ((await root.getDirectoryHandle("vlmp-bundles")) as Json).keys()) names.push(name);
      return names.sort();
    });
  }

  async screenshot(name: string): Promise<void> {
    await this.page.screenshot({ path: join(OUTPUT, `${name}.png`), fullPage: true });
  }

  async close(): Promise<void> {
    await this.context.close();
  }
}
