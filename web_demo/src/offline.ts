const PATIENCE_MS = 20_000; // without anything that comes in

/**
 * Lets the service worker keep the page, and waits until it answers for it: the first time all files come through it, so
 * that they are downloaded once. Where there is none, as without HTTPS, the page works all the same.
 */
export async function keepOffline(onProgress: (done: number, all: number) => void): Promise<void> {
  const container: ServiceWorkerContainer | undefined = navigator.serviceWorker;
  if (container === undefined || container.controller !== null) {
    container?.register("sw.js").catch(() => {}); // looks for a newer one, which is used from the next visit on
    return;
  }
  const controlled = new Promise<void>((resolve) => {
    let patience = setTimeout(resolve, PATIENCE_MS);
    container.addEventListener("controllerchange", () => resolve(), { once: true });
    container.addEventListener("message", ({ data }: MessageEvent<{ done: number; all: number }>) => {
      clearTimeout(patience);
      patience = setTimeout(resolve, PATIENCE_MS);
      onProgress(data.done, data.all);
    });
    container.startMessages();
  });
  try {
    const { installing } = await container.register("sw.js");
    const failed = new Promise<void>((resolve) => {
      installing?.addEventListener("statechange", () => installing.state === "redundant" && resolve());
    });
    await Promise.race([controlled, failed]);
  } catch {
    // A browser that forbids it: the page needs a network then.
  }
}
