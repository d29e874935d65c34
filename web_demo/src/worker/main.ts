// All computing of the page. Orders are done one at a time; "stop" ends the one that runs.
import { oneLine, Stopped, VlmpError } from "vlmp-web";
import type { FromWorker, Order, ToWorker } from "../protocol.js";
import { Engine, type Teller } from "./engine.js";

let engine: Engine | null = null;
let last: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<ToWorker>): void => {
  if (data === "stop") engine?.stop();
  else last = last.then(() => carryOut(data));
};

async function carryOut(order: Order): Promise<void> {
  const { number } = order;
  try {
    engine?.begin();
    tell({ number, kind: "done", value: await act(order, tellerOf(number)) });
  } catch (error) {
    const lost = !(error instanceof VlmpError);
    if (lost) await engine?.unload(); // nobody knows what state it is in
    tell({ number, kind: "failed", message: inWords(error), lost });
  }
}

async function act(order: Order, teller: Teller): Promise<unknown> {
  if (order.task === "start") {
    engine = await Engine.open(order.takes);
    return { keeps: engine.keeps, bundles: await engine.bundles() };
  }
  if (engine === null) throw new Error("the worker has not been started");
  switch (order.task) {
    case "import":
      return engine.import(order.takes, teller);
    case "delete":
      return engine.delete(order.takes);
    case "photo":
      return engine.open(order.takes);
    case "ask":
      return engine.ask(order.takes, teller);
    case "compare":
      return engine.compare(order.takes, teller);
    case "measure":
      return engine.measure(order.takes, teller);
  }
}

function inWords(error: unknown): string {
  if (error instanceof VlmpError) return error.message;
  if (error instanceof Stopped) return "It was stopped.";
  const text = oneLine(error);
  const isMemory = error instanceof RangeError || /out of memory|allocation failed|bad_alloc/i.test(text);
  return isMemory ? "Memory ran out. Close other tabs, or choose a smaller bundle." : `Something failed: ${text}`;
}

function tellerOf(number: number): Teller {
  return {
    progress: (progress) => tell({ number, kind: "progress", progress }),
    text: (piece) => tell({ number, kind: "text", piece }),
  };
}

function tell(what: FromWorker): void {
  self.postMessage(what);
}
