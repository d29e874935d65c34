"""Models by Hugging Face id and by folder, from a cache laid out as the hub's own, with its real library offline."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_cases import REVISION, as_in_a_cache
from huggingface_hub import constants
from vlmp.export import cli
from vlmp.export.checkpoint import locate
from vlmp.export.config import ExportConfig
from vlmp.export.models import BILLION, MODELS, file_label, model_entry, model_label, parameters
from vlmp.export.plan import open_source, quantization_of
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import OneLineParser

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
LARGE = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "vocab_size": 151936,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with two checkpoints, a model of another family, and a large one's config without its weights."""
    root = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    for name in ("someone/My-Finetune", "Qwen/Qwen2-VL-2B-Instruct"):
        as_in_a_cache(TINY, root, name)
    for name, config in (
        ("meta/Llama", {"model_type": "llama"}),
        ("someone/Large", {"model_type": "qwen2_vl", **LARGE}),
        ("someone/Nested", {"model_type": "qwen2_vl", "text_config": LARGE}),
    ):
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        as_in_a_cache(folder, root, name)
    return root


def source_of(model: str, **changes: Any) -> tuple[str, str]:
    """What the manifest says of checkpoint and quantization."""
    config = ExportConfig(model=model, targets=(), output=Path("out"), image_size=(112, 112), pruner="none")
    config = replace(config, **changes)
    return open_source(config).name, quantization_of(config)


def test_an_id_is_opened_as_its_folder_and_says_its_revision(cache: Path) -> None:
    snapshot = cache / "models--someone--My-Finetune/snapshots" / REVISION
    assert locate("someone/My-Finetune") == snapshot
    for asked in ("", "@main", f"@{REVISION}"):
        assert source_of(f"someone/My-Finetune{asked}") == (f"someone/My-Finetune@{REVISION}", "none")


def test_a_registered_id_is_its_entry() -> None:
    entry = MODELS["qwen2-vl-2b"]
    assert model_entry("Qwen/Qwen2-VL-2B-Instruct") == entry
    assert model_entry("Qwen/Qwen2-VL-2B-Instruct@main") == replace(entry, checkpoint=f"{entry.checkpoint}@main")
    for name in ("qwen2-vl-2b", "Qwen/Qwen2-VL-2B-Instruct"):
        assert source_of(name) == (f"Qwen/Qwen2-VL-2B-Instruct@{REVISION}", "int4")


@pytest.mark.parametrize("name", ["someone/Large", "someone/Nested"])
def test_a_large_model_is_quantized_unless_told_otherwise(name: str) -> None:
    assert model_entry(name).quant == "int4"
    assert parameters(LARGE) == pytest.approx(1.54 * BILLION, rel=0.02)
    assert model_entry("someone/My-Finetune").quant == "none"
    assert parameters({"hidden_size": "wide"}) == 0


def test_another_family_is_refused_by_its_config_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("downloads all"))
    with pytest.raises(
        UserError, match=r"^meta/Llama: model type 'llama' is not supported: it must be one of qwen2_vl"
    ):
        source_of("meta/Llama")


@pytest.mark.parametrize("name", ["no/Such", "someone/My-Finetune@no-such"])
def test_what_is_not_there_is_told(name: str) -> None:
    with pytest.raises(
        UserError, match=f"^cannot download {name} from Hugging Face .*: go online, or pass --checkpoint"
    ):
        source_of(name)


@pytest.mark.parametrize("name", ["gpt-2", "a/b/c", "./a/b", "/a/b", "../a", "a/", "/b", "a b/c", "a/b@"])
def test_names_that_are_no_ids(name: str) -> None:
    with pytest.raises(
        UserError, match=r"unknown model .*: choose one of vlmp-tiny, .*, a folder, or a Hugging Face id"
    ):
        model_entry(name)


def test_a_folder_is_a_model() -> None:
    shutil.copytree(TINY, "mine/model")
    local, quant = source_of("mine/model")
    assert local == source_of("vlmp-tiny", checkpoint=Path("mine/model"))[0]
    assert (local[:19], quant) == ("local config sha256", "none")
    assert model_label("mine/model") == model_label("./mine/model/") == "model"
    Path("mine/model/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"^mine/model: model type 'llama' is not supported"):
        source_of("mine/model")


def test_an_id_with_a_checkpoint_of_its_own_needs_no_hub() -> None:
    shutil.copytree(TINY, "mine")
    assert source_of("no/Such", checkpoint=Path("mine")) == (source_of("vlmp-tiny", checkpoint=Path("mine"))[0], "none")
    Path("mine/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"^mine: model type 'llama' is not supported"):
        source_of("no/Such", checkpoint=Path("mine"))


def test_a_folder_with_a_checkpoint_of_its_own_is_refused() -> None:
    with pytest.raises(UserError, match="--model made is a checkpoint's folder itself: leave --checkpoint x out"):
        model_entry("made", Path("x"))


def test_names_of_files_and_folders() -> None:
    assert model_label("someone/My-Finetune@main") == "someone/My-Finetune"
    assert file_label("someone/My-Finetune@main") == "someone--My-Finetune"
    assert file_label("vlmp-tiny") == "vlmp-tiny"
    assert read("--model", "someone/My-Finetune").output == Path("bundles/someone--My-Finetune-vlm-pruner-onnx")


def read(*argv: str) -> ExportConfig:
    parser = OneLineParser("vlmp-export")
    cli.add_arguments(parser)
    return cli.read_config(parser.parse_args([*argv, "--target", "onnx"]))


def test_a_revision_goes_with_an_id() -> None:
    assert read("-m", "someone/My-Finetune", "--revision", "main").model == "someone/My-Finetune@main"
    for name in ("vlmp-tiny", "someone/My-Finetune@main"):
        with pytest.raises(UserError, match=f"--revision main: goes with a Hugging Face id, {name} "):
            read("--model", name, "--revision", "main")
