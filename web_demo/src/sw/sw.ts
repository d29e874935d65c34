// Keeps the page's files, so that it opens without a network, and answers with the headers that a static host may not
// send. vite.config.ts puts KEPT before this script. Bundles are not kept here: they are in the browser's file system.
export {};

interface Kept {
  readonly version: string;
  /** Path and bytes of each file. */
  readonly files: readonly (readonly [string, number])[];
  readonly headers: Readonly<Record<string, string>>;
}

declare const self: ServiceWorkerGlobalScope & { readonly KEPT: Kept };

const { version, files, headers } = self.KEPT;
const OURS = `vlmp ${self.registration.scope} `; // other pages of the same host have caches, too
const NAME = OURS + version;
const all = files.reduce((sum, [, bytes]) => sum + bytes, 0);

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(takeOver()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && new URL(event.request.url).origin === self.location.origin) {
    event.respondWith(answer(event.request));
  }
});

async function keepAll(): Promise<void> {
  const cache = await caches.open(NAME);
  let done = 0;
  for (const [path] of files) {
    const response = await fetch(path, { cache: "no-cache" });
    if (!response.ok || response.body === null) throw new Error(`${path}: ${response.status}`);
    const blocks: Uint8Array<ArrayBuffer>[] = [];
    const reader = response.body.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      blocks.push(read.value);
      done += read.value.length;
      await tellPages(done);
    }
    const type = response.headers.get("Content-Type") ?? "application/octet-stream";
    await cache.put(path, new Response(new Blob(blocks), { headers: { ...headers, "Content-Type": type } }));
  }
}

/** Pages that are open already are served from now on, too. */
async function takeOver(): Promise<void> {
  for (const name of await caches.keys()) if (name.startsWith(OURS) && name !== NAME) await caches.delete(name);
  await self.clients.claim();
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(NAME);
  const kept = await cache.match(request.mode === "navigate" ? "index.html" : request, { ignoreSearch: true });
  if (kept !== undefined) return kept;
  const response = await fetch(request);
  // What is not kept gets the same headers, or a page with them could not use it. A worker whose
  // script had them twice would not start.
  const sent = new Headers(response.headers);
  for (const [name, value] of Object.entries(headers)) sent.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers: sent });
}

async function tellPages(done: number): Promise<void> {
  const pages = await self.clients.matchAll({ includeUncontrolled: true, type: "window" });
  for (const page of pages) page.postMessage({ done, all });
}
