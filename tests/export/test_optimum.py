"""Optimum finds our models, our task and our command."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optimum.commands.export.base import ExportCommand
from optimum.commands.register.register_vlmp import REGISTER_COMMANDS, VlmpExportCommand
from optimum.exporters.tasks import TasksManager
from transformers import AutoConfig
from vlmp.export import cli, optimum_tasks
from vlmp.export.errors import UserError
from vlmp.export.models import FAMILIES, MODELS

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
OPTIMUM = Path(sys.executable).with_name("optimum-cli")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OPTIMUM, "export", "vlmp", *argv], capture_output=True, text=True, check=False, timeout=120)


def actions(parser: argparse.ArgumentParser) -> list[tuple[Any, ...]]:
    return [
        (action.option_strings, action.dest, action.default, action.type, action.choices, action.help, type(action))
        for action in parser._actions
    ]


def test_options_are_those_of_vlmp_export() -> None:
    ours, theirs = argparse.ArgumentParser(), argparse.ArgumentParser()
    cli.add_arguments(ours)
    VlmpExportCommand.parse_args(theirs)
    assert actions(theirs) == actions(ours)
    assert len(actions(ours)) > 10


def test_the_command_hangs_below_export() -> None:
    ((command, parent),) = REGISTER_COMMANDS
    assert (command, parent) == (VlmpExportCommand, ExportCommand)
    assert VlmpExportCommand.COMMAND.name == "vlmp"


def test_list_through_optimum() -> None:
    done = run("--list", "models")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(MODELS)
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
