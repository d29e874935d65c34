import sample from "../../runtimes/assets/photo.jpg?url";
import { askPage } from "./ask.js";
import { bundlesPage } from "./bundles.js";
import { Client } from "./client.js";
import { comparePage } from "./compare.js";
import { Demo } from "./demo.js";
import { part, size } from "./dom.js";
import { measurePage } from "./measure.js";
import { keepOffline } from "./offline.js";
import type { Progress } from "./protocol.js";
import { inWords, machine, surroundings } from "./surroundings.js";
import { tabs } from "./tabs.js";

const around = surroundings();
const demo = new Demo(new Client(around));
const pages = [
  askPage(demo),
  comparePage(demo),
  bundlesPage(demo),
  measurePage(demo, machine(around), around.threads),
  drawAround,
];

Object.assign(globalThis, { demo }); // for the console, and for tests
tabs();
part("surroundings", HTMLElement).textContent = inWords(around);
part("cancel", HTMLButtonElement).onclick = () => demo.stop();
demo.onChange(() => pages.forEach((draw) => draw()));
begin().catch((error: unknown) => demo.tell(`The page cannot begin: ${String(error)}`));

async function begin(): Promise<void> {
  showProgress("Downloading the page", 0, 0);
  await keepOffline((done, all) => showProgress("Downloading the page", done, all));
  const photo = new File([await (await fetch(sample)).blob()], "photo.jpg");
  await demo.start(await shipped(), photo);
}

/** Bundles that come with the page. Without a network there is nothing to import. */
async function shipped(): Promise<string[]> {
  try {
    const response = await fetch("bundles/index.json");
    return response.ok ? ((await response.json()) as string[]) : [];
  } catch {
    return [];
  }
}

/** What all pages have: how far a task is, and what went wrong. */
function drawAround(): void {
  const { problem, progress, phase } = demo;
  const line = part("problem", HTMLElement);
  line.hidden = problem === null;
  line.textContent = problem;
  part("cancel", HTMLButtonElement).disabled = phase !== "busy";
  if (progress === null) part("working", HTMLElement).hidden = phase !== "starting";
  else showProgress(says(progress), progress.done, progress.all);
}

function says({ what, name, done, all }: Progress): string {
  switch (what) {
    case "downloading":
      return `Downloading ${name}: ${size(done)}`;
    case "copying":
      return `Copying and checking ${name}: ${size(done)} of ${size(all)}`;
    case "loading":
      return `Loading ${name}`;
    case "answering":
      return `Asking ${name}`;
    case "measuring":
      return `Measuring: ${done} of ${all} runs`;
  }
}

/** all: 0 where nobody knows. */
function showProgress(text: string, done: number, all: number): void {
  const bar = part("progress", HTMLProgressElement);
  part("working", HTMLElement).hidden = false;
  part("progress-label", HTMLElement).textContent = text;
  if (all === 0) bar.removeAttribute("value");
  else bar.value = done / all;
}
