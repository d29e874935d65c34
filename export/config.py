"""Settings of an export, checked as far as they can be without the checkpoint."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmp.pruner import PLACES, PRUNERS
from vlmp.runtimes.bundle.errors import UserError, check_text

Precision = Literal["float32", "float16"]

UNQUANTIZED = "none"
PRESETS = (UNQUANTIZED, "int8", "int4", "palette4")
"""Names of quantizations; what a target makes of one is in its file."""

DEFAULT_KEEP = 0.111
DEFAULT_PRUNE_LAYER = 2
"""Of methods whose paper names no other place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """One export command. Raises UserError naming the option, its value and the limit."""

    model: str
    targets: tuple[str, ...]
    output: Path
    checkpoint: Path | None = None
    pruner: str = "vlm-pruner"
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
    overwrite: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
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
    def outputs(self) -> dict[str, Path]:
        """Target -> its bundle's folder."""
        if len(self.targets) == 1:
            return {self.targets[0]: self.output}
        return {name: self.output / name for name in self.targets}


def check_pruner(name: str) -> None:
    """Raises UserError listing the choices when there is no such pruner."""
    if name not in PRUNERS:
        raise UserError(f"unknown pruner {name!r}: choose one of {', '.join(PRUNERS)}")


def least_layer(pruner: str) -> int:
    """The first decoder layer that the pruner can stand before."""
    return 1 if PLACES[pruner].needs else 0


def layer_of(pruner: str, asked: int | None = None) -> int:
    """K, as asked for or the method's own place. Raises UserError where the method has no such place."""
    place, least = PLACES[pruner], least_layer(pruner)
    if asked is None:
        return DEFAULT_PRUNE_LAYER if place.layer is None else place.layer
    if asked < least:
        raise UserError(
            f"--prune-layer {asked}: pruner {pruner} chooses by the {' and '.join(place.needs)} of the layer before, "
            f"so it must be at least {least}"
        )
    return asked


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
