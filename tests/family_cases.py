"""Tiny random checkpoints of every family, what each is tried with, and bundles of them that several tests ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ask_bundles
import pytest
import tiny_checkpoints
from native_cases import locked
from PIL import Image
from reference import Original, Pruned, Pruning
from shared_exports import run_folder
from torch import Tensor
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.export.schedule import parse_schedule
from vlmp.pruner import PrunerConfig
from vlmp.runtimes import Chat

PHOTO = tiny_checkpoints.ROOT / "runtimes/assets/photo.jpg"
QUESTION, NEXT_QUESTION = "What colour is the cup?", "How many spoons are there?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a family is tried with."""

    seed: int
    """Of weights with which no two tokens of the answers below are nearly as good as each other."""
    square: bool = False
    """Whether its processor makes every photo a square, so that it is given one."""
    schedule: str = "2:0.333"
    """Of its bundles."""


CASES = {
    "llava": Case(seed=1, square=True),
    "qwen2_5_vl": Case(seed=1),
    # Before and between the layers that features of the tower are added to.
    "qwen3_vl": Case(seed=1, schedule="1:0.5:vlm-pruner,weigh=1+2:0.333:divprune,weigh=1"),
    "internvl": Case(seed=1, square=True, schedule="vision.1:0.7:local,weigh=1,form=dropped+2:0.4"),
    "smolvlm": Case(seed=1, square=True, schedule="vision.1:0.6:vlm-pruner,weigh=1+2:0.333"),
    # After the first layer that has keys: those before it are convolutions.
    "lfm2_vl": Case(seed=1, schedule="3:0.333"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A tiny checkpoint, the photo that it is asked about, and what transformers' processor makes of both."""

    name: str
    original: Original
    photo: Image.Image
    inputs: dict[str, Tensor]

    def config(self, **settings: Any) -> ExportConfig:
        values: dict[str, Any] = dict(
            model=str(self.original.folder), targets=(), output=Path("unused"), image_fit="stretch",
            image_size=self.original.image_size(self.inputs), text_len=48, max_new_tokens=96,
        )  # fmt: skip
        return ExportConfig(**values | settings)

    def bundle_config(self, target: str, output: Path) -> ExportConfig:
        """Of its bundle for a target, in float32."""
        stages = parse_schedule(CASES[self.name].schedule)
        return self.config(targets=(target,), output=output, precision="float32", stages=stages)

    def pruned(self, chat: Chat) -> Pruned:
        """transformers' layers, pruned as the manifest tells."""
        stages = []
        for stage in chat.session.manifest.shape.stages:
            config = PrunerConfig(num_kept=stage.num_kept, weigh=int(stage.weighs), **stage.settings)
            stages.append(Pruning(layer=stage.index, config=config, pruner=stage.pruner))
        return Pruned(self.original, stages)


def opened(name: str, folder: Path) -> Tried:
    original = Original.open(folder)
    photo = Image.open(PHOTO).convert("RGB")
    if CASES[name].square:
        photo = photo.crop((100, 0, 100 + photo.height, photo.height))
    return Tried(name=name, original=original, photo=photo, inputs=original.inputs(photo, QUESTION))


def checkpoint(factory: pytest.TempPathFactory, name: str) -> Path:
    """The checkpoint of a family, written once for all processes of a run."""
    folder = run_folder(factory, "family-checkpoints") / name
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            tiny_checkpoints.WRITERS[name](folder, CASES[name].seed)
    return folder


def family_bundles(factory: pytest.TempPathFactory, *names: str) -> Path:
    """A folder with the bundles of families for ONNX Runtime, NAME, and what `ask_bundles` says of each, NAME.json and
    NAME.npy. All of them, unless names are given; made once for all processes of a run.
    """
    folder = run_folder(factory, "families")
    for name in names or CASES:
        with locked(folder / f"{name}.lock"):
            if not (folder / f"{name}.json").exists():
                export(opened(name, checkpoint(factory, name)).bundle_config("onnx", folder / name))
                ask_bundles.main(folder, [folder / name])
    return folder
