"""The models that can be exported. A family is one file beside this one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlmp.export.checkpoint import hub_config, read_config
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.streams import is_url

if TYPE_CHECKING:
    import torch
    from torch import nn
    from vlmp.export.geometry import Cut, Geometry, TowerCut
    from vlmp.export.models.spec import ModelSpec, PictureSpec, PromptSpec
    from vlmp.export.quantize import Quantizer
    from vlmp.pruner import Pruner
    from vlmp.runtimes.bundle.manifest import MethodName


class Family(Protocol):
    """What a model file offers: facts read from a checkpoint's config, and the four graphs."""

    spec: "ModelSpec"
    picture: "PictureSpec"
    """That of `spec`, with what the checkpoint's image processor has otherwise."""
    prompt: "PromptSpec"
    layers: int
    max_positions: int
    """Longest sequence that the model was made for."""
    image_token_id: int
    pad_rgb: tuple[int, int, int]
    """Colour of the bars beside a padded photo."""
    notes: list[str]
    """What a user should know of how the checkpoint was read, a sentence each; complete after `build`."""

    def geometry(
        self,
        *,
        height: int,
        width: int,
        prefix: int,
        cuts: "tuple[Cut, ...]",
        text: int,
        room: int,
        tower: "TowerCut | None" = None,
    ) -> "Geometry":
        """All static sizes for these settings."""
        ...

    def build(
        self,
        geometry: "Geometry",
        pruners: "Sequence[Pruner]",
        prefix_ids: list[int],
        dtype: "torch.dtype",
        quantizer: "Quantizer | None" = None,
        holds: "torch.dtype | None" = None,
    ) -> dict["MethodName", "nn.Module"]:
        """The four methods as static nn.Modules with the checkpoint's weights, in eval mode, without gradients.

        pruners: of each stage, in order.
        holds: what the export will keep values in where that is smaller than `dtype`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A named model: where its checkpoint is and of which family it is."""

    checkpoint: str
    """Hugging Face id, where asked for with @ and a revision; `bundled:NAME` for a checkpoint that travels with the
    package, `folder:PATH` for one on this machine."""
    family: str
    """`model_type` of its config."""
    image_size: tuple[int, int] | None = None
    """Default (height, width) in pixels; None is the family's."""
    quant: str = "none"
    """Default preset of quantization: what a phone has room for."""


FAMILIES: dict[str, str] = {
    "qwen2_vl": "vlmp.export.models.qwen2_vl:Qwen2VL",
    "qwen2_5_vl": "vlmp.export.models.qwen2_5_vl:Qwen25VL",
    "qwen3_vl": "vlmp.export.models.qwen3_vl:Qwen3VL",
    "llava": "vlmp.export.models.llava:Llava",
    "internvl": "vlmp.export.models.internvl:InternVL",
    "smolvlm": "vlmp.export.models.smolvlm:SmolVLM",
    "lfm2_vl": "vlmp.export.models.lfm2_vl:Lfm2VL",
    "lfm2-vl": "vlmp.export.models.lfm2_vl:Lfm2VL",
}
"""`model_type` of a checkpoint's config -> "module:class", which may be the same for several."""

MODELS: dict[str, ModelEntry] = {
    "vlmp-tiny": ModelEntry("bundled:vlmp-tiny", "qwen2_vl", image_size=(336, 336)),
    "qwen2-vl-2b": ModelEntry("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl", quant="int4"),
    "qwen2-vl-7b": ModelEntry("Qwen/Qwen2-VL-7B-Instruct", "qwen2_vl", quant="int4"),
    "qwen2.5-vl-3b": ModelEntry("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", quant="int4"),
    "qwen2.5-vl-7b": ModelEntry("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", quant="int4"),
    "qwen3-vl-2b": ModelEntry("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", quant="int4"),
    "qwen3-vl-4b": ModelEntry("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", quant="int4"),
    "qwen3-vl-8b": ModelEntry("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", quant="int4"),
    "llava-1.5-7b": ModelEntry("llava-hf/llava-1.5-7b-hf", "llava", quant="int4"),
    "llava-1.5-13b": ModelEntry("llava-hf/llava-1.5-13b-hf", "llava", quant="int4"),
    "internvl3-1b": ModelEntry("OpenGVLab/InternVL3-1B-hf", "internvl", quant="int4"),
    "internvl3-2b": ModelEntry("OpenGVLab/InternVL3-2B-hf", "internvl", quant="int4"),
    "internvl3.5-1b": ModelEntry("OpenGVLab/InternVL3_5-1B-HF", "internvl", quant="int4"),
    "internvl3.5-2b": ModelEntry("OpenGVLab/InternVL3_5-2B-HF", "internvl", quant="int4"),
    "internvl3.5-4b": ModelEntry("OpenGVLab/InternVL3_5-4B-HF", "internvl", quant="int4"),
    "smolvlm2-256m": ModelEntry("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "smolvlm"),
    "smolvlm2-500m": ModelEntry("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "smolvlm"),
    "smolvlm2-2.2b": ModelEntry("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm", quant="int4"),
    "lfm2-vl-450m": ModelEntry("LiquidAI/LFM2-VL-450M", "lfm2_vl"),
    "lfm2-vl-1.6b": ModelEntry("LiquidAI/LFM2-VL-1.6B", "lfm2_vl", quant="int4"),
    "lfm2.5-vl-450m": ModelEntry("LiquidAI/LFM2.5-VL-450M", "lfm2_vl"),
    "lfm2.5-vl-1.6b": ModelEntry("LiquidAI/LFM2.5-VL-1.6B", "lfm2_vl", quant="int4"),
}


HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
BILLION = 10**9
"""Parameters of a language model from which on an export is quantized unless told otherwise."""


def model_entry(name: str, checkpoint: Path | None = None) -> ModelEntry:
    """The entry of a registered name, of a folder with a checkpoint, or of a Hugging Face id (`owner/name@revision`).

    checkpoint: a folder that is used in the place of the model's own. Without it, config.json alone is downloaded of an
    id that no entry has. Raises UserError listing the choices, or when the model is of another family.
    """
    if name in MODELS:
        return MODELS[name]
    if is_url(name):
        raise UserError(f"--model {name} is a URL: give the id alone, as Qwen/Qwen2-VL-2B-Instruct, or a folder")
    local, found = Path(name).is_dir(), HUB_ID.fullmatch(name)
    if not local and not found:
        ways = f"choose one of {', '.join(MODELS)}, a folder, or a Hugging Face id like Qwen/Qwen2-VL-2B-Instruct"
        raise UserError(f"unknown model {name!r}: {ways}")
    known = [entry for entry in MODELS.values() if found and entry.checkpoint == found["id"]]
    if known and not local:
        return replace(known[0], checkpoint=name)

    if local and checkpoint:
        raise UserError(f"--model {name} is a checkpoint's folder itself: leave --checkpoint {checkpoint} out")
    if local:
        return _entry_of(f"folder:{name}", name, read_config(Path(name)))
    return _entry_of(name, checkpoint or name, read_config(checkpoint) if checkpoint else hub_config(name))


def _entry_of(checkpoint: str, name: Path | str, config: dict[str, Any]) -> ModelEntry:
    """The defaults of a checkpoint that nobody has registered."""
    family = str(config.get("model_type"))
    check_family(family, name)
    return ModelEntry(checkpoint, family, quant="int4" if parameters(config) >= BILLION else "none")


def parameters(config: dict[str, Any]) -> int:
    """About how many the language model has, 0 where its config does not say."""
    section = config.get("text_config")
    text: dict[str, Any] = {**config, **(section if isinstance(section, dict) else {})}
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    hidden, inner, layers, words = (text[name] if isinstance(text.get(name), int) else 0 for name in names)
    return layers * hidden * (2 * hidden + 3 * inner) + words * hidden


def model_label(name: str) -> str:
    """What a model is called where neither a path of this machine nor a revision belongs."""
    if name not in MODELS and Path(name).is_dir():
        return Path(name).resolve().name
    return name.partition("@")[0]


def file_label(name: str) -> str:
    """The same as a part of a file's name."""
    return model_label(name).replace("/", "--")


def check_family(name: str, checkpoint: Path | str) -> None:
    """Raises UserError listing the choices when there is no such family."""
    if name not in FAMILIES:
        known = f"it must be one of {', '.join(FAMILIES)}, as of {', '.join(MODELS)}"
        raise UserError(f"{checkpoint}: model type {name!r} is not supported: {known}")


def check_model_type(name: str, entry: ModelEntry, found: str, checkpoint: Path) -> None:
    """Raises UserError when the checkpoint, of model type `found`, is not of the family of the model `name`."""
    check_family(found, checkpoint)
    if FAMILIES[found] != FAMILIES[entry.family]:  # one file may read several model types
        raise UserError(
            f"{checkpoint}: model type {found!r} is not that of --model {name}, {entry.family!r}: give a checkpoint of "
            f"that type, or --model {checkpoint} alone"
        )


def open_family(name: str, checkpoint: Path) -> Family:
    """The family `name` reading `checkpoint`. Raises UserError listing the choices."""
    check_family(name, checkpoint)
    module, attribute = FAMILIES[name].split(":")
    opener: Callable[[Path], Family] = getattr(import_module(module), attribute)
    return opener(checkpoint)
