import { isPruned, type Machine } from "vlmp-web";
import { QUESTION } from "./ask.js";
import type { Demo } from "./demo.js";
import { make, part, time } from "./dom.js";

/** The parts of a profile that the page shows. */
interface Profile {
  readonly created: string;
  readonly bundles: readonly {
    readonly name: string;
    readonly phases: Readonly<Record<string, { median_ms: number }>>;
  }[];
}

const PHASES = [
  ["load_warm", "Loading"],
  ["preprocess", "Fitting the photo"],
  ["vision", "Vision"],
  ["prefill", "Prefill"],
  ["first_token", "First token"],
  ["decode", "A token"],
] as const;

/** Times bundles in turns. Returns what draws it anew. */
export function measurePage(demo: Demo, machine: Machine, threads: number): () => void {
  const subjects = part("subjects", HTMLFieldSetElement);
  const measure = part("measure", HTMLButtonElement);
  const figures = part("figures", HTMLElement);
  let drawn: object | null = null;
  let offered = "";

  const chosen = (): string[] =>
    [...subjects.querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value);
  const number = (id: string): number => part(id, HTMLInputElement).valueAsNumber;
  part("benchmark-form", HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    if (measure.disabled) return;
    const settings = { runs: number("runs"), decodeTokens: number("tokens"), threads, prompt: QUESTION };
    void demo.measure(chosen(), settings, machine);
  };
  subjects.onchange = draw;

  function draw(): void {
    const unprunedFirst = [...demo.bundles].sort(
      (one, other) => Number(isPruned(one.manifest)) - Number(isPruned(other.manifest)),
    );
    const names = unprunedFirst.map(({ name }) => name); // the first is what the others are compared with
    if (names.join() !== offered) {
      offered = names.join();
      const boxes = names.map((name) =>
        make("label", {}, make("input", { type: "checkbox", value: name, checked: true }), name),
      );
      subjects.replaceChildren(subjects.firstElementChild!, ...boxes);
    }
    measure.disabled = !demo.free || demo.photo === null || chosen().length === 0;
    if (drawn === demo.profile || demo.profile === null) return;
    drawn = demo.profile;
    figures.replaceChildren(table(drawn as Profile), link(drawn as Profile));
  }

  return draw;
}

function table({ bundles }: Profile): HTMLElement {
  const head = make(
    "tr",
    {},
    make("th", { textContent: "Median" }),
    ...bundles.map(({ name }) => make("th", { textContent: name })),
  );
  const rows = PHASES.map(([phase, name]) =>
    make(
      "tr",
      {},
      make("th", { textContent: name, scope: "row" }),
      ...bundles.map(({ phases }) => make("td", { textContent: time(phases[phase].median_ms) })),
    ),
  );
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

/** The whole of it, for `vlmp-profile --device browser --import`. */
function link(profile: Profile): HTMLElement {
  const file = new Blob([JSON.stringify(profile)], { type: "application/json" });
  return make("a", {
    className: "button",
    textContent: "Save as JSON",
    href: URL.createObjectURL(file),
    download: `vlmp-${profile.created.replaceAll(/[:.]/g, "-")}.json`,
  });
}
