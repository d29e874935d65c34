"""Accuracy of vlmp-tiny under every pruning method, with ablations and on every runtime: `docs/results/accuracy.md`.

    python benchmarks/accuracy.py [--questions 2004] [--seed 7] [--part methods ...] [--work build/accuracy]

Answers are kept in the work folder: an interrupted run goes on where it stopped. The tables in the document are written
between its marks; the words around them are not touched.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor
from vlmp.evaluation.cli import line
from vlmp.evaluation.data import DataSet, open_dataset
from vlmp.evaluation.identity import EAGER_PACKAGES, EAGER_SOURCES, checkpoint_digests, program
from vlmp.evaluation.report import Row, listed, percent, plot, summarize
from vlmp.evaluation.run import Answered, VisionCache, answer, ask
from vlmp.evaluation.scenes import make_scene
from vlmp.evaluation.scenes.labels import covered
from vlmp.evaluation.subjects import Subject, bundle_subjects, eager_subject, eager_subjects, fit_text
from vlmp.export.checkpoint import locate
from vlmp.export.config import ExportConfig, Precision
from vlmp.export.eager import open_eager
from vlmp.export.models import model_entry
from vlmp.export.models.decoder import Prefill
from vlmp.export.pipeline import export
from vlmp.export.schedule import DEFAULT_KEEP
from vlmp.export.targets import open_target
from vlmp.pruner import PRUNERS, Pruner
from vlmp.pruner.ops import stable_order
from vlmp.pruner.vlm_pruner import VlmPruner
from vlmp.runtimes.bundle.writing import exclusive
from vlmp.runtimes.chat import Chat
from vlmp.runtimes.console.streams import quiet_libraries
from vlmp.runtimes.draw import draw_kept
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.prompt import first_ids
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.traits import traits_of

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/results/accuracy.md"
MODEL = "vlmp-tiny"
PARTS = ("methods", "ablations", "exports", "pictures", "coverage")
KEEPS = (0.333, 0.222, DEFAULT_KEEP)
SEEDS = 3
PUBLISHED = "vlm-pruner,settings=published"
"""VLM-Pruner as its authors' code has it; by itself its settings follow the number of kept tokens."""
EXPORTS: tuple[tuple[str, Precision, str], ...] = (
    ("onnx", "float32", "none"), ("onnx", "float32", "int8"), ("onnx", "float32", "int4"),
    ("executorch", "float32", "none"), ("executorch", "float32", "int8"), ("executorch", "float32", "int4"),
    ("coreml", "float32", "none"), ("coreml", "float16", "none"), ("coreml", "float16", "int8"),
    ("coreml", "float16", "int4"), ("coreml", "float16", "palette4"),
)  # fmt: skip
"""Target, precision, quantization."""
EXPORT_SOURCES = (*EAGER_SOURCES, *(f"vlmp.export.targets{name}" for name in ("", ".onnx", ".coreml")))
INTERPRETED_QUESTIONS = 120
"""Core ML off macOS is interpreted op by op, which takes seconds an answer."""
SCENES = 100
"""Scenes whose kept tokens are looked at."""
PICTURES = ((7, 0), (7, 1), (7, 2))
"""Seed and index of the test scenes in the README."""
BASE = ExportConfig(model=MODEL, targets=(), output=Path(), text_len=16, max_new_tokens=8)


# --- Ablations: VLM-Pruner with one idea taken away -------------------------------------------------------------------


class NormPivots(VlmPruner):
    """Pivots are the keys of largest norm, however close they are to each other."""

    def pivots(self, keys_NC: Tensor) -> list[Tensor]:
        """The `pivots` keys of largest L1 norm. Indices, each int64 [1]."""
        return list(stable_order(-keys_NC.abs().sum(-1))[: self.config.pivots].split(1))


class PatchGrid(VlmPruner):
    """Distances as in the authors' evaluation of Qwen2-VL: tokens counted along the patch grid, twice as wide."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        height, width = (2 * side for side in self.grid)
        index_N = torch.arange(self.grid[0] * self.grid[1])
        place_N2 = torch.stack([index_N // width, index_N % width], -1).float()
        self.distance_RN[: len(index_N)] = torch.cdist(place_N2, place_N2) / (height**2 + width**2) ** 0.5


def variant(label: str, kind: type[VlmPruner], config: ExportConfig) -> Subject:
    """A subject whose pruner is another class than the registry's."""

    def open_variant() -> Chat:
        chat = open_eager(config, counted=True)
        pruners = cast(Prefill, cast(TorchSession, chat.session).methods["prefill"]).pruners
        (own,) = (cast(Pruner, module) for module in pruners)
        pruners[0] = kind(own.grid, own.config, own.loop)
        return chat

    return replace(eager_subject(config, label), open=open_variant)


# --- Parts ------------------------------------------------------------------------------------------------------------


def methods(config: ExportConfig) -> list[Subject]:
    """Every method at every kept share."""
    return eager_subjects(config, [*PRUNERS, PUBLISHED], KEEPS, SEEDS)


def ablations(config: ExportConfig) -> list[Subject]:
    """VLM-Pruner as published, without each of its ideas, and at other layers."""
    config = replace(config, pruner=PUBLISHED, keep=DEFAULT_KEEP)
    return [
        eager_subject(config),
        eager_subject(config, "vlm-pruner without BSS term", bss_weight=0.0),
        eager_subject(config, "vlm-pruner without fusion", fuse_weight=1.0),
        variant("vlm-pruner with norm pivots", NormPivots, config),
        variant("vlm-pruner on the patch grid", PatchGrid, config),
        *(eager_subject(replace(config, prune_layer=layer)) for layer in (1, 3, 4)),
        eager_subject(replace(config, pruner="uniform", prune_layer=0)),
        eager_subject(replace(config, pruner="divprune", prune_layer=2)),
    ]


def exports(config: ExportConfig, work: Path) -> list[Subject]:
    """Pruned bundles of every target, made where those of this checkpoint, program and settings are missing."""
    bundles = []
    origin = checkpoint_digests(locate(model_entry(MODEL).checkpoint)), program(EXPORT_SOURCES, EAGER_PACKAGES)
    config = replace(config, pruner="vlm-pruner", keep=DEFAULT_KEEP)
    for target, precision, quant in EXPORTS:
        kind = open_target(target)
        recipe = repr((origin, config, kind.presets.get(quant), kind.tools())).encode()
        folder = work / "bundles" / f"{target}-{precision}-{quant}-{sha256(recipe).hexdigest()[:12]}"
        if not folder.exists():
            print(f"exporting {folder.name}", flush=True)
            export(replace(config, targets=(target,), output=folder, precision=precision, quant=quant))
        bundles.append(folder)
    return bundle_subjects(bundles, None)


def coverage(config: ExportConfig, seed: int) -> str:
    """What is on the kept tokens of scenes with one code, as a table: things, and digits of the code."""
    places = (
        ("vlm-pruner", 2), (PUBLISHED, 2), (PUBLISHED, 4), ("divprune", 0), ("divprune", 2), ("fastv", 2),
        ("random", 2),
    )  # fmt: skip
    scenes = (make_scene("test", seed, index) for index in count())
    scenes = list(islice((scene for scene in scenes if sum(item.is_code for item in scene.items) == 1), SCENES))
    lines = ["| method | layer | tokens on things | things with a token | digits of a code with a token |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, layer in places:
        chat = open_eager(replace(config, pruner=name, keep=DEFAULT_KEEP, prune_layer=layer))
        session = chat.session
        ids = first_ids(chat.tokenizer, session.manifest.prompt, "What is the code?")
        figures = []
        for scene in scenes:
            visual = session.vision(to_pixels(scene.image, session.manifest.shape.image))
            kept_S = session.prefill(ids, visual).kept
            shown = [[covered(cell)[kept_S] for cell in item.cells] for item in scene.items]
            code = next(cells for item, cells in zip(scene.items, shown, strict=True) if item.is_code)
            on_things = np.any([cell for cells in shown for cell in cells], 0).sum()
            figures.append((on_things, np.mean([np.any(cells) for cells in shown]), np.mean([c.any() for c in code])))
        tokens, things, digits = np.mean(figures, 0)
        lines.append(f"| {name} | {layer} | {tokens:.1f} | {percent(things)} | {percent(digits)} |")
    return "\n".join(lines)


def measure(subjects: Sequence[Subject], data: DataSet, work: Path) -> tuple[list[Row], list[Answered]]:
    """Answers and figures of all subjects."""
    cache, answered = VisionCache(), []
    folder = work / "answers" / data.name.replace(" ", "-").replace(":", "-")
    with exclusive(folder, f"--work {work}"):
        for subject in subjects:
            answered.append(ask(subject, data, folder, max_new_tokens=BASE.max_new_tokens, cache=cache))
            print(line(summarize(answered[-1:], data)[0]), flush=True)
    return summarize(answered, data), answered


# --- The document -----------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Accuracy of each row overall, against unpruned where the rows have it, and by kind of question, in percent."""
    kinds = list(rows[0].by_type)
    whole = next((row.accuracy for row in rows if row.pruner == "none"), None)
    heads = ["method", "layer", "kept", "accuracy", "95 % interval", *(["of unpruned"] if whole else []), *kinds]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        cells = [row.pruner, listed(row.layers), listed(row.kept), percent(row.accuracy)]
        cells += [f"{percent(row.low)} to {percent(row.high)}", *([percent(row.accuracy / whole)] if whole else [])]
        lines.append("| " + " | ".join([*cells, *(percent(row.by_type[kind]) for kind in kinds)]) + " |")
    return "\n".join(lines)


def export_table(rows: Sequence[Row], answered: Sequence[Answered], eager: Answered) -> str:
    """Each bundle against PyTorch on the same questions: accuracy and share of equal answers."""
    right = {one.id: one for one in eager.answers}
    lines = ["| bundle | runtime | questions | accuracy | PyTorch on the same | difference, points | equal answers |"]
    lines += ["|---|---|" + "---:|" * 5]
    for row, one in zip(rows, answered, strict=True):
        same = [right[answer.id] for answer in one.answers]
        base = sum(answer.score for answer in same) / len(same)
        equal = sum(a.text == b.text for a, b in zip(one.answers, same, strict=True)) / len(same)
        cells = [
            f"{one.manifest.target} {row.precision}{'' if row.quantization == 'none' else ' ' + row.quantization}",
            row.runtime,
            str(row.n),
            percent(row.accuracy),
            percent(base),
        ]
        lines.append("| " + " | ".join([*cells, f"{100 * (row.accuracy - base):+.1f}", percent(equal)]) + " |")
    return "\n".join(lines)


def write_part(name: str, text: str) -> None:
    """Put a generated part between its marks in the document."""
    old = DOCUMENT.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{DOCUMENT} lacks the marks {begin} and {end}")
    DOCUMENT.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", old), encoding="utf-8")


def draw_pictures(config: ExportConfig, folder: Path) -> None:
    """Held-out scenes with what three methods keep of them, and their answers."""
    names = ("vlm-pruner", "fastv", "random")
    chats = [open_eager(replace(config, pruner=name, keep=DEFAULT_KEEP)) for name in names]
    data = open_dataset("scenes:test", seed=PICTURES[0][0], questions=120)
    for number, (seed, index) in enumerate(PICTURES, 1):
        image = make_scene("test", seed, index).image
        example = next(example for example in data.examples if example.image_id == str(index))
        figure, axes = pyplot.subplots(1, 1 + len(names), figsize=(13, 3.9), layout="constrained")
        axes[0].imshow(image)
        axes[0].set_title(f"{example.question}\nright: {example.answers[0]}", fontsize=10)
        for axis, name, chat in zip(axes[1:], names, chats, strict=True):
            spec = chat.session.manifest.shape.image
            visual = chat.session.vision(to_pixels(image, spec))
            said = answer(chat, visual, example.question, BASE.max_new_tokens)
            order_S = chat.ask(image, example.question, 1).order
            axis.imshow(draw_kept(image, spec, order_S))
            axis.set_title(f"{name}, {len(order_S)} of {spec.visual_tokens}\n{said}", fontsize=10)
        for axis in axes:
            axis.axis("off")
        figure.savefig(folder / f"kept-{number}.png", dpi=80)
        pyplot.close(figure)


def main() -> None:
    """Measure the parts asked for, and write them into the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=2004, help="test questions")
    parser.add_argument("--seed", type=int, default=7, help="of the test scenes")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--work", type=Path, default=ROOT / "build/accuracy", help="answers and bundles")
    arguments = parser.parse_args()
    parts = arguments.part or PARTS
    quiet_libraries()
    command = shlex.join(["python", "benchmarks/accuracy.py", *sys.argv[1:]])
    data = open_dataset("scenes:test", seed=arguments.seed, questions=arguments.questions)
    stamp = f"`{command}`: {data.name}, {len(data.examples)} questions."
    config = fit_text(BASE, data)
    if "methods" in parts:
        rows, _ = measure(methods(config), data, arguments.work)
        plot(rows, DOCUMENT.parent / "accuracy.png")
        write_part("methods", f"{stamp}\n\n{table(rows)}\n\n![Accuracy against the kept share](accuracy.png)")
        (arguments.work / "methods.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if "ablations" in parts:
        rows, _ = measure(ablations(config), data, arguments.work)
        write_part("ablations", f"{stamp}\n\n{table(rows)}")
    if "exports" in parts:
        _, eager = measure([eager_subject(replace(config, keep=DEFAULT_KEEP))], data, arguments.work)
        rows, answered = [], []
        for subject in exports(config, arguments.work):
            interpreted = traits_of(subject.facts["target"]).interpreted
            asked = replace(data, examples=data.examples[: INTERPRETED_QUESTIONS if interpreted else None])
            more_rows, more = measure([subject], asked, arguments.work)
            rows, answered = rows + more_rows, answered + more
        write_part("exports", f"{stamp}\n\n{export_table(rows, answered, eager[0])}")
    if "pictures" in parts:
        draw_pictures(config, DOCUMENT.parent)
    if "coverage" in parts:
        write_part("coverage", f"`{command}`: {SCENES} scenes.\n\n{coverage(config, arguments.seed)}")


if __name__ == "__main__":
    main()
