import { cacheBytes, firstTokenMs, isOrdered, isPruned } from "vlmp-web";
import { QUESTION } from "./ask.js";
import type { Demo } from "./demo.js";
import { make, offer, panel, part, size, time } from "./dom.js";
import { countsInWords, drawKept, stageInWords } from "./kept.js";
import type { Compared, StoredBundle } from "./protocol.js";

/** One question to two bundles, as an unpruned and a pruned one, or two schedules. Returns what draws it anew. */
export function comparePage(demo: Demo): () => void {
  const selects = { first: part("first-bundle", HTMLSelectElement), second: part("second-bundle", HTMLSelectElement) };
  const compare = part("compare", HTMLButtonElement);
  const compared = part("compared", HTMLElement);
  let drawn: readonly Compared[] = [];

  part("compare-form", HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    const words = part("compare-question", HTMLInputElement).value.trim() || QUESTION;
    if (!compare.disabled) void demo.compare([selects.first.value, selects.second.value], words);
  };

  for (const select of Object.values(selects)) select.onchange = draw;

  function draw(): void {
    // An unpruned one comes first on one side, a pruned one on the other.
    const [pruned, unpruned] = [true, false].map((wanted) =>
      demo.bundles.filter(({ manifest }) => isPruned(manifest) === wanted),
    );
    offerBundles(selects.first, [...unpruned, ...pruned]);
    offerBundles(selects.second, [...pruned, ...unpruned]);
    const chosen = selects.first.value !== "" && selects.first.value !== selects.second.value;
    compare.disabled = !demo.free || demo.photo === null || !chosen;
    if (drawn === demo.compared) return;
    drawn = demo.compared;
    compared.replaceChildren(...drawn.map((each) => comparedPanel(demo, each)), ...sum(drawn));
  }

  return draw;
}

function offerBundles(select: HTMLSelectElement, bundles: readonly StoredBundle[]): void {
  offer(
    select,
    bundles.map(({ name }) => ({ value: name, text: name })),
  );
}

function comparedPanel(demo: Demo, { bundle, answer }: Compared): HTMLElement {
  const { manifest, name } = bundle;
  const figures = [
    `First token ${time(firstTokenMs(answer.timings))}`,
    `Prefill ${time(answer.timings.prefillMs)}`,
    `KV caches ${size(cacheBytes(manifest))}`,
    countsInWords(manifest),
  ];
  const made = panel(name, answer.text, figures.join("\n"));
  made.prepend(...answer.stages.map((_, number) => stageFigure(demo, { bundle, answer }, number)));
  return made;
}

/** What a stage has kept, over the photo. */
function stageFigure(demo: Demo, { bundle, answer }: Compared, number: number): HTMLElement {
  const { manifest } = bundle;
  const canvas = make("canvas", { role: "img" });
  const numbered = number === answer.stages.length - 1 && isOrdered(manifest);
  const tokens = numbered ? answer.order : answer.stages[number];
  const shown = { manifest, tokens, numbered, before: answer.stages[number - 1] ?? [] };
  if (demo.photo !== null) drawKept(canvas, demo.photo, shown);
  if (answer.stages.length === 1) return canvas;
  return make("figure", {}, canvas, make("figcaption", { textContent: stageInWords(manifest.stages[number]) }));
}

function sum(compared: readonly Compared[]): HTMLElement[] {
  if (compared.length !== 2) return [];
  const [before, after] = compared;
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const first = percent(firstTokenMs(after.answer.timings) / firstTokenMs(before.answer.timings));
  const caches = percent(cacheBytes(after.bundle.manifest) / cacheBytes(before.bundle.manifest));
  const figures = `With ${after.bundle.name}, the first token takes ${first} of the time, and the KV caches ${caches} of the bytes.`;
  const [one, other] = compared.map(({ bundle }) => bundle.manifest);
  const differ = one.model !== other.model || one.image.visualTokens !== other.image.visualTokens;
  const warning = differ ? " But the two are not of one model and picture size." : "";
  return [make("p", { textContent: figures + warning })];
}
