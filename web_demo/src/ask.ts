import { firstTokenMs, isOrdered } from "vlmp-web";
import type { Demo, Turn } from "./demo.js";
import { offer, panel, part, time } from "./dom.js";
import { drawKept, onPadding, type Shown, stageInWords } from "./kept.js";

/** Asked where nobody has typed a question: what stands in the empty field. */
export const QUESTION = "What is in this picture?";

/** A photo, questions and answers, and which visual tokens were kept. Returns what draws it anew. */
export function askPage(demo: Demo): () => void {
  const canvas = part("photo", HTMLCanvasElement);
  const stage = part("stage", HTMLSelectElement);
  const shown = part("shown", HTMLInputElement);
  const bundle = part("bundle", HTMLSelectElement);
  const question = part("question", HTMLInputElement);
  const ask = part("ask", HTMLButtonElement);
  const log = part("turns", HTMLElement);
  const panels = new Map<Turn, HTMLElement>();
  let drawn: unknown; // what the slider is set to

  const inputs = ["pick", "take"].map((id) => part(id, HTMLInputElement));
  for (const input of inputs) {
    input.onchange = () => {
      const file = input.files?.[0];
      input.value = ""; // or the same photo could not be chosen again
      if (file !== undefined) void demo.choose(file);
    };
  }
  part("ask-form", HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    if (ask.disabled) return;
    const words = question.value.trim() || QUESTION;
    question.value = "";
    void demo.ask(bundle.value, words);
  };
  part("stop", HTMLButtonElement).onclick = () => demo.stop();
  bundle.onchange = draw;
  stage.onchange = () => {
    drawn = null;
    drawPhoto();
  };
  shown.oninput = drawPhoto;

  function draw(): void {
    const { photo, turns } = demo;
    part("photo-line", HTMLElement).textContent = photo && `${photo.name}, ${photo.width} × ${photo.height} pixels`;
    offer(
      bundle,
      demo.bundles.map(({ name }) => ({ value: name, text: name })),
    );
    for (const input of inputs) input.disabled = !demo.free;
    drawTurns(turns);
    log.ariaBusy = String(!demo.free); // a screen reader reads an answer when it is whole
    ask.textContent = demo.canReply(bundle.value) ? "Reply" : "Ask";
    ask.disabled = !demo.free || photo === null || bundle.value === "";
    part("stop", HTMLButtonElement).disabled = demo.phase !== "busy";
    const stages = demo.asked?.manifest.stages ?? [];
    offer(
      stage,
      stages.map((each, number) => ({ value: String(number), text: stageInWords(each) })),
    );
    part("stage-label", HTMLElement).hidden = stages.length < 2;
    if (demo.turns[0]?.answer !== drawn && stages.length > 0) stage.value = String(stages.length - 1);
    drawPhoto();
  }

  /** Parts that stay are not made anew: what reads the page aloud would begin again. */
  function drawTurns(turns: readonly Turn[]): void {
    for (const [turn, element] of panels) {
      if (turns.includes(turn)) continue;
      element.remove();
      panels.delete(turn);
    }
    for (const turn of turns) {
      const element = panels.get(turn) ?? log.appendChild(panel(turn.question, "", ""));
      panels.set(turn, element);
      const [text, quiet] = element.querySelectorAll("p");
      text.textContent = turn.text || "…";
      quiet.textContent = turn.answer === null ? "" : figures(turn.answer);
    }
  }

  function drawPhoto(): void {
    const { photo, asked } = demo;
    const answer = demo.turns[0]?.answer ?? null;
    part("kept", HTMLElement).hidden = answer === null || answer.stages.length === 0;
    if (photo === null) return;
    if (answer === null || asked === null || answer.stages.length === 0) {
      drawn = answer;
      drawKept(canvas, photo, null);
      return;
    }
    const number = Number(stage.value);
    const numbered = number === answer.stages.length - 1 && isOrdered(asked.manifest);
    const all = numbered ? answer.order : (answer.stages[number] ?? []);
    if (drawn !== answer) {
      drawn = answer;
      shown.max = String(all.length);
      shown.value = shown.max;
    }
    shown.hidden = !numbered;
    const what: Shown = {
      manifest: asked.manifest,
      tokens: numbered ? all.slice(0, Number(shown.value)) : all,
      numbered,
      before: answer.stages[number - 1] ?? [],
    };
    drawKept(canvas, photo, what);
    const padded = onPadding(photo, what);
    const counted = numbered
      ? `${what.tokens.length} of ${all.length} kept tokens, in the order of selection`
      : `${all.length} tokens`;
    const line = `${counted}, of ${asked.manifest.image.visualTokens} visual tokens`;
    part("shown-line", HTMLElement).textContent = padded > 0 ? `${line}; ${padded} on the bars` : line;
  }

  return draw;
}

function figures(answer: NonNullable<Turn["answer"]>): string {
  const { timings, tokens, end } = answer;
  const parts = [`first token ${time(firstTokenMs(timings))}`];
  if (timings.visionMs > 0) parts.push(`vision ${time(timings.visionMs)}`, `prefill ${time(timings.prefillMs)}`);
  const decode = timings.decodeMs.reduce((sum, ms) => sum + ms, 0) / timings.decodeMs.length;
  if (timings.decodeMs.length > 0) parts.push(`${time(decode)} a token`);
  parts.push(`${tokens.length} tokens`);
  const why = {
    finished: "",
    limit: " It has reached its limit.",
    full: " The conversation is full: the next question begins anew.",
    stopped: " It was stopped.",
  }[end];
  return `${parts.join(", ")}.${why}`;
}
