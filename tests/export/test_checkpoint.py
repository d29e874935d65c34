"""Weights are found under their hub names in whatever layout they were saved, and only in safetensors."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from vlmp.export.checkpoint import identity, locate, read_config, read_json
from vlmp.export.config import ExportConfig
from vlmp.export.geometry import Cut
from vlmp.export.models import FAMILIES, MODELS, model_entry, open_family
from vlmp.export.models.qwen2_vl import Qwen2VL
from vlmp.export.plan import Source, open_source
from vlmp.export.weights import Weights, canonical
from vlmp.runtimes.bundle.errors import UserError

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
EMBED = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(TINY / "model.safetensors")


def newer(name: str) -> str:
    """The name that transformers 4.52 and later give a tensor."""
    if name.startswith("visual."):
        return f"model.{name}"
    return name.replace("model.", "model.language_model.", 1)


def with_language_model(name: str) -> str:
    return name.replace("model.", "language_model.", 1) if name.startswith("model.") else name


def all_below_language_model(name: str) -> str:
    """As LLaVA's files have it: model and head."""
    return name if name.startswith("visual.") else f"language_model.{name}"


def write(folder: Path, tensors: dict[str, Tensor], shards: int) -> None:
    """Save as one file, or as shards with an index."""
    folder.mkdir()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        save_file(part, folder / name)
        weight_map.update(dict.fromkeys(part, name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("rename", [str, newer, with_language_model, all_below_language_model])
def test_every_layout(tmp_path: Path, tensors: dict[str, Tensor], rename: Callable[[str], str], shards: int) -> None:
    few = {name: tensor for name, tensor in tensors.items() if tensor.numel() < 70_000}
    assert len(few) > 80
    write(tmp_path / "saved", {rename(name): tensor for name, tensor in few.items()}, shards)
    with Weights(tmp_path / "saved", Qwen2VL.prefixes) as weights:
        for name, tensor in few.items():
            assert canonical(rename(name), Qwen2VL.prefixes) == name
            assert torch.equal(weights.get(name, tuple(tensor.shape)), tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_float_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    write(tmp_path / "saved", {EMBED: torch.arange(6).reshape(2, 3).to(dtype)}, 1)
    with Weights(tmp_path / "saved", Qwen2VL.prefixes) as weights:
        found = weights.get(EMBED, (2, 3))
    assert found.dtype == (torch.float32 if dtype == torch.float64 else dtype)  # as transformers reads it
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn, torch.bool])
def test_other_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    write(tmp_path / "saved", {EMBED: torch.zeros(2, 3).to(dtype)}, 1)
    with (
        Weights(tmp_path / "saved", Qwen2VL.prefixes) as weights,
        pytest.raises(UserError, match=f"{dtype}, only float32, float16"),
    ):
        weights.get(EMBED, (2, 3))


def test_a_tensor_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "saved", {newer(EMBED): torch.zeros(2, 3)}, 1)
    with Weights(tmp_path / "saved", Qwen2VL.prefixes) as weights:
        with pytest.raises(UserError, match=r"language_model\.embed_tokens\.weight has shape \[2, 3\], .* \[3, 2\]"):
            weights.get(EMBED, (3, 2))
        with pytest.raises(UserError, match=r"no tensor model\.norm\.weight, which its config asks for"):
            weights.get("model.norm.weight", (3,))


def test_a_stray_file_replaces_nothing(tmp_path: Path) -> None:
    for shards in (1, 2):
        folder = tmp_path / str(shards)
        write(folder, {EMBED: torch.zeros(1), "model.norm.weight": torch.zeros(1)}, shards)
        save_file({EMBED: torch.ones(1)}, folder / "zz-adapter.safetensors")
        with Weights(folder, Qwen2VL.prefixes) as weights:
            assert weights.get(EMBED, (1,)).item() == 0


def test_pickles_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (str(tmp_path / "harmed"),)  # type: ignore[return-value]

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("reads a pickle"))
    for name in ("pytorch_model.bin", "model.pt", "model.pth"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        torch.save(Harmful(), folder / name)
        with pytest.raises(UserError, match=f"pickled weights only .{name}.: they can run code when loaded"):
            Weights(folder, Qwen2VL.prefixes)
    write(tmp_path / "both", {EMBED: torch.zeros(1)}, 1)
    torch.save(Harmful(), tmp_path / "both" / "pytorch_model.bin")
    with Weights(tmp_path / "both", Qwen2VL.prefixes) as weights:
        assert weights.get(EMBED, (1,)).item() == 0
    assert not (tmp_path / "harmed").exists()


# --- Config -----------------------------------------------------------------------------------------------------------


def test_the_flat_config_of_the_hub_means_the_same_as_the_nested_one(tmp_path: Path) -> None:
    """Qwen2-VL's own config.json keeps the text settings at the top and calls the rotary ones `rope_scaling`."""
    raw = read_config(TINY)
    text = raw.pop("text_config")
    rope = text.pop("rope_parameters")
    text.pop("model_type")
    text.pop("layer_types")
    flat = {**text, **raw, "rope_theta": rope["rope_theta"]}
    flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    flat["vision_config"].pop("rope_parameters")
    (tmp_path / "config.json").write_text(json.dumps(flat))
    found, wanted = Qwen2VL(tmp_path), Qwen2VL(TINY)
    assert found.spec == wanted.spec
    sizes: dict[str, Any] = {
        "height": 112, "width": 140, "prefix": 15, "cuts": (Cut(2, 5),), "text": 32, "room": 8,
    }  # fmt: skip
    assert found.geometry(**sizes) == wanted.geometry(**sizes)
    assert found.config.tie_word_embeddings is True


def test_identity_is_that_of_the_config(tmp_path: Path) -> None:
    digest = hashlib.sha256((TINY / "config.json").read_bytes()).hexdigest()
    assert identity(TINY) == f"local config sha256:{digest}"
    shutil.copy(TINY / "config.json", tmp_path)
    assert identity(tmp_path) == identity(TINY), "the folder's place must not show"


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"a": "früh"}'.encode())
    assert read_json(path) == {"a": "früh"}
    for content in (b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not valid JSON"):
            read_json(path)
    path.write_bytes(b"3")
    with pytest.raises(UserError, match="not a JSON object"):
        read_json(path)
    with pytest.raises(UserError, match="is not a folder"):
        read_config(path)


# --- Where checkpoints are --------------------------------------------------------------------------------------------


def test_bundled_checkpoints_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("downloads"))
    assert locate(MODELS["vlmp-tiny"].checkpoint) == TINY


def test_a_download_takes_no_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision is None
        asked[name] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("Qwen/Qwen2-VL-2B-Instruct") == tmp_path
    (patterns,) = asked.values()
    assert not any(Path(name).match(pattern) for pattern in patterns for name in ("pytorch_model.bin", "x.pt", "x.py"))
    for name in ("config.json", "model-00001-of-00002.safetensors", "chat_template.jinja", "merges.txt"):
        assert any(Path(name).match(pattern) for pattern in patterns)


def test_registries() -> None:
    for name, entry in MODELS.items():
        assert model_entry(name) == entry
        assert entry.family in FAMILIES
    assert isinstance(open_family("qwen2_vl", TINY), Qwen2VL)
    with pytest.raises(UserError, match="unknown model 'x': choose one of vlmp-tiny"):
        model_entry("x")
    with pytest.raises(UserError, match="model type 'x' is not supported: it must be one of qwen2_vl"):
        open_family("x", TINY)


def test_a_checkpoint_of_another_family_is_no_checkpoint_of_a_named_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen9_vl"}))
    monkeypatch.setitem(FAMILIES, "qwen9_vl", "vlmp.export.models.qwen9_vl:Qwen9VL")

    def source(**settings: Any) -> Source:
        return open_source(ExportConfig(targets=(), output=Path("unused"), **settings))

    told = r"model type 'qwen9_vl' is not that of --model vlmp-tiny, 'qwen2_vl': give a checkpoint of that type, or"
    with pytest.raises(UserError, match=f"{told} --model .*other alone"):
        source(model="vlmp-tiny", checkpoint=folder)
    monkeypatch.setitem(FAMILIES, "qwen9_vl", FAMILIES["qwen2_vl"])  # one file may read several model types
    assert source(model="vlmp-tiny", checkpoint=folder).geometry == source(model="vlmp-tiny").geometry


def test_a_longer_prefix_stands_before_one_that_it_begins_with() -> None:
    for place in FAMILIES.values():
        module, _, attribute = place.partition(":")
        stored = [prefix for prefix, _ in getattr(import_module(module), attribute).prefixes]
        assert all(not later.startswith(first) for at, first in enumerate(stored) for later in stored[at + 1 :])
