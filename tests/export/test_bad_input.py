"""What a person can get wrong, and what can go wrong on the machine: one clear line, exit code 2, nothing left behind.

Exports go through a target that keeps the PyTorch modules, so that only the pipeline around it is on trial.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import nn
from vlmp.export import cli
from vlmp.export.config import Precision
from vlmp.export.eager import Eager
from vlmp.export.geometry import Geometry
from vlmp.export.models import MODELS
from vlmp.export.targets import OFFERS, TARGETS, Report
from vlmp.pruner import PRUNERS
from vlmp.runtimes import cli as run_cli
from vlmp.runtimes.bundle import folder
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import MANIFEST_NAME, read_manifest
from vlmp.runtimes.bundle.manifest import Manifest, MethodName, MethodSpec
from vlmp.runtimes.console import command
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.session import RUNTIMES

ROOT = Path(__file__).parents[2]
TINY = ROOT / "export/assets/vlmp-tiny"
PHOTO = ROOT / "runtimes/assets/photo.jpg"
PROGRESS = re.compile(r"checkpoint|(fake|second|verify): .+")
SMALL = ["--image-size", "112", "--keep", "0.3", "--text-len", "32", "--max-new-tokens", "6"]
BASE = ["--model", "vlmp-tiny", "--target", "fake", "--output", "out", *SMALL]
GRAPHS: dict[MethodName, Callable[..., Any]] = {}
"""What the fake target has "lowered", for the fake session to run."""
Served = tuple[Path, dict[MethodName, Callable[..., Any]]]


class FakeTarget(Eager):
    """Writes a file a method and keeps the modules."""

    name = "fake"

    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        GRAPHS.clear()
        specs: dict[MethodName, MethodSpec] = {}
        for name, module in methods.items():
            report(f"fake: {name}")
            (folder / f"{name}.graph").write_bytes(f"graph of {name}".encode())
            GRAPHS[name] = self.graph(name, module)
            inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
            specs[name] = MethodSpec(file=f"{name}.graph", entry="", inputs=inputs, outputs=outputs)
        self.finish(folder)
        return specs

    def graph(self, _name: MethodName, module: Callable[..., Any]) -> Callable[..., Any]:
        return module

    def finish(self, folder: Path) -> None: ...

    def tools(self) -> dict[str, str]:
        return {"fake": "1"}


class SecondTarget(FakeTarget):
    name = "second"


class FakeSession(TorchSession):
    """Runs what the fake target keeps."""

    def __init__(self, folder: Path, manifest: Manifest, _threads: int | None = None) -> None:
        super().__init__(manifest, GRAPHS)
        self.folder = folder


def may_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a case say an option of BASE or ASK otherwise, by saying it again."""
    for module in (command, cli):
        monkeypatch.setattr(module, "refuse_repetition", lambda _parser: None)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two targets without any lowering, in an empty working folder, without a network."""
    for name, kind in (("fake", "FakeTarget"), ("second", "SecondTarget")):
        monkeypatch.setitem(TARGETS, name, f"{__name__}:{kind}")
        monkeypatch.setitem(RUNTIMES, name, f"{__name__}:FakeSession")
    may_repeat(monkeypatch)

    def offline(*_: object, **__: object) -> NoReturn:
        raise OSError("no network in tests")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of vlmp-tiny that a test may spoil."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(TINY, folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A bundle and its graphs, made once."""
    folder = tmp_path_factory.mktemp("served") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "fake", f"{__name__}:FakeTarget")
        patch.setitem(RUNTIMES, "fake", f"{__name__}:FakeSession")
        may_repeat(patch)
        cli.main([*BASE, "--output", str(folder)])
    return folder, dict(GRAPHS)


@pytest.fixture
def exported(served: Served) -> Path:
    """A complete bundle in `out`."""
    shutil.copytree(served[0], "out")
    return Path("out").absolute()


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden or not, with content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with one line and exit code 2, and must leave the folder as it was."""

    def run(argv: list[str], *, main: Callable[[list[str]], None] = cli.main, code: int = 2) -> str:
        before = files_below(Path())
        with pytest.raises(SystemExit) as end:
            main(argv)
        out, err = capsys.readouterr()
        assert end.value.code == code, err
        assert files_below(Path()) == before
        assert "Traceback" not in err
        assert out == ""
        *progress, line = err.splitlines()
        assert [other for other in progress if not PROGRESS.fullmatch(other)] == []
        assert re.match(r"vlmp-(export|run|verify): \S", line)
        return line

    return run


# --- Settings ---------------------------------------------------------------------------------------------------------


SETTINGS: list[tuple[list[str], list[str]]] = [
    ([], ["--model is missing", *MODELS]),
    (["--model", "vlmp-tiny"], ["--target is missing", "onnx, executorch, coreml", "all"]),
    (["--model", "gpt-2", "--target", "fake"], ["unknown model 'gpt-2'", *MODELS]),
    (["--model", "vlmp-tiny", "--target", "tflite"], ["unknown target 'tflite'", "onnx, executorch, coreml", "all"]),
    (["--model", "vlmp-tiny", "--target", "fake", "--target", "ONNX"], ["unknown target 'ONNX'"]),
    ([*BASE, "--pruner", "fastest"], ["unknown pruner 'fastest'", *PRUNERS]),
    ([*BASE, "--quant", ""], ["no quantization '' for fake", "--quant none"]),
    ([*BASE, "--quant", "int4"], ["no quantization 'int4' for fake", "--quant none"]),
    (
        ["--model", "vlmp-tiny", "--target", "coreml", "--quant", "int3"],
        ["'int3' for coreml", *OFFERS["coreml"].presets],
    ),
    (["--model", "vlmp-tiny", "--target", "onnx", "--quant", "palette4"], ["'palette4' for onnx", "none, int8, int4"]),
    ([*BASE, "--precision", "float16"], ["--precision float16", "fake exports float32"]),
    ([*BASE, "--precision", "bfloat16"], ["--precision", "float32", "float16"]),
    ([*BASE, "--image-fit", "crop"], ["--image-fit", "pad", "stretch"]),
    ([*BASE, "--list", "bundles"], ["--list", "models", "targets", "pruners"]),
    ([*BASE, "--speed", "fast"], ["--speed"]),
    ([*BASE, "--keep", "nan"], ["--keep nan", "greater than 0 and at most 1"]),
    ([*BASE, "--keep", "inf"], ["--keep inf"]),
    ([*BASE, "--keep", "0"], ["--keep 0", "kept share"]),
    ([*BASE, "--keep", "-0.5"], ["--keep -0.5"]),
    ([*BASE, "--keep", "1.01"], ["--keep 1.01"]),
    ([*BASE, "--keep", "half"], ["--keep", "half"]),
    ([*BASE, "--keep", "0.2"], ["--keep 0.2 keeps 3 of 16", "at least 4", "at least 0.25"]),
    ([*BASE, "--image-size", "28"], ["1 visual tokens", "larger --image-size", "--pruner none"]),
    ([*BASE, "--image-size", "100"], ["--image-size 100x100", "multiples of 28"]),
    ([*BASE, "--image-size", "112x100"], ["--image-size 112x100", "multiples of 28"]),
    ([*BASE, "--image-size", "0"], ["--image-size 0x0", "multiples of 28"]),
    ([*BASE, "--image-size", "112x0"], ["--image-size 112x0", "multiples of 28"]),
    ([*BASE, "--image-size", "big"], ["--image-size big", "448", "336x448"]),
    ([*BASE, "--image-size", "112x"], ["--image-size 112x"]),
    ([*BASE, "--image-size=-112"], ["--image-size -112"]),
    ([*BASE, "--image-size", "112x112x3"], ["--image-size 112x112x3"]),
    ([*BASE, "--image-size", "9" * 5000], ["--image-size 999", "must be a side"]),
    ([*BASE, "--image-size", "99988"], ["visual tokens", "4096"]),
    ([*BASE, "--prune-layer", "0"], ["--prune-layer 0", "at least 1"]),
    ([*BASE, "--prune-layer", "0", "--pruner", "fastv"], ["--prune-layer 0", "attention of the layer before"]),
    ([*BASE, "--prune-layer", "0", "--pruner", "dart"], ["--prune-layer 0", "keys of the layer before"]),
    ([*BASE, "--prune-layer", "-1"], ["--prune-layer -1", "at least 0"]),
    ([*BASE, "--prune-layer", "6", "--pruner", "divprune"], ["--prune-layer 6", "6 layers", "0 to 5"]),
    ([*BASE, "--pruner", "none"], ["--keep 0.3", "--pruner none keeps all"]),
    ([*BASE, "--pruner", "random", "--keep", "0.01"], ["--keep 0.01 keeps 0 of 16", "at least 1"]),
    ([*BASE, "--prune-layer", "6"], ["--prune-layer 6", "6 layers", "1 to 5"]),
    ([*BASE, "--prune-layer", "two"], ["--prune-layer", "two"]),
    ([*BASE, "--text-len", "0"], ["--text-len 0", "at least 1"]),
    ([*BASE, "--text-len", "8"], ["--text-len 8", "template", "at least"]),
    ([*BASE, "--text-len", "5000"], ["--text-len 5000", "4096"]),
    ([*BASE, "--max-new-tokens", "0"], ["--max-new-tokens 0", "at least 1"]),
    ([*BASE, "--max-new-tokens", "1000000000"], ["--max-new-tokens 1000000000", "4096"]),
    ([*BASE, "--system-prompt", "Be brief.\udcff"], ["--system-prompt", "UTF-8"]),
]


@pytest.mark.parametrize(("argv", "says"), SETTINGS, ids=[" ".join(argv[-2:])[:40] for argv, _ in SETTINGS])
def test_settings(refused: Callable[..., str], argv: list[str], says: list[str]) -> None:
    line = refused(argv)
    assert [part for part in says if part not in line] == []


def test_unknown_names_are_told_before_a_checkpoint_is_downloaded(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("downloads"))
    argv = ["--model", "qwen2-vl-2b", "--quant", "none", "--target", "fake", "--output", "out"]
    for wrong in (["--pruner", "no"], ["--quant", "no"], ["--target", "no"], ["--precision", "float16"]):
        refused([*argv, *wrong])


def test_the_text_len_that_is_named_suffices_even_for_an_answer_of_one_token(
    refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused([*BASE, "--text-len", "1"])
    (least,) = re.findall(r"use at least (\d+)$", line)
    refused([*BASE, "--text-len", str(int(least) - 1)])
    cli.main([*BASE, "--text-len", least, "--max-new-tokens", "1"])
    assert "verification passed" in capsys.readouterr().out


@pytest.mark.parametrize("edge", [["--prune-layer", "1"], ["--prune-layer", "5"], ["--keep", "0.25"], ["--keep", "1"],
                                  ["--pruner", "divprune", "--keep", "0.06"]])  # fmt: skip
def test_edges_of_what_is_allowed(capsys: pytest.CaptureFixture[str], edge: list[str]) -> None:
    cli.main([*BASE, *edge])
    assert "verification passed" in capsys.readouterr().out


def test_one_visual_token_without_pruning(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*BASE, "--image-size", "28", "--pruner", "none", "--keep", "1"])
    assert "1 of 1 visual tokens" in capsys.readouterr().out


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def config_with(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            section, _, key = name.partition("__")
            (config[section] if key else config)[key or section] = value
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def tensors_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def without(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def with_file(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 5_000_000)


def emptied(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 0)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")


def sharded_with(index: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(index)

    return spoil


NORM = "model.norm.weight"
NO_TEMPLATE = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
NO_ANSWER = "{{ '<|image_pad|>' }}{{ messages[-1]['content'][-1]['text'] }}"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(shutil.rmtree, "does not exist", id="missing"),
        pytest.param(without("config.json"), "no config.json", id="no config"),
        pytest.param(with_file("config.json", "{"), "not valid JSON", id="config not JSON"),
        pytest.param(with_file("config.json", "[" * 100_000), "not valid JSON", id="config too deep"),
        pytest.param(with_file("config.json", "[]"), "not a JSON object", id="config a list"),
        pytest.param(with_file("config.json", "{}"), "model type 'None' is not supported", id="config empty"),
        pytest.param(
            config_with(model_type="llama"), "'llama' is not supported: it must be one of qwen2_vl", id="llama"
        ),
        pytest.param(config_with(text_config=7), "no Qwen2-VL config", id="config of wrong kinds"),
        pytest.param(config_with(text_config__num_attention_heads=0), "num_attention_heads is 0", id="no heads"),
        pytest.param(
            config_with(text_config__num_attention_heads=3),
            "sum of mrope_section is 32, only 42",
            id="heads do not divide",
        ),
        pytest.param(config_with(vision_config__patch_size=0), "patch_size is 0", id="no patch"),
        pytest.param(config_with(vision_config__patch_size=-14), "patch_size is -14", id="negative patch"),
        pytest.param(config_with(vision_config__embed_dim=-1), "embed_dim is -1", id="negative width"),
        pytest.param(config_with(text_config__rope_parameters={"mrope_section": 1}), "no Qwen2-VL config", id="rope"),
        pytest.param(config_with(text_config__hidden_act="relu"), "hidden_act is 'relu'", id="activation"),
        pytest.param(config_with(text_config__hidden_size=512), "only", id="width of another model"),
        pytest.param(
            config_with(text_config__intermediate_size=700), "gate_proj.weight has shape [768, 256]", id="shape"
        ),
        pytest.param(
            config_with(text_config__num_hidden_layers=7, text_config__layer_types=None),
            "no tensor model.layers.6.",
            id="layer missing",
        ),
        pytest.param(config_with(text_config__vocab_size=1500), "vocab_size 1500", id="vocabulary too small"),
        pytest.param(truncated, "truncated or damaged", id="truncated weights"),
        pytest.param(emptied, "truncated or damaged", id="empty weights"),
        pytest.param(with_file("model.safetensors", "x" * 99), "truncated or damaged", id="weights are text"),
        pytest.param(without("model.safetensors"), "has no *.safetensors", id="no weights"),
        pytest.param(pickled, "pytorch_model.bin): they can run code", id="pickle"),
        pytest.param(tensors_with(lambda t: t.pop(NORM)), f"no tensor {NORM}", id="tensor missing"),
        pytest.param(
            tensors_with(lambda t: t.update({NORM: torch.zeros(255)})), f"{NORM} has shape [255]", id="tensor shape"
        ),
        pytest.param(
            tensors_with(lambda t: t.update({NORM: torch.zeros(256, dtype=torch.int8)})), "torch.int8", id="int8"
        ),
        pytest.param(sharded_with("{"), "index.json is not valid JSON", id="index not JSON"),
        pytest.param(sharded_with("{}"), "no weight_map", id="index empty"),
        pytest.param(sharded_with('{"weight_map": {"a": []}}'), "no weight_map", id="index of wrong kinds"),
        pytest.param(
            sharded_with('{"weight_map": {"a": "b.safetensors"}}'), "b.safetensors is listed", id="shard missing"
        ),
        pytest.param(without("tokenizer.json"), "no tokenizer", id="no tokenizer"),
        pytest.param(with_file("tokenizer.json", '{"version"'), "tokenizer cannot be read", id="tokenizer truncated"),
        pytest.param(with_file("tokenizer.json", "{}"), "tokenizer cannot be read", id="tokenizer empty"),
        pytest.param(without("chat_template.jinja"), "no chat template", id="no template"),
        pytest.param(with_file("chat_template.jinja", NO_TEMPLATE), "does not hold one <|image_pad|>", id="no image"),
        pytest.param(with_file("chat_template.jinja", "{% for"), "cannot be rendered", id="template syntax"),
        pytest.param(with_file("chat_template.jinja", NO_ANSWER), "does not hold an answer", id="no answer"),
        pytest.param(with_file("generation_config.json", "{"), "not valid JSON", id="generation config not JSON"),
        pytest.param(with_file("generation_config.json", '{"eos_token_id": "x"}'), "eos_token_id is 'x'", id="end id"),
    ],
)
def test_checkpoints(refused: Callable[..., str], checkpoint: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(checkpoint)
    assert says in refused([*BASE, "--checkpoint", str(checkpoint)])


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("Cannot reach the hub.\nCheck\nyour connection."),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("the transfer broke off"),
        Exception(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_downloads_that_fail(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    line = refused(["--model", "qwen2-vl-2b", "--quant", "none", "--target", "fake", "--output", "out"])
    reason = " ".join(str(error).split()) or "Exception"
    assert f"cannot download Qwen/Qwen2-VL-2B-Instruct from Hugging Face ({reason})" in line
    assert line.endswith("go online, or pass --checkpoint DIR")


def test_a_download_may_be_interrupted(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", interrupt)
    line = refused(["--model", "qwen2-vl-2b", "--quant", "none", "--target", "fake", "--output", "out"], code=130)
    assert "interrupted" in line


# --- Output -----------------------------------------------------------------------------------------------------------


def foreign_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / MANIFEST_NAME).write_text('{"manifest_version": 3, "name": "a browser extension"}')
    (folder / "background.js").write_text("run()")


def photos(folder: Path) -> None:
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"dear")


@pytest.mark.parametrize(
    ("prepare", "options", "says"),
    [
        (lambda out: out.mkdir(), [], "output out exists: choose another --output or pass --overwrite"),
        (lambda out: out.write_text("text"), [], "output out exists"),
        (lambda out: out.symlink_to("nowhere"), [], "output out exists"),
        (lambda out: out.write_text("text"), ["--overwrite"], "output out is not a bundle"),
        (lambda out: out.symlink_to("nowhere"), ["--overwrite"], "output out is not a bundle"),
        (photos, ["--overwrite"], "--overwrite replaces bundles only"),
        (foreign_manifest, ["--overwrite"], "--overwrite replaces bundles only"),
        (lambda out: out.write_text("text"), ["--output", "out/in/side"], "cannot write out/in/side: Not a directory"),
        (lambda _: None, ["--output", "n" * 300], "File name too long"),
        (lambda _: None, ["--output", "."], "output . exists"),
        (lambda _: None, ["--output", ".", "--overwrite"], "cannot write ."),
        (lambda _: None, ["--output", ""], "the path is empty"),
    ],
)
def test_outputs(refused: Callable[..., str], prepare: Callable[[Path], object], options: list[str], says: str) -> None:
    prepare(Path("out"))
    assert says in refused([*BASE, *options])


def test_one_existing_output_of_several_stops_them_all(refused: Callable[..., str], exported: Path) -> None:
    exported.rename("second")
    Path("both").mkdir()
    Path("second").rename("both/second")
    line = refused([*BASE, "--target", "second", "--output", "both"])
    assert "output both/second exists" in line


def test_overwrite_replaces_a_bundle_and_leaves_nothing_else(exported: Path) -> None:
    (exported / "vision.graph").write_bytes(b"earlier")
    (exported / "stale.bin").write_bytes(b"earlier")
    cli.main([*BASE, "--overwrite"])
    assert [path.name for path in Path().iterdir()] == ["out"]
    assert not (exported / "stale.bin").exists()
    assert read_manifest(exported).parity.status == "passed"


def test_several_targets_are_not_put_into_a_bundle(refused: Callable[..., str], exported: Path) -> None:
    line = refused([*BASE, "--target", "second", "--overwrite"])
    assert "is itself a bundle" in line


def test_several_targets_get_a_folder_each(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*BASE, "--target", "second", "--target", "fake", "--output", "deep/er"])
    assert sorted(path.as_posix() for path in Path().glob("*/*/*")) == ["deep/er/fake", "deep/er/second"]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["deep/er/fake", "deep/er/second"]


class FailingTarget(SecondTarget):
    """Refuses a layer when the graphs are built."""

    def finish(self, folder: Path) -> None:
        raise UserError("groups do not fit")


def test_a_bundle_is_told_although_the_next_target_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "second", f"{__name__}:FailingTarget")
    with pytest.raises(SystemExit, match="2"):
        cli.main([*BASE, "--target", "second"])
    out, err = capsys.readouterr()
    assert re.fullmatch(r"out/fake: fake float32, 5 of 16 visual tokens, .*\n", out)
    assert err.splitlines()[-1] == "vlmp-export: groups do not fit"
    assert [path.name for path in Path("out").iterdir()] == ["fake"]


# --- What the machine does --------------------------------------------------------------------------------------------


@pytest.fixture(params=["new", "overwrite"])
def argv(request: pytest.FixtureRequest, served: Served) -> list[str]:
    """An export into a folder that is not there yet, and one over an earlier bundle."""
    if request.param == "new":
        return [*BASE, "--output", "new/folders/out"]
    shutil.copytree(served[0], "out")
    return [*BASE, "--overwrite", "--prune-layer", "3"]


@pytest.mark.parametrize(
    "full_at", ["vision.graph", "extend.graph", "tokenizer.json", "reference.safetensors", "manifest"]
)
def test_full_disk(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, argv: list[str], full_at: str) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if "w" in mode and path.name.startswith(full_at):
            real(path, mode, *rest, **named).close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", full)
    line = refused(argv)
    assert line.startswith("vlmp-export: cannot write ")
    assert line.endswith("out: No space left on device")


def test_a_copy_that_fails_within_a_library(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(_self: FakeTarget, folder: Path) -> None:
        raise shutil.Error([("a.mlpackage", str(folder), "[Errno 28] No space left on device")])

    monkeypatch.setattr(FakeTarget, "finish", copy)
    assert refused(BASE).endswith("cannot write out: [Errno 28] No space left on device")


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


@pytest.mark.parametrize("cause", [interrupt, terminate])
@pytest.mark.parametrize("place", [(FakeTarget, "finish"), (FakeSession, "see")], ids=["lower", "verify"])
def test_interruption(
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    cause: Callable[..., Any],
    place: tuple[type, str],
) -> None:
    def unhandled(*_: object) -> None:
        pytest.fail("SIGTERM would have ended the process")

    monkeypatch.setattr(*place, cause)
    before = signal.signal(signal.SIGTERM, unhandled)
    try:
        line = refused(argv, code=130)
        assert signal.getsignal(signal.SIGTERM) is unhandled
    finally:
        signal.signal(signal.SIGTERM, before)
    assert line == "vlmp-export: interrupted, nothing unfinished is left behind"


def test_an_interruption_leaves_the_bundles_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(_self: FakeTarget, folder: Path) -> None:
        if ".second." in str(folder):
            raise KeyboardInterrupt

    monkeypatch.setattr(FakeTarget, "finish", finish)
    with pytest.raises(SystemExit, match="130"):
        cli.main([*BASE, "--target", "second"])
    assert [path.as_posix() for path in Path().glob("*/*")] == ["out/fake"]
    assert read_manifest(Path("out/fake")).parity.status == "passed"


def test_sigterm_ends_the_program_and_leaves_nothing() -> None:
    command = [Path(sys.executable).with_name("vlmp-export"), "--model", "vlmp-tiny", "--target", "onnx"]
    process = subprocess.Popen([*command, "--output", "new/out"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    heard = ""
    for heard in process.stderr:
        if heard.startswith("onnx: vision"):
            break
    assert [path for path in Path("new").iterdir() if path.name.startswith(".out.")], heard
    process.terminate()
    *_, last = process.stderr
    assert last == "vlmp-export: interrupted, nothing unfinished is left behind\n"
    assert process.wait(timeout=60) == 130
    assert files_below(Path()) == {}


# --- Verification -----------------------------------------------------------------------------------------------------

Outputs = tuple[torch.Tensor, ...]


def scaled(outputs: Outputs) -> Outputs:
    return (outputs[0] * 1.001, *outputs[1:])


def other_kept(outputs: Outputs) -> Outputs:
    return (outputs[0], (outputs[1] + 1) % 16, *outputs[2:])


def repeated_kept(outputs: Outputs) -> Outputs:
    return (outputs[0], outputs[1][:1].expand_as(outputs[1]), *outputs[2:])


def always_the_first_kept() -> Callable[[Outputs], Outputs]:
    seen: list[torch.Tensor] = []

    def change(outputs: Outputs) -> Outputs:
        seen.append(outputs[1])
        return (outputs[0], seen[0], *outputs[2:])

    return change


def filled(outputs: Outputs) -> Outputs:
    return (*outputs[:3], outputs[3] + 1, *outputs[4:])


def last_rows_lost(outputs: Outputs) -> Outputs:
    return (*outputs[:-1], outputs[-1] * 0)


def other_order(outputs: Outputs) -> Outputs:
    return (*outputs[:2], (outputs[2] + 1) % 16, *outputs[3:])


def a_logit_less(outputs: Outputs) -> Outputs:
    return (outputs[0][:-1], *outputs[1:])


def rows_swapped(outputs: Outputs) -> Outputs:
    return (*outputs[:-2], outputs[-1], outputs[-2])


def not_finite(outputs: Outputs) -> Outputs:
    return (outputs[0] * torch.nan, *outputs[1:])


def wrong_graph(method: str, change: Callable[[Outputs], Outputs]) -> Callable[..., Callable[..., Any]]:
    """What replaces FakeTarget.graph, so that one method answers wrongly."""

    def graph(_self: FakeTarget, name: str, module: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*inputs: torch.Tensor) -> Outputs:
            outputs = module(*inputs)
            return change(outputs if isinstance(outputs, tuple) else (outputs,))

        return wrong if name == method else module

    return graph


@pytest.mark.parametrize(
    ("method", "change", "figure"),
    [
        ("vision", scaled, "vision relative error: 0.00"),
        ("prefill", scaled, "prefill logits relative error: 0.00"),
        ("prefill", not_finite, "prefill logits relative error: inf"),
        ("prefill", other_kept, "kept tokens in common: "),
        ("prefill", repeated_kept, "kept tokens in common: 0.2"),
        ("prefill", always_the_first_kept(), "kept tokens in common: "),
        ("prefill", other_order, "orders of other tokens than those kept: 4"),
        ("prefill", a_logit_less, "prefill logits relative error: inf"),
        ("prefill", filled, "tokens filled by lowest score: 1"),
        ("prefill", last_rows_lost, "decode logits relative error: "),
        ("decode", scaled, "decode logits relative error: 0.00"),
        ("decode", last_rows_lost, "decode logits relative error: "),
        ("decode", rows_swapped, "extend logits relative error: "),
        ("decode", last_rows_lost, "prefill + decode against one long prefill: "),
        ("extend", scaled, "extend logits relative error: 0.00"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_wrong_graphs_fail_the_export_with_the_figures(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    change: Callable[[Outputs], Outputs],
    figure: str,
) -> None:
    monkeypatch.setattr(FakeTarget, "graph", wrong_graph(method, change))
    with pytest.raises(SystemExit, match="2"):
        cli.main(BASE)
    out, err = capsys.readouterr()
    assert f"  FAIL {figure}" in err
    last = err.splitlines()[-1]
    assert last.startswith("vlmp-export: verification for fake failed, its bundle was not written: ")
    assert figure.split(":")[0] in last
    assert "Traceback" not in err
    assert out == ""
    assert files_below(Path()) == {}


def test_a_failed_verification_leaves_the_earlier_bundle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, exported: Path
) -> None:
    monkeypatch.setattr(FakeTarget, "graph", wrong_graph("decode", scaled))
    before = files_below(Path())
    with pytest.raises(SystemExit, match="2"):
        cli.main([*BASE, "--overwrite", "--pruner", "uniform"])
    assert "verification for fake failed" in capsys.readouterr().err
    assert files_below(Path()) == before


def test_weights_that_are_not_finite_fail_the_export(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    tensors_with(lambda tensors: tensors[NORM].fill_(torch.nan))(checkpoint)
    with pytest.raises(SystemExit, match="2"):
        cli.main([*BASE, "--checkpoint", str(checkpoint)])
    assert f"{NORM} holds values that are not finite" in capsys.readouterr().err
    assert files_below(Path()) == {}


# --- vlmp-run and vlmp-verify -----------------------------------------------------------------------------------------


@pytest.fixture
def ready(served: Served) -> Path:
    """A copy of it in the working folder."""
    shutil.copytree(served[0], "bundle")
    GRAPHS.clear()
    GRAPHS.update(served[1])
    return Path("bundle")


ASK = ["bundle", "--image", str(PHOTO), "--prompt", "What is this?"]


def edited_manifest(**changes: Any) -> None:
    path = Path("bundle", MANIFEST_NAME)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("prepare", "argv", "says"),
    [
        (None, [], "bundle, --image, --prompt"),
        (None, ["bundle", "--image", "x.jpg"], "--prompt"),
        (None, ["nowhere", *ASK[1:]], "nowhere is not a bundle: it has no manifest.json"),
        (None, ["n" * 300, *ASK[1:]], "File name too long"),
        (
            lambda: edited_manifest(target="tpu"),
            ASK,
            "target 'tpu' is unknown: this vlmp runs onnx, executorch, coreml",
        ),
        (lambda: edited_manifest(target="second"), ASK, "needs no_such_runtime, which is not installed: pip install"),
        (lambda: Path("bundle/tokenizer.json").write_text("{"), ASK, "tokenizer.json has 1 bytes"),
        (lambda: Path("bundle/vision.graph").write_text("graph of vizion"), ASK, "vision.graph is damaged"),
        (lambda: Path("bundle/decode.graph").unlink(), ASK, "decode.graph is missing"),
        (None, [*ASK, "--image", "no.jpg"], "image no.jpg does not exist"),
        (None, [*ASK, "--image", "bundle"], "image bundle is not a file"),
        (lambda: Path("a.jpg").write_text("no photo"), [*ASK, "--image", "a.jpg"], "a.jpg is not in a format"),
        (lambda: Path("a.jpg").write_bytes(PHOTO.read_bytes()[:9000]), [*ASK, "--image", "a.jpg"], "truncated"),
        (None, [*ASK[:-1], ""], "the prompt is empty"),
        (None, [*ASK[:-1], " \n"], "the prompt is empty"),
        (None, [*ASK[:-1], "why " * 99], "tokens, the bundle takes up to 26: export with a larger --text-len"),
        (None, [*ASK[:-1], "caf\udce9"], "the prompt is not valid UTF-8"),
        (None, [*ASK, "--max-new-tokens", "0"], "--max-new-tokens 0: must be at least 1"),
        (None, [*ASK, "--max-new-tokens", "7"], "max_new_tokens=7: this bundle allows 1 to 6"),
        (None, [*ASK, "--max-new-tokens", "many"], "--max-new-tokens"),
    ],
)
def test_run(
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    ready: Path,
    prepare: Callable[[], object] | None,
    argv: list[str],
    says: str,
) -> None:
    monkeypatch.setitem(RUNTIMES, "second", "no_such_runtime:Session")
    if prepare:
        prepare()
    assert says in refused(argv, main=run_cli.run)


def test_run_answers(capsys: pytest.CaptureFixture[str], ready: Path) -> None:
    run_cli.run([*ASK, "--max-new-tokens", "3", "--prompt", "And this?", "--show-kept", "kept.png"])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 2
    assert "kept 5 of 16 visual tokens (vlm-pruner)" in err
    # How many of the three tokens come before the end is up to the model, which never learnt such small pictures.
    assert len(re.findall(r"decode \d+ ms \([0-3] tokens, \d+\.\d tok/s\)", err)) == 2
    assert Path("kept.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["kept.unknown", "missing/kept.png", "bundle"])
def test_pictures_that_cannot_be_written(capsys: pytest.CaptureFixture[str], ready: Path, name: str) -> None:
    before = files_below(Path())
    with pytest.raises(SystemExit, match="2"):
        run_cli.run([*ASK, "--show-kept", name])
    assert f"vlmp-run: cannot write {name}: " in capsys.readouterr().err.splitlines()[-1]
    assert files_below(Path()) == before


def test_run_may_be_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ready: Path
) -> None:
    monkeypatch.setattr(FakeSession, "prefill", interrupt)
    with pytest.raises(SystemExit, match="130"):
        run_cli.run(ASK)
    assert capsys.readouterr().err.startswith("vlmp-run: interrupted")


def test_verify_tells_the_figures(capsys: pytest.CaptureFixture[str], ready: Path) -> None:
    run_cli.verify(["bundle"])
    good = capsys.readouterr().out
    assert "passed" in good.splitlines()[0]
    assert "FAIL" not in good
    GRAPHS["decode"] = lambda *inputs, graph=GRAPHS["decode"]: scaled(graph(*inputs))
    with pytest.raises(SystemExit, match="1"):
        run_cli.verify(["bundle"])
    bad = capsys.readouterr().out
    assert "failed" in bad.splitlines()[0]
    assert "  FAIL decode logits relative error" in bad


def test_verify_needs_a_reference(refused: Callable[..., str], capsys: pytest.CaptureFixture[str], ready: Path) -> None:
    assert "nowhere is not a bundle" in refused(["nowhere"], main=run_cli.verify)
    assert "bundle" in refused([], main=run_cli.verify)
    cli.main([*BASE, "--no-verify"])
    assert "verification skipped" in capsys.readouterr().out
    assert read_manifest(Path("out")).parity.status == "skipped"
    assert "out was exported with --no-verify" in refused(["out"], main=run_cli.verify)
    (ready / "reference.safetensors").write_bytes(b"damaged")
    folder.write_manifest(ready, read_manifest_unchecked(ready))
    assert "reference.safetensors cannot be read" in refused(["bundle"], main=run_cli.verify)


def read_manifest_unchecked(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())


# --- The programs themselves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "argv", "says"),
    [
        ("vlmp-export", ["--model", "vlmp-tiny", "--target", "tflite"], "unknown target 'tflite'"),
        ("vlmp-export", ["--model", "qwen2-vl-2b", "--target", "onnx"], "go online, or pass --checkpoint DIR"),
        ("vlmp-run", ["nowhere", "--image", "a.jpg", "--prompt", "Hm?"], "image a.jpg does not exist"),
        ("vlmp-verify", ["nowhere"], "nowhere is not a bundle"),
    ],
)
def test_programs(tmp_path: Path, program: str, argv: list[str], says: str) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [Path(sys.executable).with_name(program), *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    *progress, line = done.stderr.splitlines()
    assert line.startswith(f"{program}: ")
    assert says in line
    assert progress in ([], ["checkpoint"])
    assert files_below(Path()) == {}
