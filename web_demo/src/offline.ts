const PATIENCE_MS = 60_000;

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
    container.addEventListener("controllerchange", () => resolve(), { once: true });
    container.addEventListener("message", ({ data }: MessageEvent<{ done: number; all: number }>) => {
      onProgress(data.done, data.all);
    });
    container.startMessages();
    setTimeout(resolve, PATIENCE_MS);
  });
  try {
    await container.register("sw.js");
    await controlled;
  } catch {
    // A browser that forbids it: the page needs a network then.
  }
}
