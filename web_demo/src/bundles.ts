import { sizeBytes } from "vlmp-web";
import type { Demo } from "./demo.js";
import { make, part, size } from "./dom.js";
import { countsInWords } from "./kept.js";
import type { StoredBundle } from "./protocol.js";

/** What is in the store, and how more comes in. Returns what draws it anew. */
export function bundlesPage(demo: Demo): () => void {
  const folder = part("folder", HTMLInputElement);
  const zip = part("zip", HTMLInputElement);
  const list = part("bundles", HTMLUListElement);

  folder.onchange = () => {
    // Each path begins with the name of the folder that was chosen.
    const files = [...(folder.files ?? [])].map((file) => [file.webkitRelativePath, file] as const);
    const name = files[0]?.[0].split("/")[0] ?? "";
    folder.value = "";
    if (files.length > 0) void demo.import({ kind: "folder", name, files });
  };
  zip.onchange = () => {
    const file = zip.files?.[0];
    zip.value = "";
    if (file !== undefined) void demo.import({ kind: "zip", name: file.name.replace(/\.zip$/i, ""), file });
  };

  return () => {
    part("keeps", HTMLElement).hidden = demo.keeps;
    for (const input of [folder, zip]) input.disabled = !demo.free;
    list.replaceChildren(...demo.bundles.map((bundle) => item(demo, bundle)));
  };
}

function item(demo: Demo, { name, manifest }: StoredBundle): HTMLElement {
  const { model, quantization } = manifest;
  const tokens = countsInWords(manifest);
  const weights = quantization === "none" ? manifest.precision : quantization;
  return make(
    "li",
    { className: "panel" },
    make("h2", { textContent: name }),
    make("p", { className: "figures", textContent: `${model}, ${weights}, ${tokens}, ${size(sizeBytes(manifest))}` }),
    make("button", {
      type: "button",
      textContent: "Delete",
      ariaLabel: `Delete ${name}`,
      disabled: !demo.free,
      onclick: () => void demo.delete(name),
    }),
  );
}
