"""The models that can be exported. A family is one file beside this one."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from vlmp.export.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from vlmp.export.bundle import MethodName
    from vlmp.export.geometry import Geometry
    from vlmp.export.quantize import Quantizer
    from vlmp.pruner import Pruner


class Family(Protocol):
    """What a model file offers: facts read from a checkpoint's config, and the four graphs."""

    name: str
    merge_px: int
    """Side of the image area that becomes one visual token, in pixels."""
    layers: int
    max_positions: int
    """Longest sequence that the model was made for."""
    image_token: str
    image_token_id: int
    pad_rgb: tuple[int, int, int]
    """Colour of the bars beside a padded photo."""
    rope_theta: float
    mrope_section: list[int]
    notes: list[str]
    """What a user should know of how the checkpoint was read, a sentence each; complete after `build`."""

    def geometry(
        self, *, height: int, width: int, prefix: int, kept: int, text: int, room: int, prune_layer: int
    ) -> "Geometry":
        """All static sizes for these settings."""
        ...

    def build(
        self,
        geometry: "Geometry",
        pruner: "Pruner",
        prefix_ids: list[int],
        dtype: "torch.dtype",
        quantizer: "Quantizer | None" = None,
        holds: "torch.dtype | None" = None,
    ) -> dict["MethodName", "nn.Module"]:
        """The four methods as static nn.Modules with the checkpoint's weights, in eval mode, without gradients.

        holds: what the export will keep values in where that is smaller than `dtype`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A named model: where its checkpoint is and which family file reads it."""

    checkpoint: str
    """Hugging Face id, or `bundled:NAME` for a checkpoint that travels with the package."""
    family: str
    image_size: tuple[int, int] = (448, 448)
    """Default (height, width) in pixels."""
    quant: str = "none"
    """Default preset of quantization: what a phone has room for."""


FAMILIES: dict[str, str] = {"qwen2_vl": "vlmp.export.models.qwen2_vl:Qwen2VL"}
"""`model_type` of a checkpoint's config -> "module:class"."""

MODELS: dict[str, ModelEntry] = {
    "vlmp-tiny": ModelEntry("bundled:vlmp-tiny", "qwen2_vl", image_size=(336, 336)),
    "qwen2-vl-2b": ModelEntry("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl", quant="int4"),
    "qwen2-vl-7b": ModelEntry("Qwen/Qwen2-VL-7B-Instruct", "qwen2_vl", quant="int4"),
}


def model_entry(name: str) -> ModelEntry:
    """The registry's entry. Raises UserError listing the choices."""
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name]


def open_family(name: str, checkpoint: "Path") -> Family:
    """The family `name` reading `checkpoint`. Raises UserError listing the choices."""
    if name not in FAMILIES:
        raise UserError(f"{checkpoint}: model type {name!r} is not supported: it must be one of {', '.join(FAMILIES)}")
    module, attribute = FAMILIES[name].split(":")
    opener: Callable[[Path], Family] = getattr(import_module(module), attribute)
    return opener(checkpoint)
