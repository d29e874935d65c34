import { cacheBytes, firstTokenMs, isPruned } from "vlmp-web";
import { QUESTION } from "./ask.js";
import type { Demo } from "./demo.js";
import { make, offer, panel, part, size, time } from "./dom.js";
import { countsInWords, drawKept } from "./kept.js";
import type { Compared, StoredBundle } from "./protocol.js";

/** One question to an unpruned and a pruned bundle, and what each takes. Returns what draws it anew. */
export function comparePage(demo: Demo): () => void {
  const selects = { unpruned: part("unpruned", HTMLSelectElement), pruned: part("pruned", HTMLSelectElement) };
  const compare = part("compare", HTMLButtonElement);
  const compared = part("compared", HTMLElement);
  let drawn: readonly Compared[] = [];

  part("compare-form", HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    const words = part("compare-question", HTMLInputElement).value.trim() || QUESTION;
    if (!compare.disabled) void demo.compare([selects.unpruned.value, selects.pruned.value], words);
  };

  return () => {
    offerBundles(
      selects.unpruned,
      demo.bundles.filter(({ manifest }) => !isPruned(manifest)),
    );
    offerBundles(
      selects.pruned,
      demo.bundles.filter(({ manifest }) => isPruned(manifest)),
    );
    const chosen = selects.unpruned.value !== "" && selects.pruned.value !== "";
    compare.disabled = !demo.free || demo.photo === null || !chosen;
    if (drawn === demo.compared) return;
    drawn = demo.compared;
    compared.replaceChildren(...drawn.map((each) => comparedPanel(demo, each)), ...sum(drawn));
  };
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
  const canvas = make("canvas", { role: "img" });
  const shown = { manifest, tokens: answer.order, numbered: isPruned(manifest), before: answer.stages.at(-2) ?? [] };
  if (demo.photo !== null) drawKept(canvas, demo.photo, shown);
  made.prepend(canvas);
  return made;
}

function sum(compared: readonly Compared[]): HTMLElement[] {
  if (compared.length !== 2) return [];
  const [before, after] = compared;
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const first = percent(firstTokenMs(after.answer.timings) / firstTokenMs(before.answer.timings));
  const caches = percent(cacheBytes(after.bundle.manifest) / cacheBytes(before.bundle.manifest));
  const figures = `Pruned, the first token takes ${first} of the time, and the KV caches ${caches} of the bytes.`;
  const [one, other] = compared.map(({ bundle }) => bundle.manifest);
  const differ = one.model !== other.model || one.image.visualTokens !== other.image.visualTokens;
  const warning = differ ? " But the two are not of one model and picture size." : "";
  return [make("p", { textContent: figures + warning })];
}
