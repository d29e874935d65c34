import { part } from "./dom.js";

/** Pages one at a time: by touch, or by the arrow keys as screen readers expect. */
export function tabs(): void {
  const list = part("tabs", HTMLElement);
  const all = [...list.querySelectorAll("button")];

  const select = (chosen: HTMLButtonElement): void => {
    for (const tab of all) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      part(tab.getAttribute("aria-controls")!, HTMLElement).hidden = !selected;
    }
  };

  for (const tab of all) tab.onclick = () => select(tab);
  list.onkeydown = ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step === undefined) return;
    const next = all[(all.findIndex((tab) => tab.tabIndex === 0) + step + all.length) % all.length];
    select(next);
    next.focus();
  };
}
