"""`vlmp-eval`: its options, whole runs on vlmp-tiny and a bundle, an interruption, and everything that is refused."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image
from torch import nn
from vlmp.evaluation import cli, run
from vlmp.evaluation.cli import main
from vlmp.export import cli as export_cli
from vlmp.export.config import Precision
from vlmp.export.eager import Eager
from vlmp.export.geometry import Geometry
from vlmp.export.targets import TARGETS, Report
from vlmp.runtimes.bundle.manifest import Manifest, MethodName, MethodSpec
from vlmp.runtimes.console import command
from vlmp.runtimes.pytorch import TorchSession
from vlmp.runtimes.session import RUNTIMES

ROOT = Path(__file__).parents[2]
TINY = ROOT / "export/assets/vlmp-tiny"
SMALL = ["--image-size", "112", "--keep", "0.3"]
COMMON = ["--dataset", "set.jsonl", "--output", "out", "--max-new-tokens", "4"]
MODEL = ["--model", "vlmp-tiny", *SMALL, *COMMON]
TEXT_LEN = "24"
GRAPHS: dict[MethodName, Callable[..., Any]] = {}

OPTIONS = {
    "--help": "flag",
    "--version": "flag",
    "--model": None,
    "--checkpoint": None,
    "--bundle": "None, repeatable",
    "--pruner": "None, repeatable",
    "--keep": "None, repeatable",
    "--prune-layer": None,
    "--schedule": "None, repeatable",
    "--image-size": None,
    "--random-seeds": 3,
    "--dataset": "required",
    "--questions": None,
    "--seed": 0,
    "--metric": "None of exact|vqa|anls|yes-no|choice|contains|formula",
    "--max-new-tokens": 16,
    "--threads": None,
    "--output": "required",
    "--overwrite": "flag",
    "--debug": "flag",
}
"""Who changes these changes what people have typed into their scripts."""


class FakeTarget(Eager):
    """Writes a file a method and keeps the modules: a bundle without any lowering."""

    name = "fake"

    def lower(
        self,
        methods: dict[MethodName, nn.Module],
        geometry: Geometry,
        precision: Precision,
        folder: Path,
        report: Report,
    ) -> dict[MethodName, MethodSpec]:
        GRAPHS.update(methods)
        specs: dict[MethodName, MethodSpec] = {}
        for name in methods:
            (folder / name).write_text(name)
            inputs, outputs = geometry.inputs(name, precision), geometry.outputs(name, precision)
            specs[name] = MethodSpec(file=name, entry="", inputs=inputs, outputs=outputs)
        return specs

    def tools(self) -> dict[str, str]:
        return {}


class FakeSession(TorchSession):
    """Runs what the fake target keeps."""

    def __init__(self, folder: Path, manifest: Manifest, _threads: int | None = None) -> None:
        super().__init__(manifest, GRAPHS)
        self.folder = folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with seven questions about three pictures."""
    monkeypatch.setitem(TARGETS, "fake", f"{__name__}:FakeTarget")
    monkeypatch.setitem(RUNTIMES, "fake", f"{__name__}:FakeSession")
    # A case may say an option of COMMON otherwise, by saying it again.
    monkeypatch.setattr(command, "refuse_repetition", lambda _parser: None)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    lines = []
    for index in range(7):
        name = f"{index // 3}.png"
        Image.new("RGB", (30, 20), (90 * (index // 3), 40, 200)).save(name)
        answers = ["red", "blue"] if index % 2 else "yes"
        lines.append({"image": name, "question": f"What is {index}?", "answers": answers, "type": f"t{index % 2}"})
    Path("set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle, made once."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "fake", f"{__name__}:FakeTarget")
        size = ["--text-len", TEXT_LEN, "--max-new-tokens", "6"]
        export_cli.main(
            ["--model", "vlmp-tiny", "--target", "fake", *SMALL, *size, "--no-verify", "--output", str(folder)]
        )
    yield folder
    GRAPHS.clear()


@pytest.fixture
def bundle(exported: Path) -> str:
    shutil.copytree(exported, "bundle")
    return "bundle"


def results(folder: str = "out") -> list[dict[str, Any]]:
    return json.loads(Path(folder, "results.json").read_text())


def answer_files(folder: str = "out") -> dict[str, list[str]]:
    return {file.name: file.read_text().splitlines() for file in sorted(Path(folder, "answers").iterdir())}


def files_below(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


# --- The command line -------------------------------------------------------------------------------------------------


def test_options_and_defaults_are_frozen() -> None:
    found: dict[str, Any] = {}
    for action in cli.parser()._actions:
        value: Any = "required" if action.required else action.default
        if action.choices:
            value = f"{value} of {'|'.join(action.choices)}"
        if isinstance(action, argparse._AppendAction):
            value = f"{value}, repeatable"
        found[action.option_strings[-1]] = "flag" if action.nargs == 0 else value
    assert found == OPTIONS


# --- Whole runs -------------------------------------------------------------------------------------------------------


def test_a_model_in_pytorch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pruners = ["none", "vlm-pruner", "random"]
    argv = [*MODEL, *(part for name in pruners for part in ("--pruner", name)), "--random-seeds", "2"]
    main(argv)
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "written: out/results.json, out/results.md, out/accuracy.png"
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == [
        "vlmp-tiny none, 16 of 16 tokens",
        "vlmp-tiny vlm-pruner, 5 of 16 tokens",
        "vlmp-tiny random, 5 of 16 tokens",
    ]
    assert "7/7" in err
    rows = results()
    assert [(row["pruner"], row["keep"], row["layers"], row["kept"], row["seeds"]) for row in rows] == [
        ("none", 1.0, [2], [16], 1), ("vlm-pruner", 0.3, [2], [5], 1), ("random", 0.3, [2], [5], 2),
    ]  # fmt: skip
    assert {(row["n"], row["metric"], row["model"], row["dataset"]) for row in rows} == {
        (7, "exact", "vlmp-tiny", "set.jsonl")
    }
    assert all(set(row["by_type"]) == {"t0", "t1"} for row in rows)
    assert list(answer_files()) == [
        "vlmp-tiny-none-all.jsonl", "vlmp-tiny-random-0.3-seed0.jsonl", "vlmp-tiny-random-0.3-seed1.jsonl",
        "vlmp-tiny-vlm-pruner-0.3.jsonl",
    ]  # fmt: skip
    assert {len(lines) for lines in answer_files().values()} == {8}
    assert Path("out/results.md").read_text().startswith("`vlmp-eval --model vlmp-tiny --image-size 112 ")

    # Again: the same figures, no question is put. Nor is one for another metric.
    monkeypatch.setattr(run, "answer", lambda *_: pytest.fail("asks again"))
    before = files_below(Path("out/answers"))
    main(argv)
    assert results() == rows
    main([*argv, "--metric", "contains"])
    assert {row["metric"] for row in results()} == {"contains"}
    assert files_below(Path("out/answers")) == before


def test_overwriting_forgets_these_answers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    Path("out/answers").mkdir(parents=True)
    Path("out/answers/mine.txt").write_text("a thesis")
    argv = [*MODEL[:4], *COMMON, "--pruner", "none"]
    main(argv)
    monkeypatch.setattr(run, "answer", lambda *_: "yes")
    main(argv)
    assert results()[0]["by_type"] == {"t0": 0, "t1": 1}
    main([*argv, "--overwrite"])
    assert results()[0]["by_type"] == {"t0": 1, "t1": 0}
    assert Path("out/answers/mine.txt").read_text() == "a thesis"


def test_a_model_that_is_exported_quantized_is_asked_as_it_is() -> None:
    main(["--model", "qwen2-vl-2b", "--checkpoint", str(TINY), *SMALL, *COMMON])
    assert {row["quantization"] for row in results()} == {"none"}


def test_a_bundle_answers_as_the_model_in_pytorch(bundle: str) -> None:
    main(["--bundle", bundle, *COMMON])
    main([*MODEL, "--pruner", "vlm-pruner", "--output", "eager"])
    row, eager = results()[0], results("eager")[0]
    assert (row["model"], row["pruner"], row["layers"], row["kept"]) == ("bundle", "vlm-pruner", [2], [5])
    assert row["keep"] == pytest.approx(5 / 16)
    (lines,), (right,) = answer_files().values(), answer_files("eager").values()
    assert lines[1:] == right[1:]
    assert (row["accuracy"], row["by_type"]) == (eager["accuracy"], eager["by_type"])


def test_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows say each stage, and what all of them leave to do; a single stage is the short form under another name."""
    stages = ["1:0.5:uniform+3:0.3", "2:0.3"]
    argv = ["--model", "vlmp-tiny", "--image-size", "112", *COMMON, "--pruner", "none", "--pruner", "vlm-pruner"]
    argv += ["--questions", "2", "--keep", "0.3", *(part for text in stages for part in ("--schedule", text))]
    main([*argv, "--schedule", "2:0.3:vlm-pruner"])
    whole, short, staged, single = rows = results()
    assert [(row["pruner"], row["layers"], row["kept"], row["keep"]) for row in (staged, single)] == [
        ("uniform+vlm-pruner", [1, 3], [8, 5], 0.3), ("vlm-pruner", [2], [5], 0.3),
    ]  # fmt: skip
    assert [set(settings) >= {"pivots", "batch"} for settings in staged["settings"]] == [False, True]
    assert single == short
    slots = [16 + 15 + 24 + 4, 8 + 15 + 24 + 4, 5 + 15 + 24 + 4]  # tokens, prefix, text and answer
    for row, layers in ((whole, (6, 0, 0)), (short, (2, 0, 4)), (staged, (1, 2, 3))):
        held = sum(many * each for many, each in zip(layers, slots, strict=True))
        assert row["cache_mib"] == pytest.approx(2 * 2 * 64 * 4 * held / 2**20)
    assert whole["prefill_gmac"] > staged["prefill_gmac"] > 0
    assert list(answer_files()) == [
        "vlmp-tiny-1-0.5-uniform+3-0.3-vlm-pruner.jsonl", "vlmp-tiny-2-0.3-vlm-pruner.jsonl",
        "vlmp-tiny-none-all.jsonl", "vlmp-tiny-vlm-pruner-0.3.jsonl",
    ]  # fmt: skip
    files = answer_files()
    assert files["vlmp-tiny-2-0.3-vlm-pruner.jsonl"][1:] == files["vlmp-tiny-vlm-pruner-0.3.jsonl"][1:]

    monkeypatch.setattr(run, "answer", lambda *_: pytest.fail("asks again"))
    main(argv)
    assert results() == rows


def test_schedules_alone_ask_no_other_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    main(["--model", "vlmp-tiny", "--image-size", "168", *COMMON, "--schedule", "paper"])
    (row,) = results()
    assert (row["pruner"], row["layers"], row["kept"]) == ("vlm-pruner", [2], [4])
    assert list(answer_files()) == ["vlmp-tiny-2-0.111-vlm-pruner,settings=published.jsonl"]


def test_settings_tell_methods_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    main([*MODEL, "--pruner", "vlm-pruner", "--pruner", "vlm-pruner,batch=4,fuse_weight=1"])
    plain, other = results()
    assert (plain["pruner"], plain["settings"][0]["batch"]) == ("vlm-pruner", 1)
    assert (other["pruner"], other["settings"][0]["batch"]) == ("vlm-pruner,batch=4,fuse_weight=1", 4)
    assert len(answer_files()) == 2


@pytest.mark.slow
def test_a_bundle_on_its_runtime() -> None:
    argv = ["--model", "vlmp-tiny", "--target", "onnx", "--pruner", "uniform", *SMALL, "--text-len", TEXT_LEN]
    export_cli.main([*argv, "--max-new-tokens", "4", "--output", "onnx"])
    main(["--bundle", "onnx", *COMMON])
    main([*MODEL, "--pruner", "uniform", "--output", "eager"])
    assert results()[0]["runtime"].startswith("onnxruntime")
    assert results()[0]["accuracy"] == results("eager")[0]["accuracy"]


def test_other_weights_are_not_taken_for_the_ones_that_answered(refused: Callable[..., str]) -> None:
    """A checkpoint that has been trained on, in the same place."""
    shutil.copytree(TINY, "checkpoint")
    argv = [*MODEL, "--checkpoint", "checkpoint", "--pruner", "none", "--questions", "1"]
    argv = [part for part in argv if part not in ("--keep", "0.3")]
    main(argv)
    weights = Path("checkpoint/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "vlmp-tiny-none-all.jsonl holds answers of other settings" in refused(argv)


def test_a_repaired_tokenizer_answers_anew(refused: Callable[..., str]) -> None:
    """The same weights, in the same place."""
    shutil.copytree(TINY, "checkpoint")
    argv = ["--model", "vlmp-tiny", "--image-size", "112", "--checkpoint", "checkpoint", "--pruner", "none", *COMMON]
    right = Path("checkpoint/tokenizer.json").read_text()
    damaged = json.loads(right)
    vocabulary = damaged["model"]["vocab"]
    for one, other in (("0", "1"), ("2", "3"), ("4", "5")):
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    Path("checkpoint/tokenizer.json").write_text(json.dumps(damaged))
    main(argv)
    Path("checkpoint/tokenizer.json").write_text(right)
    assert refused(argv).endswith(
        "vlmp-tiny-none-all.jsonl holds answers of other settings: choose another --output, or --overwrite "
        "(checkpoint tokenizer.json differs)"
    )
    main([*argv, "--overwrite"])
    main([*argv, "--output", "new"])
    assert answer_files() == answer_files("new")


def test_another_file_of_the_same_name_is_another_data_set(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    for folder, colour in (("one", "red"), ("two", "blue")):
        Path(folder).mkdir()
        Image.new("RGB", (30, 20), colour).save(f"{folder}/1.png")
        line = {"image": "1.png", "question": "What colour is it?", "answers": colour}
        Path(folder, "set.jsonl").write_text(json.dumps(line))
    argv = [*MODEL[:4], *COMMON, "--pruner", "none"]
    main([*argv, "--dataset", "one/set.jsonl"])
    assert "another question '1': choose another --output, or --overwrite (picture differs)" in refused(
        [*argv, "--dataset", "two/set.jsonl"]
    )
    shutil.copytree("one", "moved")
    monkeypatch.setattr(run, "answer", lambda *_: pytest.fail("asks again"))
    main([*argv, "--dataset", "moved/set.jsonl"])


def test_a_refusal_does_not_wait_for_the_answers_before_it(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    argv = [*MODEL[:4], *COMMON]
    main([*argv, "--pruner", "uniform", "--keep", "0.3"])
    monkeypatch.setattr(run, "answer", lambda *_: pytest.fail("asks before it refuses"))
    again = [*argv, "--max-new-tokens", "5", "--pruner", "none", "--pruner", "uniform", "--keep", "0.3"]
    assert "max_new_tokens was 4, is 5" in refused(again)


SLOWLY = """
import signal, sys, time
from vlmp.evaluation import cli, run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C

answer = run.answer
run.answer = lambda *arguments: (time.sleep(0.3), answer(*arguments))[1]
cli.main(sys.argv[1:])
"""


def test_ctrl_c_and_on(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", "vlmp-tiny", "--image-size", "112", "--pruner", "none", *COMMON]
    file = Path("out/answers/vlmp-tiny-none-all.jsonl")
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, *argv], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not file.exists() or len(file.read_bytes().splitlines()) < 3:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("vlmp-eval: interrupted")
    assert "Traceback" not in err
    done = len(file.read_text().splitlines())
    assert 3 <= done < 8
    assert not Path("out/results.json").exists()
    main(argv)
    main([*argv, "--output", "whole"])
    assert answer_files() == answer_files("whole")
    assert results() == results("whole")


def test_two_runs_do_not_write_to_one_output(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", "vlmp-tiny", "--image-size", "112", "--pruner", "none", *COMMON]
    file = Path("out/answers/vlmp-tiny-none-all.jsonl")
    first = subprocess.Popen([sys.executable, "-c", SLOWLY, *argv], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not file.exists():
            assert first.poll() is None, first.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for options in (["--overwrite"], ["--pruner", "uniform"]):
            with pytest.raises(SystemExit, match="2"):
                main([*argv, *options])
            assert capsys.readouterr().err == (
                "vlmp-eval: --output out is being written by another process: wait until it is done, "
                "or choose another\n"
            )
        assert first.poll() is None
        _, err = first.communicate(timeout=120)
        assert first.returncode == 0, err
    finally:
        first.kill()
        first.communicate()
    assert sorted(path.name for path in Path("out").iterdir()) == ["answers", "results.json", "results.md"]
    assert len(file.read_text().splitlines()) == 8


def test_a_killed_run_goes_on() -> None:
    argv = ["--model", "vlmp-tiny", "--image-size", "112", "--pruner", "none", *COMMON]
    file = Path("out/answers/vlmp-tiny-none-all.jsonl")
    killed = subprocess.Popen([sys.executable, "-c", SLOWLY, *argv], stderr=subprocess.DEVNULL)
    while not file.exists() or len(file.read_bytes().splitlines()) < 3:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert Path("out/.answers.lock").exists()
    main(argv)
    assert sorted(path.name for path in Path("out").iterdir()) == ["answers", "results.json", "results.md"]
    assert results()[0]["n"] == 7


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with one line and exit code 2, and must leave the folder as it was."""

    def check(argv: list[str]) -> str:
        before = files_below(Path())
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(argv)
        out, err = capsys.readouterr()
        assert files_below(Path()) == before
        assert out == ""
        *progress, line = err.splitlines()
        assert [other for other in progress if "0:00:00" not in other and "-:--:--" not in other] == []
        assert re.match(r"vlmp-eval: \S", line)
        return line

    return check


BASE = ["--model", "vlmp-tiny", *COMMON]
REFUSED: list[tuple[list[str], list[str]]] = [
    ([], ["required: --dataset, --output"]),
    (COMMON, ["give --model NAME or --bundle DIR, one of the two"]),
    ([*BASE, "--bundle", "b"], ["--model NAME or --bundle DIR"]),
    (["--bundle", "b", *COMMON, "--pruner", "none"], ["--pruner: a bundle's own is inside it"]),
    (["--bundle", "b", *COMMON, "--keep", "0.2"], ["--keep: a bundle's own"]),
    (["--bundle", "b", *COMMON, "--prune-layer", "2"], ["--prune-layer: a bundle's own"]),
    (["--bundle", "b", *COMMON, "--image-size", "112"], ["--image-size: a bundle's own"]),
    (["--bundle", "b", *COMMON, "--checkpoint", "c"], ["--checkpoint: a bundle's own"]),
    (["--bundle", "nowhere", *COMMON], ["nowhere is not a bundle"]),
    ([*BASE, "--threads", "0"], ["--threads 0: must be at least 1"]),
    ([*BASE, "--max-new-tokens", "0"], ["--max-new-tokens 0: must be at least 1"]),
    ([*BASE, "--random-seeds", "0"], ["--random-seeds 0: must be at least 1"]),
    ([*BASE, "--questions", "0"], ["--questions 0: must be at least 1"]),
    ([*BASE, "--questions", "few"], ["--questions", "few"]),
    ([*BASE, "--seed", "-1"], ["--seed -1: must be at least 0"]),
    ([*BASE, "--metric", "best"], ["--metric", "best", "exact", "vqa"]),
    ([*BASE, "--speed"], ["--speed"]),
    ([*BASE, "--dataset", "nothing"], ["--dataset nothing", "FILE.jsonl", "scenes:..."]),
    ([*BASE, "--dataset", "no.jsonl"], ["no.jsonl does not exist"]),
    ([*BASE, "--dataset", "pope:nowhere"], ["nowhere is not a folder"]),
    ([*BASE, "--output", "0.png"], ["--output 0.png is not a folder"]),
    (["--model", "gpt-2", *COMMON], ["unknown model 'gpt-2'", "vlmp-tiny"]),
    ([*BASE, "--checkpoint", "nowhere"], ["nowhere"]),
    ([*BASE, "--pruner", "fastest"], ["unknown pruner 'fastest'", "vlm-pruner"]),
    ([*BASE, "--keep", "0"], ["--keep 0", "kept share"]),
    ([*BASE, "--keep", "nan"], ["--keep nan"]),
    ([*BASE, "--keep", "half"], ["--keep", "half"]),
    ([*BASE, "--pruner", "none", "--keep", "0.3"], ["--keep 0.3: --pruner none keeps all"]),
    ([*BASE, "--image-size", "112", "--keep", "0.5", "--keep", "0.1"], ["--keep 0.1 keeps 2 of 16", "at least 4"]),
    ([*BASE, "--image-size", "100"], ["--image-size 100x100", "multiples of 28"]),
    ([*BASE, "--image-size", "big"], ["--image-size big"]),
    ([*BASE, "--prune-layer", "9"], ["--prune-layer 9", "layers"]),
    ([*BASE, "--pruner", "divprune", "--pruner", "fastv", "--prune-layer", "0"], ["pruner fastv", "at least 1"]),
    ([*BASE, "--pruner", "dart,batch=4"], ["dart has no setting 'batch'", "pivots"]),
    ([*BASE, "--schedule", "poster"], ["unknown schedule 'poster'", "paper"]),
    ([*BASE, "--schedule", "2:0.5+2:0.3"], ["--stage 2:0.3", "must come after"]),
    ([*BASE, "--schedule", "2:0.5+3:0.49", "--image-size", "112"], ["3:0.49:vlm-pruner keeps 8 of 16", "as many"]),
    ([*BASE, "--schedule", "2:0.5+6:0.3"], ["--stage 6:0.3", "6 layers"]),
    ([*BASE, "--schedule", "vision.9:0.5"], ["vision tower has 4 blocks, so vision.1 to vision.3"]),
    ([*BASE, "--schedule", "2:0.5", "--keep", "0.3"], ["--keep", "--schedule says that itself", "--pruner"]),
    ([*BASE, "--schedule", "2:0.5", "--prune-layer", "3"], ["--prune-layer", "--schedule says that itself"]),
    (["--bundle", "b", "--schedule", "2:0.5", *COMMON], ["--schedule: a bundle's own is inside it"]),
]


@pytest.mark.parametrize(("argv", "says"), REFUSED, ids=[" ".join(argv[-2:])[:40] for argv, _ in REFUSED])
def test_refused(refused: Callable[..., str], argv: list[str], says: list[str]) -> None:
    line = refused(argv)
    assert [part for part in says if part not in line] == []


def test_what_does_not_fit_is_refused_before_the_first_question(refused: Callable[..., str], bundle: str) -> None:
    assert "--max-new-tokens 7: bundle bundle allows 1 to 6" in refused(
        ["--bundle", bundle, *COMMON, "--max-new-tokens", "7"]
    )
    assert "--bundle bundle is given twice" in refused(["--bundle", bundle, "--bundle", "./bundle", *COMMON])
    with Path("set.jsonl").open("a") as out:
        out.write(json.dumps({"image": "0.png", "question": "Why is it? " * 40, "answers": "yes", "id": "long"}) + "\n")
    line = refused(["--bundle", bundle, *COMMON])
    assert f"bundle bundle takes {TEXT_LEN} tokens of text, question 'long' and its template have" in line
    assert "export with --text-len" in line
    Path("set.jsonl").write_text(json.dumps({"image": "0.png", "question": "Why? " * 9000, "answers": "yes"}))
    assert "positions" in refused(MODEL)


def test_a_bad_line_is_named(refused: Callable[..., str]) -> None:
    with Path("set.jsonl").open("a") as out:
        out.write('{"image": "no.png", "question": "?", "answers": "yes"}\n')
    assert "set.jsonl line 8: image no.png does not exist" in refused(BASE)


def test_a_picture_that_cannot_be_read_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers before it stay, and count when the picture has been mended."""
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    good = Path("1.png").read_bytes()
    Path("1.png").write_bytes(good[:50])
    argv = [*BASE, "--pruner", "none"]
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "vlmp-eval: set.jsonl line 4: image 1.png cannot be read" in capsys.readouterr().err.splitlines()[-1]
    assert len(answer_files()["vlmp-tiny-none-all.jsonl"]) == 1 + 3
    Path("1.png").write_bytes(good)
    main(argv)
    assert results()[0]["n"] == 7


def test_a_full_disk_keeps_the_answers_before_it(
    disk_of: Callable[[int], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "answer", lambda *_: "red " * 60_000)
    disk = disk_of(1)
    argv = [*MODEL[:4], *COMMON, "--pruner", "none", "--output", f"{disk}/out"]
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    file = disk / "out/answers/vlmp-tiny-none-all.jsonl"
    assert capsys.readouterr().err.splitlines()[-1] == f"vlmp-eval: cannot write {file}: No space left on device"
    whole = file.read_bytes().count(b"\n")
    assert whole == 1 + 4
    assert [path.name for path in (disk / "out").iterdir()] == ["answers"]
    monkeypatch.setattr(run, "answer", lambda *_: "red")
    shutil.copytree(disk / "out", "out")
    main([*argv, "--output", "out"])
    assert results()[0]["n"] == 7


def test_the_plot_is_not_found_to_be_missing_at_the_end(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda _name: None)
    assert "the plot needs matplotlib: pip install 'vlmp[eval]'" in refused(BASE)


def test_our_own_mistakes_are_not_dressed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise KeyError("bug")

    monkeypatch.setattr(cli, "open_dataset", fail)
    with pytest.raises(SystemExit, match="1"):
        main(BASE)
    assert capsys.readouterr().err == "vlmp-eval: KeyError: 'bug' (--debug shows where)\n"


def test_program() -> None:
    program = Path(sys.executable).with_name("vlmp-eval")
    done = subprocess.run(
        [program, "--model", "vlmp-tiny", "--dataset", "no.jsonl", "--output", "out"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vlmp-eval: --dataset no.jsonl does not exist\n"
