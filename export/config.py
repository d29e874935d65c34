"""Settings of an export, checked as far as they can be without the checkpoint."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmp.export.schedule import (
    DEFAULT_KEEP,
    DEFAULT_PRUNER,
    Layer,
    Stage,
    Vision,
    check_place,
    check_schedule,
    check_stage,
    layer_of,
    parse_pruner,
)
from vlmp.runtimes.bundle.errors import UserError, check_text

Precision = Literal["float32", "float16"]

UNQUANTIZED = "none"
PRESETS = (UNQUANTIZED, "int8", "int4", "palette4", "int4-fp16")
"""Names of quantizations; what a target makes of one is in its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """One export command. Raises UserError naming the option, its value and the limit."""

    model: str
    targets: tuple[str, ...]
    output: Path
    checkpoint: Path | None = None
    stages: tuple[Stage, ...] = ()
    """Where and how far to prune; empty for the short form of one stage, which the next three are."""
    pruner: str = DEFAULT_PRUNER
    """As `parse_pruner` reads it."""
    keep: float | None = None
    """Kept share of the visual tokens. None is DEFAULT_KEEP, or all of them with pruner `none`."""
    prune_layer: int | None = None
    """K: tokens are pruned before decoder layer K, with 0 before the language model. None is the method's own place."""
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels; None is the model's default."""
    image_fit: Literal["pad", "stretch"] = "pad"
    system_prompt: str | None = None
    text_len: int = 64
    max_new_tokens: int = 256
    precision: Precision | None = None
    """None is the target's default."""
    quant: str | None = None
    """Preset of quantization; None is the model's default."""
    single_file: bool = False
    """Put the weights into the file of the graphs, where the target can."""
    overwrite: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
        for stage in self.stages:
            check_stage(stage)
        check_schedule(self.stages)
        if self.stages and (self.pruner, self.keep, self.prune_layer) != (DEFAULT_PRUNER, None, None):
            raise UserError("--pruner, --keep and --prune-layer are the short form of one stage: leave --stage out")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise UserError(f"--keep {self.keep}: it is the kept share of visual tokens, greater than 0 and at most 1")
        if self.pruner == "none" and self.keep not in (None, 1):
            raise UserError(f"--keep {self.keep}: --pruner none keeps all visual tokens, leave one of the two out")
        check_text("--system-prompt", self.system_prompt or "")
        if self.text_len < 1:
            raise UserError(f"--text-len {self.text_len}: must be at least 1")
        if self.max_new_tokens < 1:
            raise UserError(f"--max-new-tokens {self.max_new_tokens}: must be at least 1")
        if self.prune_layer is not None and self.prune_layer < 0:
            raise UserError(f"--prune-layer {self.prune_layer}: must be at least 0")

    @property
    def schedule(self) -> tuple[Stage, ...]:
        """The stages, of the short form one. Raises UserError where its pruner is unknown or cannot stand there.

        The language model always has one: after a stage in the vision tower alone, one that keeps all that comes.
        """
        if self.stages and isinstance(self.stages[-1].place, Vision):
            return (*self.stages, Stage(place=Layer(0), keep=1, pruner="none"))
        if self.stages:
            return self.stages
        name, settings, published = parse_pruner(self.pruner)
        layer = layer_of(name) if self.prune_layer is None else self.prune_layer
        keep = self.keep or (1 if name == "none" else DEFAULT_KEEP)
        stage = Stage(place=Layer(layer), keep=keep, pruner=name, settings=settings, published=published)
        check_place(stage, f"--prune-layer {layer}")
        return (stage,)

    @property
    def outputs(self) -> dict[str, Path]:
        """Target -> its bundle's folder."""
        if len(self.targets) == 1:
            return {self.targets[0]: self.output}
        return {name: self.output / name for name in self.targets}


def check_precision(target: str, precisions: Sequence[Precision], precision: Precision | None) -> None:
    """Raises UserError when the target has no such precision."""
    if precision is not None and precision not in precisions:
        raise UserError(f"--precision {precision}: target {target} exports {', '.join(precisions)}")


def check_preset(target: str, presets: Collection[str], name: str) -> None:
    """Raises UserError listing the choices when the target has no such quantization. presets: beside none."""
    if name != UNQUANTIZED and name not in presets:
        raise UserError(
            f"no quantization {name!r} for {target}: choose one of --quant {', '.join((UNQUANTIZED, *presets))}"
        )


def parse_image_size(text: str) -> tuple[int, int]:
    """`448` or `336x448` (height x width) -> (height, width). Raises UserError on anything else."""
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    if not match:
        raise UserError(f"--image-size {text}: must be a side like 448, or HEIGHTxWIDTH like 336x448")
    height = int(match[1])
    return height, int(match[2] or height)
