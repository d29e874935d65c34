"""Checkpoints: where they are, and their files. Imports no torch: see `weights.py` for what is in them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.console.streams import aloud

NEEDED = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model*"


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
    """config.json of a checkpoint on the hub, downloaded alone.

    Raises UserError when it cannot be had, and when only an adapter is there.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, revision = _hub_place(checkpoint)
    with _told_if_offline(checkpoint):
        try:
            path = Path(hf_hub_download(name, "config.json", revision=revision))
        except EntryNotFoundError:
            with suppress(EntryNotFoundError):
                raise _adapter(checkpoint, Path(hf_hub_download(name, ADAPTER_CONFIG, revision=revision))) from None
            raise
    return read_json(path)


def _hub_place(checkpoint: str) -> tuple[str, str | None]:
    """A checkpoint's id on the hub, and its revision where one is asked for."""
    name, _, revision = checkpoint.partition("@")
    return name, revision or None


@contextmanager
def _told_if_offline(checkpoint: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
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
    weights = adapter_weights(folder)
    others = [path for path in folder.glob("*.safetensors") if path not in weights]
    if not config.is_file() and not (weights and (alone or not others)):
        return
    raise _adapter(folder, config if config.is_file() else weights[0])


def adapter_weights(folder: Path) -> list[Path]:
    """Files of an adapter in a checkpoint's folder."""
    return sorted(folder.glob(ADAPTER_WEIGHTS))


def _adapter(checkpoint: Path | str, file: Path) -> UserError:
    """What to say of a checkpoint in which `file` belongs to an adapter."""
    base = read_json(file).get("base_model_name_or_path") if file.name == ADAPTER_CONFIG else None
    named = f" of {base}" if base else ""
    return UserError(
        f"{checkpoint} holds an adapter{named} ({file.name}): merge it into its model first (peft: merge_and_unload, "
        "then save_pretrained) and export the merged checkpoint"
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
