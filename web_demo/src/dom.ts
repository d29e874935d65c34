/** A part of the page by its id. */
export function part<Type extends HTMLElement>(id: string, type: new () => Type): Type {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} ${id}`);
  return found;
}

/** A new element. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Partial<HTMLElementTagNameMap[Tag]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Offers these values, and keeps what is chosen where it still is one of them. */
export function offer(select: HTMLSelectElement, options: readonly { value: string; text: string }[]): void {
  const same = [...select.options].map((option) => option.value + option.text).join("\n");
  if (same === options.map(({ value, text }) => value + text).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...options.map((option) => make("option", option)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

/** A panel with a heading, a text and quiet figures. */
export function panel(head: string, text: string, figures: string): HTMLElement {
  return make(
    "article",
    { className: "panel" },
    make("h2", { textContent: head }),
    make("p", { textContent: text }),
    make("p", { className: "figures", textContent: figures }),
  );
}

/** Milliseconds as people read them. */
export function time(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Bytes as people read them. */
export function size(bytes: number): string {
  return bytes < 2 ** 20 ? `${(bytes / 2 ** 10).toFixed(0)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
