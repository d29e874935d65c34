"""Checkpoints: where they are, and their weights read tensor by tensor from safetensors."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from vlmp.export.errors import UserError, one_line
from vlmp.export.streams import aloud

NEEDED = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model*"
LORA = (".lora_", "base_model.model.")
"""In names of tensors that belong to an adapter, not to the model."""
PACKED = (".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".absmax", ".SCB")
"""Ends of the names that tools of quantization give to what they put in place of a weight."""


def locate(checkpoint: str) -> Path:
    """Folder of a checkpoint: `bundled:NAME`, `folder:PATH`, or a Hugging Face id that is downloaded with progress.

    Raises UserError when it cannot be had.
    """
    if checkpoint.startswith("bundled:"):
        return Path(str(files("vlmp.export"))) / "assets" / checkpoint.removeprefix("bundled:")
    if checkpoint.startswith("folder:"):
        return Path(checkpoint.removeprefix("folder:"))
    from huggingface_hub import snapshot_download

    with _told_if_offline(checkpoint), aloud():
        name, revision = _hub_place(checkpoint)
        return Path(snapshot_download(name, revision=revision, allow_patterns=NEEDED))


@cache
def hub_config(checkpoint: str) -> dict[str, Any]:
    """config.json of a checkpoint on the hub, downloaded alone. Raises UserError when it cannot be had."""
    from huggingface_hub import hf_hub_download

    with _told_if_offline(checkpoint):
        name, revision = _hub_place(checkpoint)
        path = hf_hub_download(name, "config.json", revision=revision)
    return read_json(Path(path))


def _hub_place(checkpoint: str) -> tuple[str, str | None]:
    """A checkpoint's id on the hub, and its revision where one is asked for."""
    name, _, revision = checkpoint.partition("@")
    return name, revision or None


@contextmanager
def _told_if_offline(checkpoint: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's own kinds, its HTTP client's and its transfer library's share no base
        raise UserError(
            f"cannot download {checkpoint} from Hugging Face ({one_line(error)}): go online, or pass --checkpoint DIR"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint.

    Raises UserError when the folder or the file is missing or unreadable, when an adapter lies in the folder (it would
    change the answers), or when the weights are quantized.
    """
    if not folder.is_dir():
        raise UserError(f"checkpoint folder {folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    path = folder / "config.json"
    _check_adapter(folder, alone=not path.is_file())
    if not path.is_file():
        raise UserError(f"checkpoint folder {folder} has no config.json")
    config = read_json(path)
    _check_quantization(path, config)
    return config


def _check_adapter(folder: Path, *, alone: bool) -> None:
    """transformers with peft puts an adapter on the model as soon as its config lies beside it."""
    config = folder / ADAPTER_CONFIG
    weights = sorted(folder.glob(ADAPTER_WEIGHTS))
    others = [path for path in folder.glob("*.safetensors") if path not in weights]
    if not config.is_file() and not (weights and (alone or not others)):
        return
    base = read_json(config).get("base_model_name_or_path") if config.is_file() else None
    named = f" of {base}" if base else ""
    raise UserError(
        f"{folder} holds an adapter{named} ({config.name if config.is_file() else weights[0].name}): merge it into its "
        "model first (peft: merge_and_unload, then save_pretrained) and export the merged checkpoint"
    )


def _check_quantization(path: Path, config: dict[str, Any]) -> None:
    sections = [config, *(section for section in config.values() if isinstance(section, dict))]
    for section in sections:
        for name in ("quantization_config", "compression_config"):
            settings = section.get(name)
            if not settings:
                continue
            settings = settings if isinstance(settings, dict) else {}
            bits = any(settings.get(key) for key in ("load_in_4bit", "load_in_8bit"))
            method = settings.get("quant_method") or ("bitsandbytes" if bits else "unknown method")
            raise UserError(
                f"{path}: {name} says that the weights are quantized ({method}): a checkpoint in float32, float16 or "
                "bfloat16 is needed, vlmp quantizes by itself (--quant)"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises UserError when it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def hub_identity(checkpoint: str, folder: Path) -> str:
    """A hub checkpoint's name in the manifest: its id, and the revision where the hub's cache shows it."""
    revision = f"@{folder.name}" if folder.parent.name == "snapshots" else ""
    return f"{checkpoint.partition('@')[0]}{revision}"


def identity(folder: Path) -> str:
    """A local checkpoint's name in the manifest: the digest of its config."""
    return f"local config sha256:{hashlib.sha256((folder / 'config.json').read_bytes()).hexdigest()}"


class Weights:
    """Tensors of a checkpoint by name, memory-mapped; names of old and new transformers layouts are both found.

    Like transformers it reads model.safetensors, else the files of the index, else whatever safetensors there are: a
    stray file must not replace tensors. Raises UserError when there are no safetensors or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, Any] = {}
        self._places: dict[str, list[tuple[Path, str]]] = {}
        """Our name -> file and stored name; several where a tensor stands there under several names."""
        self._asked: set[str] = set()
        for path in weight_files(folder):
            try:
                self._files[path] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is truncated or damaged ({error}): download it again") from None
            for name in self._files[path].keys():  # noqa: SIM118 (not a dict)
                if any(part in name for part in LORA):
                    raise UserError(
                        f"{path}: {name} belongs to an adapter: merge it into its model first (peft: merge_and_unload)"
                    )
                self._places.setdefault(canonical(name), []).append((path, name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    @property
    def unused(self) -> list[str]:
        """Stored names of the tensors that nobody has asked for."""
        return [stored for name, places in self._places.items() if name not in self._asked for _, stored in places]

    def get(self, name: str, shape: tuple[int, ...], holds: torch.dtype = torch.float32) -> Tensor:
        """The tensor `name`, whose values `holds` must be able to hold.

        Raises UserError when it is missing, of another shape, not a float tensor, has values that are not finite or too
        large, or stands there twice with different values.
        """
        if name not in self._places:
            packed = next((each for each in self._places if each.endswith(PACKED)), None)
            hint = f"; it has {packed}, so it is quantized: one in full precision is needed" if packed else ""
            raise UserError(f"{self.folder}: the checkpoint has no tensor {name}, which its config asks for{hint}")
        self._asked.add(name)
        (path, stored), *others = self._places[name]
        tensor = self._read(path, stored, shape)
        for other_path, other in others:
            if not torch.equal(self._read(other_path, other, shape).float(), tensor.float()):
                raise UserError(
                    f"{path}: {stored} and {other} in {other_path.name} are the same tensor of the model with "
                    "different values: remove the wrong one"
                )
        low, high = (value.item() for value in torch.aminmax(tensor))
        if not math.isfinite(low) or not math.isfinite(high):
            raise UserError(f"{path}: {stored} holds values that are not finite (NaN or infinite): it is broken")
        largest = max(-low, high)
        if largest > torch.finfo(holds).max:
            kind = str(holds).removeprefix("torch.")
            raise UserError(f"{path}: {stored} holds {largest:.3g}, too large for {kind}: choose --precision float32")
        return tensor

    def _read(self, path: Path, stored: str, shape: tuple[int, ...]) -> Tensor:
        found = tuple(self._files[path].get_slice(stored).get_shape())
        if found != shape:
            raise UserError(f"{path}: {stored} has shape {list(found)}, the config asks for {list(shape)}")
        tensor = self._files[path].get_tensor(stored)
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise UserError(
                f"{path}: {stored} is {tensor.dtype}, only float32, float16 and bfloat16 are supported: a checkpoint "
                "in full precision is needed"
            )
        return tensor


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights. Raises UserError when there are none, or some are missing."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"{index} has no weight_map: download it again")
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"{folder}: {name} is listed in {index.name} but missing")
        return [folder / name for name in names]
    paths = sorted(folder.glob("*.safetensors"))
    if paths:
        return paths
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
    if pickles:
        raise UserError(
            f"{folder} holds pickled weights only ({pickles[0]}): they can run code when loaded and are refused; save "
            "the model with safe_serialization=True"
        )
    raise UserError(f"checkpoint folder {folder} has no *.safetensors")


def canonical(name: str) -> str:
    """The hub's name of a tensor, in whatever layout transformers saved it (model.visual, model.language_model)."""
    for newer, hub in (
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
        ("language_model.", "model."),
    ):
        if name.startswith(newer):
            return hub + name.removeprefix(newer)
    return name
