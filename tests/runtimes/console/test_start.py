"""How commands begin: without what takes seconds to import, and with one line for Ctrl-C from the first moment."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
from vlmp.export.targets import OFFERS, TARGETS, open_target
from vlmp.pruner import PRUNERS, SETTINGS, TRAITS, WEIGH, PrunerConfig, pruner_class
from vlmp.runtimes.bundle.errors import UserError

ROOT = Path(__file__).parents[3]
PHOTO = ROOT / "runtimes/assets/photo.jpg"
TINY = ROOT / "export/assets/vlmp-tiny"
PROGRAMS = ("vlmp-eval", "vlmp-export", "vlmp-profile", "vlmp-run", "vlmp-verify")
TORCH = {"torch", "transformers", "onnxruntime", "executorch", "coremltools", "matplotlib", "optimum", "sklearn"}
HEAVY = {*TORCH, "numpy", "PIL", "rich", "pydantic", "tokenizers", "safetensors", "huggingface_hub", "psutil"}
RUN = ["b", "--prompt", "q", "--image", str(PHOTO)]
ASKED = ["--model", "vlmp-tiny", "--target", "onnx"]
QUESTIONS = ["--model", "vlmp-tiny", "--dataset", "scenes:test", "--output", "out"]
SCRIPT = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=open(sys.argv.pop(), "w")))
program, sys.argv = sys.argv[1], sys.argv[1:]
from importlib import import_module
modules, sys.argv[-1:] = sys.argv[-1:], []
atexit.register(lambda: sys.argv.extend(modules))
name = program.removeprefix("vlmp-")
folder = {"eval": "evaluation", "export": "export"}.get(name, "runtimes")
getattr(import_module(f"vlmp.{folder}.start"), f"start_{name}")()
"""


def loaded(tmp_path: Path, program: str, *argv: str, code: int) -> tuple[set[str], str]:
    """The packages that a command has imported when it ends with this code, and its last line on standard error."""
    file = tmp_path / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, program, *argv, str(file)],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    names = json.loads(file.read_text())
    assert "argparse" in names
    return {name.partition(".")[0] for name in names}, (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--version", 0), ("--nonsense", 2)])
def test_help_version_and_wrong_options_load_nothing(tmp_path: Path, program: str, option: str, code: int) -> None:
    assert HEAVY & loaded(tmp_path, program, option, code=code)[0] == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_no_default_that_is_none(program: str) -> None:
    """What happens without an option is said in words, or is the value itself."""
    command = [Path(sys.executable).with_name(program), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "--debug" in shown
    assert not re.search(r"\(default:|\bNone\b|%\(", " ".join(shown.split()))


@pytest.mark.parametrize(
    ("program", "argv", "says"),
    [
        ("vlmp-export", [*ASKED, "--pruner", "fastest"], "unknown pruner 'fastest'"),
        ("vlmp-export", [*ASKED, "--target", "tpu"], "unknown target 'tpu'"),
        ("vlmp-export", ["--model", "gpt-2", "--target", "onnx"], "unknown model 'gpt-2'"),
        ("vlmp-export", ["--model", "gpt-2", "--target", "onnx", "--quant", "int4"], "unknown model 'gpt-2'"),
        ("vlmp-export", ["--model", "org/not-there", "--target", "onnx", "--pruner", "fastest"], "unknown pruner"),
        ("vlmp-export", ["--model", str(TINY), "--target", "onnx", "--prune-layer", "0"], "--prune-layer 0"),
        ("vlmp-export", [*ASKED, "--keep", "2"], "--keep 2.0"),
        ("vlmp-export", [*ASKED, "--prune-layer", "0"], "--prune-layer 0: pruner vlm-pruner chooses by the keys"),
        ("vlmp-export", [*ASKED, "--image-size", "big"], "--image-size big"),
        ("vlmp-export", [*ASKED, "--quant", "palette4"], "no quantization 'palette4' for onnx"),
        ("vlmp-export", [*ASKED, "--precision", "float16"], "--precision float16: target onnx exports float32"),
        ("vlmp-export", [*ASKED, "--checkpoint", "nowhere"], "checkpoint folder nowhere does not exist"),
        ("vlmp-run", ["b", "--prompt", "q", "--image", "no.jpg"], "image no.jpg does not exist"),
        ("vlmp-run", [*RUN, "--max-new-tokens", "0"], "--max-new-tokens 0: must be at least 1"),
        ("vlmp-eval", [*QUESTIONS, "--pruner", "fastest"], "unknown pruner 'fastest'"),
        ("vlmp-eval", [*QUESTIONS, "--keep", "0"], "--keep 0.0"),
        ("vlmp-eval", [*QUESTIONS, "--prune-layer", "0"], "--prune-layer 0: pruner vlm-pruner"),
        ("vlmp-eval", [*QUESTIONS, "--checkpoint", "nowhere"], "checkpoint folder nowhere does not exist"),
        ("vlmp-profile", ["b", "--image", "no.jpg"], "image no.jpg does not exist"),
        ("vlmp-profile", ["b", "--runs", "1"], "--runs 1"),
    ],
)
def test_wrong_settings_are_told_before_torch_is_loaded(
    tmp_path: Path, program: str, argv: list[str], says: str
) -> None:
    names, line = loaded(tmp_path, program, *argv, code=2)
    assert line.startswith(f"{program}: {says}")
    assert HEAVY & names == set()


@pytest.mark.parametrize(
    ("program", "argv", "says"),
    [
        ("vlmp-export", [*ASKED, "--output", "."], "output . exists"),
        ("vlmp-run", ["nowhere", "--prompt", "q", "--image", str(PHOTO)], "nowhere is not a bundle"),
        ("vlmp-run", [*RUN, "--show-kept", "kept.foo"], "cannot write kept.foo: unknown file extension '.foo'"),
        ("vlmp-run", [*RUN, "--show-kept", "no/k.png"], "cannot write no/k.png: there is no folder no"),
        ("vlmp-export", ["--model", ".", "--target", "onnx"], "checkpoint folder . has no config.json"),
        ("vlmp-verify", ["nowhere"], "nowhere is not a bundle"),
        ("vlmp-profile", ["nowhere"], "nowhere is not a bundle"),
        ("vlmp-eval", ["--bundle", "nowhere", "--dataset", "no.jsonl", "--output", "o"], "--dataset no.jsonl does not"),
    ],
)
def test_what_is_read_first_needs_no_torch_either(tmp_path: Path, program: str, argv: list[str], says: str) -> None:
    names, line = loaded(tmp_path, program, *argv, code=2)
    assert line.startswith(f"{program}: {says}")
    assert TORCH & names == set()


def test_executorch_is_loaded_without_its_exporter() -> None:
    script = (
        "import sys, vlmp.runtimes.executorch;"
        "heavy = {name for name in sys.modules if name.startswith(('executorch.exir', 'torchao', 'transformers'))};"
        "assert not heavy, heavy;"
        "from executorch.extension.pybindings import _C;"
        "assert _C._is_available('XnnpackBackend');"
        "assert 'aten::topk.values' in _C._get_operator_names()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


# --- What registries tell without the classes -------------------------------------------------------------------------


def test_traits_are_those_of_the_pruners() -> None:
    assert list(TRAITS) == list(PRUNERS)
    for name, traits in TRAITS.items():
        kind = pruner_class(name)
        assert (traits.layer, set(traits.needs), traits.settings) == (kind.place, kind.needs, kind.settings), name


def test_settings_are_the_fields_of_their_config() -> None:
    fields = get_type_hints(PrunerConfig)
    assert fields.pop("num_kept") is int
    assert fields == SETTINGS
    # No class names what all methods take.
    assert {name for traits in TRAITS.values() for name in traits.settings} == set(SETTINGS) - {WEIGH}


@pytest.mark.parametrize("name", TARGETS)
def test_offers_are_those_of_the_targets(name: str) -> None:
    target = open_target(name)
    assert OFFERS[name][:2] == (target.precisions, tuple(target.presets))
    if OFFERS[name].single_file:
        assert open_target(name, single_file=True).name == name
    else:
        with pytest.raises(
            UserError, match=f"^--single-file: target {name} keeps its weights in a file of their own, "
        ):
            open_target(name, single_file=True)


# --- Signals ----------------------------------------------------------------------------------------------------------


def test_programs_begin_where_a_signal_is_dealt_with() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == set(PROGRAMS)
    for program, place in scripts.items():
        module, _, function = place.partition(":")
        assert function == f"start_{program.removeprefix('vlmp-')}"
        assert callable(getattr(importlib.import_module(module), function))
    files = [*ROOT.glob("*/start.py"), *(ROOT / "runtimes/console" / f"{name}.py" for name in ("begin", "leave"))]
    assert len(files) == 5
    for path in files:
        tree = ast.parse(path.read_text())
        first = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {alias.name for node in first for alias in node.names}
        assert found <= {"annotations", "begin", "os", "signal", "sys", "Leave"}


WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
import builtins
importing = builtins.__import__
def slowly(name, *rest):
    if name == {at!r}:
        print("here", flush=True)
        try:
            time.sleep(30)
        except BaseException as error:
            raise ImportError("made of it") from None
    return importing(name, *rest)
builtins.__import__ = slowly
from vlmp.{folder}.start import {start} as start
sys.argv = {argv!r}
start()
"""


@pytest.mark.parametrize(
    ("start", "argv", "at"),
    [
        ("start_run", ["vlmp-run", "b", "--prompt", "q", "--image", str(PHOTO)], "argparse"),
        ("start_run", ["vlmp-run", "b", "--prompt", "q", "--image", str(PHOTO)], "numpy"),
        ("start_export", ["vlmp-export", *ASKED, "--output", "out"], "torch"),
        ("start_export", ["vlmp-export", *ASKED, "--output", "out"], "transformers"),
        ("start_eval", ["vlmp-eval", *QUESTIONS], "torch"),
        ("start_profile", ["vlmp-profile", "b"], "pydantic"),
    ],
)
def test_ctrl_c_while_libraries_are_imported(tmp_path: Path, start: str, argv: list[str], at: str) -> None:
    """Also where a library would turn KeyboardInterrupt into an error of its own."""
    folder = {"start_eval": "evaluation", "start_export": "export"}.get(start, "runtimes")
    script = WAITS.format(at=at, argv=argv, folder=folder, start=start)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.removeprefix("checkpoint\n") == f"{argv[0]}: interrupted, nothing unfinished is left behind\n"
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_makes_of_a_signal_ends_as_an_interruption(tmp_path: Path) -> None:
    script = """
import os, signal
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.console.signals import terminable

def action():
    with terminable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("made of it") from None

exit_with_one_line("program", action)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "program: interrupted, nothing unfinished is left behind\n")


def test_an_interruption_that_python_drops_comes_again() -> None:
    script = """
import os, signal, time
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.console.signals import terminable

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

def action():
    with terminable():
        dropping = Dropping()
        del dropping
        time.sleep(30)

exit_with_one_line("program", action)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "program: interrupted, nothing unfinished is left behind\n")


def test_a_background_job_goes_on_ignoring_ctrl_c() -> None:
    script = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from vlmp.runtimes.console.command import exit_with_one_line;"
        "exit_with_one_line('program', lambda: (os.kill(os.getpid(), signal.SIGINT), print('done'))[1])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.6, 1.0, 1.5, 2.5])
def test_ctrl_c_at_many_times(tmp_path: Path, delay: float) -> None:
    """An export may be anywhere by then; whatever it is at ends in the same line."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("vlmp-export"), *ASKED, "--output", "out"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "vlmp-export: interrupted, nothing unfinished is left behind"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_version_is_that_of_the_package() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("vlmp-run"), "--version"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"vlmp-run {version('vlmp')}\n")
