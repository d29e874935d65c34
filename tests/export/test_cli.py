"""The command lines: options and defaults are frozen here, and what they turn into is checked."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bundle_cases import image_spec, shape_spec
from vlmp.export import cli
from vlmp.export.config import ExportConfig, parse_image_size
from vlmp.export.models import FAMILIES, MODELS
from vlmp.export.pipeline import Result
from vlmp.export.schedule import named_schedule, parse_schedule
from vlmp.export.targets import TARGETS, open_target
from vlmp.pruner import PRUNERS
from vlmp.runtimes import cli as run_cli
from vlmp.runtimes.bundle.errors import UserError, check_text, one_line
from vlmp.runtimes.bundle.manifest import Check, Manifest, ParitySpec
from vlmp.runtimes.console.command import OneLineParser
from vlmp.runtimes.session import RUNTIMES

ROOT = Path(__file__).parents[2]

EXPORT = {
    "--help": "flag",
    "--version": "flag",
    "--model": None,
    "--revision": None,
    "--target": "None, repeatable",
    "--checkpoint": None,
    "--schedule": None,
    "--stage": "None, repeatable",
    "--pruner": None,
    "--keep": None,
    "--prune-layer": None,
    "--image-size": None,
    "--image-fit": "pad of pad|stretch",
    "--system-prompt": None,
    "--text-len": 64,
    "--max-new-tokens": 256,
    "--precision": "None of float32|float16",
    "--quant": None,
    "--output": None,
    "--single-file": "flag",
    "--overwrite": "flag",
    "--no-verify": "flag",
    "--list": "None of models|targets|pruners|schedules",
    "--debug": "flag",
}
RUN = {
    "--help": "flag",
    "--version": "flag",
    "bundle": "required",
    "--image": "required",
    "--prompt": "required, repeatable",
    "--max-new-tokens": None,
    "--control-tokens": "flag",
    "--show-kept": None,
    "--debug": "flag",
}
VERIFY = {"--help": "flag", "--version": "flag", "bundle": "required", "--debug": "flag"}
"""Who changes these changes what people have typed into their scripts."""


def options_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Option -> default, with what kind of option it is where that is not plain."""
    found: dict[str, Any] = {}
    for action in parser._actions:
        value: Any = "required" if action.required else action.default
        if action.choices:
            value = f"{value} of {'|'.join(action.choices)}"
        if isinstance(action, argparse._AppendAction):
            value = f"{value}, repeatable"
        if action.nargs == 0:
            value = "flag"
        found[action.option_strings[-1] if action.option_strings else action.dest] = value
    return found


@pytest.mark.parametrize(("main", "frozen"), [(cli.main, EXPORT), (run_cli.run, RUN), (run_cli.verify, VERIFY)])
def test_options_and_defaults_are_frozen(
    monkeypatch: pytest.MonkeyPatch, main: Callable[[list[str]], None], frozen: dict[str, Any]
) -> None:
    parsers: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, _argv: object) -> argparse.Namespace:
        parsers.append(parser)
        raise SystemExit(0)

    monkeypatch.setattr(OneLineParser, "parse_args", stop)
    with pytest.raises(SystemExit):
        main([])
    assert options_of(parsers[0]) == frozen


def parsed(*argv: str) -> ExportConfig:
    parser = OneLineParser("vlmp-export")
    cli.add_arguments(parser)
    return cli.read_config(parser.parse_args(["--model", "vlmp-tiny", *argv]))


def test_defaults_are_those_of_the_config() -> None:
    config = parsed("--target", "onnx", "--output", "out")
    assert config == ExportConfig(model="vlmp-tiny", targets=("onnx",), output=Path("out"))


def test_every_option_reaches_the_config() -> None:
    config = parsed(
        *("--target", "onnx", "--target", "coreml", "--checkpoint", "c", "--pruner", "dart", "--keep", "0.5"),
        *("--prune-layer", "3", "--image-size", "112x140", "--image-fit", "stretch", "--system-prompt", "Hi"),
        *("--text-len", "32", "--max-new-tokens", "9", "--precision", "float16", "--quant", "int8"),
        *("--output", "o", "--single-file", "--overwrite", "--no-verify"),
    )
    wanted = ExportConfig(
        model="vlmp-tiny",
        targets=("onnx", "coreml"),
        output=Path("o"),
        checkpoint=Path("c"),
        pruner="dart",
        keep=0.5,
        prune_layer=3,
        image_size=(112, 140),
        image_fit="stretch",
        system_prompt="Hi",
        text_len=32,
        max_new_tokens=9,
        precision="float16",
        quant="int8",
        single_file=True,
        overwrite=True,
        verify=False,
    )
    assert config == wanted
    plain = ExportConfig(model="", targets=(), output=Path())
    same = [field.name for field in fields(ExportConfig) if getattr(wanted, field.name) == getattr(plain, field.name)]
    assert same == ["stages"], "an option at its default would not show whether it arrives"


@pytest.mark.parametrize("argv", [["--stage", "1:0.5:dart", "--stage", "3:0.2"], ["--schedule", "1:0.5:dart+3:0.2"]])
def test_stages_reach_the_config(argv: list[str]) -> None:
    config = parsed("--target", "onnx", "--output", "out", *argv)
    assert config == ExportConfig(
        model="vlmp-tiny", targets=("onnx",), output=Path("out"), stages=parse_schedule("1:0.5:dart+3:0.2")
    )


def test_targets_and_the_folder_that_is_named_after_them() -> None:
    assert parsed("--target", "onnx", "--target", "onnx").targets == ("onnx",)
    assert parsed("--target", "coreml", "--target", "onnx").targets == ("coreml", "onnx")
    assert parsed("--target", "coreml", "--target", "all").targets == tuple(TARGETS)
    assert parsed("--target", "onnx").output == Path("bundles/vlmp-tiny-vlm-pruner-onnx")
    assert parsed("--target", "coreml", "--target", "onnx", "--pruner", "none").output == Path(
        "bundles/vlmp-tiny-none-coreml-onnx"
    )
    assert parsed("--target", "onnx", "--schedule", "paper").output == Path("bundles/vlmp-tiny-paper-onnx")
    assert parsed("--target", "onnx", "--stage", "2:0.5").output == Path("bundles/vlmp-tiny-stages-onnx")
    assert parsed("--target", "onnx", "--schedule", "1:0.5:dart+3:0.2").output == Path(
        "bundles/vlmp-tiny-1-0.5-dart+3-0.2-onnx"
    )


def test_the_system_prompt_may_be_empty_which_is_not_the_same_as_none() -> None:
    assert parsed("--target", "onnx", "--system-prompt", "").system_prompt == ""
    assert parsed("--target", "onnx").system_prompt is None


@pytest.mark.parametrize(("text", "size"), [("448", (448, 448)), ("336x448", (336, 448)), ("28x56", (28, 56))])
def test_image_size_is_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "448X448", "448 ", "4.5", "448,448", "٤٤٨", "448x448x", "100000"])
def test_image_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="must be a side like 448, or HEIGHTxWIDTH like 336x448"):
        parse_image_size(text)


@pytest.mark.parametrize(("what", "choices"), [("models", MODELS), ("targets", TARGETS), ("pruners", PRUNERS)])
def test_list(capsys: pytest.CaptureFixture[str], what: str, choices: dict[str, object]) -> None:
    cli.main(["--list", what])
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == list(choices)
    assert err == ""


def test_list_of_pruners_shows_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--list", "pruners"])
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    settings = "pivots, channels, bss_weight, threshold, threshold_step, batch, fuse_weight, weigh"
    assert shown["vlm-pruner"] == f"before decoder layer 2 (--prune-layer 2, at least 1); takes {settings}"
    assert shown["divprune"] == "before the language model (--prune-layer 0, at least 0); takes weigh"
    assert shown["none"] == "before decoder layer 2 (--prune-layer 2, at least 0)"
    assert {name for name, place in shown.items() if "at least 1" in place} == {"vlm-pruner", "fastv", "dart"}


def test_list_of_schedules_spells_what_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--list", "schedules"])
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(shown) == ["paper", "gentle", "fast", "fastest"]
    assert all(named_schedule(name) == parse_schedule(stages) for name, stages in shown.items())


def test_every_target_has_a_file_and_a_session() -> None:
    assert list(TARGETS) == list(RUNTIMES)
    for place in (*TARGETS.values(), *RUNTIMES.values(), *PRUNERS.values(), *FAMILIES.values()):
        module, attribute = place.split(":")
        spec = find_spec(module)
        assert spec is not None, place
        assert spec.origin is not None
        assert f"class {attribute}" in Path(spec.origin).read_text(encoding="utf-8")
    assert open_target("onnx").precisions == ("float32",)
    with pytest.raises(UserError, match=f"unknown target 'tpu': choose one of {', '.join(TARGETS)}, all"):
        open_target("tpu")


def test_a_target_whose_packages_are_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "coreml", "no_such_package.target:Target")
    with pytest.raises(UserError, match=r"target coreml needs no_such_package: pip install 'vlmp\[coreml\]'"):
        open_target("coreml")
    monkeypatch.setitem(TARGETS, "coreml", "vlmp.export.targets.no_such_file:Target")
    with pytest.raises(ModuleNotFoundError):
        open_target("coreml")


def test_help_says_which_share_keep_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "kept share of the visual tokens (1 - pruning ratio); 0.111 when not given" in text
    for name in (*MODELS, *TARGETS, *PRUNERS):
        assert name in text


def test_programs_are_the_functions_that_pyproject_names() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for program, place in scripts.items():
        module, function = place.split(":")
        assert callable(getattr(import_module(module), function)), program
    assert {"vlmp-export", "vlmp-run", "vlmp-verify"} <= scripts.keys()


# --- The last line ----------------------------------------------------------------------------------------------------


def result(parity: ParitySpec, quantization: str) -> Result:
    shape = shape_spec(image_spec(12, 12), kept=16, layer=2, layers=6, text_room=9)
    manifest = Manifest.model_construct(
        target="onnx",
        precision="float32",
        quantization=quantization,
        parity=parity,
        shapes=[shape],
    )
    return Result(
        output=Path("some/where"), manifest=manifest, size_bytes=3 * 2**19, seconds=12.4, peak_memory_mib=99.6
    )


def test_summary() -> None:
    checks = [
        Check(name="prefill logits relative error", value=2e-6, limit=1, better="lower"),
        Check(name="extend logits relative error", value=3e-6, limit=1, better="lower"),
        Check(name="prefill logits cosine", value=1, limit=0, better="higher"),
    ]
    line = cli.summary(result(ParitySpec(status="passed", runtime="x", checks=checks), "none"))
    assert line == (
        "some/where: onnx float32, 16 of 144 visual tokens, 1.5 MiB, verification passed, logits within 3.0e-06, "
        "12 s, peak memory 100 MiB"
    )
    staged = result(ParitySpec(status="skipped", runtime=""), "none")
    (shape,) = staged.manifest.shapes
    stages = [
        stage.model_copy(update={"num_kept": kept}) for stage, kept in zip(shape.stages * 2, (48, 16), strict=True)
    ]
    staged.manifest.shapes[0] = shape.model_copy(update={"stages": stages})
    assert "onnx float32, 48, 16 of 144 visual tokens, 1.5 MiB" in cli.summary(staged)
    skipped = cli.summary(result(ParitySpec(status="skipped", runtime=""), "int4"))
    assert "onnx float32 int4, 16 of" in skipped
    assert "1.5 MiB, verification skipped, 12 s" in skipped


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_one_line() -> None:
    assert one_line(ValueError("a\n  b\n")) == "a b"
    assert one_line(ValueError("")) == "ValueError"
    assert len(one_line(ValueError("word " * 999))) <= 300
    check_text("x", "früh 🙂")
    with pytest.raises(UserError, match="x is not valid UTF-8"):
        check_text("x", "fr\udcfch")
