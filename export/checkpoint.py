"""Checkpoints: where they are, and their weights read tensor by tensor from safetensors."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
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


def locate(checkpoint: str) -> Path:
    """Folder of a checkpoint: a local folder, `bundled:NAME`, or a Hugging Face id that is downloaded with progress.

    Raises UserError when it cannot be had.
    """
    if checkpoint.startswith("bundled:"):
        return Path(str(files("vlmp.export"))) / "assets" / checkpoint.removeprefix("bundled:")
    from huggingface_hub import snapshot_download

    try:
        with aloud():
            return Path(snapshot_download(checkpoint, allow_patterns=NEEDED))
    except Exception as error:  # the hub's own kinds, its HTTP client's and its transfer library's share no base
        raise UserError(
            f"cannot download {checkpoint} from Hugging Face ({one_line(error)}): go online, or pass --checkpoint DIR"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint. Raises UserError when the folder or the file is missing or unreadable."""
    if not folder.is_dir():
        raise UserError(f"checkpoint folder {folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"checkpoint folder {folder} has no config.json")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises UserError when it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def identity(folder: Path) -> str:
    """A local checkpoint's name in the manifest: the digest of its config."""
    return f"local config sha256:{hashlib.sha256((folder / 'config.json').read_bytes()).hexdigest()}"


def package_version(name: str) -> str:
    """Installed version of a package, "unknown" when it runs from a source tree that is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


class Weights:
    """Tensors of a checkpoint by name, memory-mapped; names of old and new transformers layouts are both found.

    Like transformers it reads model.safetensors, else the files of the index, else whatever safetensors there are: a
    stray file must not replace tensors. Raises UserError when there are no safetensors or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
            if pickles:
                raise UserError(
                    f"{folder} holds pickled weights only ({pickles[0]}): they can run code when loaded and are "
                    "refused; save the model with safe_serialization=True"
                )
            raise UserError(f"checkpoint folder {folder} has no *.safetensors")
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
                raise UserError(f"{index} has no weight_map: download it again")
            listed = set(weight_map.values())
            missing = sorted(listed - {path.name for path in paths})
            if missing:
                raise UserError(f"{folder}: {missing[0]} is listed in {index.name} but missing")
            paths = [path for path in paths if path.name in listed]
        whole = folder / "model.safetensors"
        if whole.is_file():
            paths = [whole]
        self._files: dict[str, Any] = {}
        self._names: dict[str, tuple[Path, str]] = {}
        for path in paths:
            try:
                self._files[str(path)] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is truncated or damaged ({error}): download it again") from None
            for name in self._files[str(path)].keys():  # noqa: SIM118 (not a dict)
                self._names[canonical(name)] = (path, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`. Raises UserError when it is missing, of another shape, or not a float tensor."""
        if name not in self._names:
            raise UserError(f"{self.folder}: the checkpoint has no tensor {name}, which its config asks for")
        path, stored = self._names[name]
        found = tuple(self._files[str(path)].get_slice(stored).get_shape())
        if found != shape:
            raise UserError(f"{path}: {stored} has shape {list(found)}, the config asks for {list(shape)}")
        tensor = self._files[str(path)].get_tensor(stored)
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise UserError(f"{path}: {stored} is {tensor.dtype}, only float32, float16 and bfloat16 are supported")
        return tensor


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
