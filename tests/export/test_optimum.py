"""Optimum finds our models, our task and our command."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_cases import REVISION, as_in_a_cache
from optimum.commands.export.base import ExportCommand
from optimum.commands.register.register_vlmp import REGISTER_COMMANDS, VlmpExportCommand
from optimum.exporters.tasks import TasksManager
from transformers import AutoConfig
from vlmp.export import cli, optimum_tasks
from vlmp.export.models import FAMILIES, MODELS
from vlmp.export.optimum_options import as_ours
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
OPTIMUM = Path(sys.executable).with_name("optimum-cli")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OPTIMUM, "export", "vlmp", *argv], capture_output=True, text=True, check=False, timeout=120)


def actions(parser: argparse.ArgumentParser) -> list[tuple[Any, ...]]:
    return [
        (action.option_strings, action.dest, action.default, action.type, action.choices, action.help, type(action))
        for action in parser._actions
    ]


def test_options_are_those_of_vlmp_export_and_some_of_optimum() -> None:
    ours, theirs = argparse.ArgumentParser(), argparse.ArgumentParser()
    cli.add_arguments(ours)
    VlmpExportCommand.parse_args(theirs)
    assert len(actions(ours)) > 10
    assert actions(theirs)[: len(actions(ours))] == actions(ours)
    more = [(options or [name], default) for options, name, default, *_ in actions(theirs)[len(actions(ours)) :]]
    assert more == [
        (["output_dir"], None), (["--task"], "auto"), (["--dtype"], None), (["--device"], "cpu"),
        (["--trust-remote-code"], False),
    ]  # fmt: skip


def as_optimum_parses(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    VlmpExportCommand.parse_args(parser)
    return parser.parse_args(argv)


def test_what_users_of_optimum_write_is_what_ours_write() -> None:
    theirs = as_ours(as_optimum_parses("-m", "us/model", "--task", "image-text-to-text", "--dtype", "fp16", "out"))
    ours = as_ours(
        as_optimum_parses("--model", "us/model", "--target", "onnx", "--precision", "float16", "--output", "out")
    )
    assert cli.read_config(theirs) == cli.read_config(ours)
    config = cli.read_config(ours)
    assert (config.model, config.targets, config.precision, config.output) == (
        "us/model", ("onnx",), "float16", Path("out"),
    )  # fmt: skip
    plain = as_ours(as_optimum_parses("-m", "us/model", "--target", "coreml"))
    assert (plain.target, plain.output, plain.precision) == (["coreml"], None, None)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--task", "text-generation"], "--task text-generation: the only task is image-text-to-text"),
        (["--task", "image-text-to-text-with-past"], "the only task is image-text-to-text"),
        (["--device", "cuda"], "--device cuda: an export computes on the cpu"),
        (["out", "--output", "other"], "--output other and out: give one of the two"),
        (["--dtype", "fp32", "--precision", "float32"], "--dtype fp32 and --precision float32: give one of the two"),
    ],
)
def test_what_makes_no_sense_here_is_refused(argv: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        as_ours(as_optimum_parses("--model", "us/model", *argv))


def test_code_of_a_checkpoint_is_not_run_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    as_ours(as_optimum_parses("--model", "us/model", "--trust-remote-code"))
    assert capsys.readouterr().err == "note: --trust-remote-code has no effect: code of a checkpoint is never run\n"


def test_a_whole_export_as_users_of_optimum_write_it(tmp_path: Path) -> None:
    """With the hub's own library, offline, on a cache as it lays it out."""
    as_in_a_cache(TINY, tmp_path / "home/hub", "someone/My-Finetune")
    offline = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [OPTIMUM, "export", "vlmp", "--model", "someone/My-Finetune", "--task", "image-text-to-text", "out",
         "--image-size", "112", "--pruner", "none", "--no-verify"],
        capture_output=True, text=True, check=False, timeout=300, env=offline, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.model, manifest.target) == ("someone/My-Finetune", "onnx")
    assert manifest.checkpoint == f"someone/My-Finetune@{REVISION}"


def test_the_command_hangs_below_export() -> None:
    ((command, parent),) = REGISTER_COMMANDS
    assert (command, parent) == (VlmpExportCommand, ExportCommand)
    assert VlmpExportCommand.COMMAND.name == "vlmp"


def test_list_through_optimum() -> None:
    done = run("--list", "models")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(MODELS)
    assert done.stderr == ""


def test_errors_through_optimum(tmp_path: Path) -> None:
    done = run("--model", "gpt-2", "--target", "onnx", "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    *progress, line = done.stderr.splitlines()
    assert line.startswith("optimum-cli export vlmp: unknown model 'gpt-2': choose one of vlmp-tiny")
    assert progress == []
    assert list(tmp_path.iterdir()) == []


def test_tasks() -> None:
    optimum_tasks.register()
    optimum_tasks.register()
    for family in FAMILIES:
        tasks = TasksManager.get_supported_tasks_for_model_type(family, "vlmp", library_name="transformers")
        assert list(tasks) == ["image-text-to-text"]
    with pytest.raises(KeyError):
        TasksManager.get_supported_tasks_for_model_type("llama", "vlmp", library_name="transformers")


def test_normalized_config() -> None:
    optimum_tasks.register()
    tasks = TasksManager.get_supported_tasks_for_model_type("qwen2_vl", "vlmp", library_name="transformers")
    config = tasks["image-text-to-text"](AutoConfig.from_pretrained(TINY))
    raw = json.loads((TINY / "config.json").read_text())["text_config"]
    normalized = config.normalized_config
    assert config.task == "image-text-to-text"
    assert normalized.hidden_size == raw["hidden_size"] == 256
    assert normalized.num_attention_heads == raw["num_attention_heads"] == 4
    assert normalized.num_key_value_heads == raw["num_key_value_heads"] == 2
    assert normalized.num_layers == raw["num_hidden_layers"]
    assert normalized.vocab_size == raw["vocab_size"]


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(argv)


def test_the_model_type_is_asked_of_the_tasks_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[argparse.Namespace] = []
    monkeypatch.setattr(cli, "run", ran.append)
    for argv in (["--model", "vlmp-tiny"], ["--model", "qwen2-vl-7b"], ["--list", "models"], []):
        arguments = parsed(*argv)
        optimum_tasks.run_checked(arguments)
        assert ran.pop() is arguments
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        UserError, match="model type 'llama' has no task image-text-to-text: it must be one of qwen2_vl"
    ):
        optimum_tasks.run_checked(parsed("--model", "vlmp-tiny", "--checkpoint", str(tmp_path)))
    with pytest.raises(UserError, match="unknown model 'gpt-2'"):
        optimum_tasks.run_checked(parsed("--model", "gpt-2"))
    assert ran == []
