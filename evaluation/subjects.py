"""What is asked: a model in PyTorch with one pruning setting, or a bundle on its runtime."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmp.export.bundle import MANIFEST_NAME, read_manifest
from vlmp.export.errors import UserError
from vlmp.runtimes.session import Session, load

if TYPE_CHECKING:
    from vlmp.export.config import ExportConfig

    from .data import DataSet

@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One setting to be measured. `key` names its file of answers, `facts` must be the same when it is resumed."""

    key: str
    group: str
    """Subjects of one group are seeds of one setting; their scores are averaged."""
    facts: dict[str, Any]
    open: Callable[[], Session]
    vision_key: str
    """Subjects with the same one see the same visual tokens."""


def eager_subjects(
    config: "ExportConfig", pruners: Sequence[str], keeps: Sequence[float], seeds: int
) -> list[Subject]:
    """The grid of pruners and kept shares; `none` once, `random` with several seeds."""
    from dataclasses import replace

    subjects = []
    for pruner in pruners:
        for keep in (None,) if pruner == "none" else keeps:
            setting = replace(config, pruner=pruner, keep=keep)
            if pruner == "random":
                subjects += [eager_subject(setting, seed=seed) for seed in range(seeds)]
            else:
                subjects.append(eager_subject(setting))
    return subjects


def eager_subject(config: "ExportConfig", label: str = "", **settings: float) -> Subject:
    """A model in PyTorch. label: the name of a variant of the method; settings: fields of PrunerConfig."""
    from vlmp.export.eager import open_eager

    keep = "all" if config.keep is None else f"{config.keep:g}"
    layer = "" if config.prune_layer is None else f"-layer{config.prune_layer}"
    group = f"{config.model}-{label or config.pruner}-{keep}{layer}"
    seed = f"-seed{settings['seed']:g}" if "seed" in settings else ""
    facts = {
        "model": config.model, "checkpoint": str(config.checkpoint or ""), "pruner": label or config.pruner,
        "keep": config.keep, "prune_layer": config.prune_layer, "image_size": config.image_size,
        "image_fit": config.image_fit, "system_prompt": config.system_prompt, **settings,
    }  # fmt: skip
    return Subject(
        key=group + seed,
        group=group,
        facts=facts,
        open=lambda: open_eager(config, **settings),
        vision_key=f"{config.model} {config.checkpoint} {config.image_size} {config.image_fit}",
    )


def fit_text(config: "ExportConfig", data: "DataSet") -> "ExportConfig":
    """The same settings with a text bucket as long as the longest question: padding costs time."""
    from dataclasses import replace

    from vlmp.export.pipeline import open_source

    prompt = open_source(config).prompt
    texts = [prompt.first.replace("{prompt}", example.question) for example in data.examples]
    encoded = prompt.tokenizer.encode_batch(texts, add_special_tokens=False)
    return replace(config, text_len=max(config.text_len, *(len(each.ids) for each in encoded)))


def bundle_subjects(bundles: Sequence[Path], threads: int | None) -> list[Subject]:
    """Bundles, each with the pruner inside it. Raises UserError when one is not a bundle, or two have one name."""
    subjects = []
    for folder in bundles:
        manifest = read_manifest(folder)
        digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
        key = f"{folder.resolve().name}-{digest[:12]}"
        if any(subject.key == key for subject in subjects):
            raise UserError(f"--bundle {folder} is given twice")
        subjects.append(
            Subject(
                key=key,
                group=key,
                facts={"bundle": folder.resolve().name, "manifest": digest, "target": manifest.target},
                open=lambda folder=folder: load(folder, check_hashes=False, threads=threads),  # type: ignore[misc]
                vision_key=key,
            )
        )
    return subjects
