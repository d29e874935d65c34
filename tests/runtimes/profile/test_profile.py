"""`vlmp-profile` on bundles of vlmp-tiny. Nothing here says how fast anything is, only that it was measured."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path
from time import sleep
from typing import Any

import jsonschema
import pytest
from PIL import Image
from prompt_cases import filled
from step_bundles import shared_folder, step_bundle
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.image import open_image
from vlmp.runtimes.profile import child, host
from vlmp.runtimes.profile.child import Request, Started, ask
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import PARTS, Memory, json_schema, read_profile
from vlmp.runtimes.profile.trace import Traced, part_shares, trace
from vlmp.runtimes.prompt import load_tokenizer
from vlmp.runtimes.session import RUNTIMES
from vlmp.runtimes.traits import TRAITS, Traits

ROOT = Path(__file__).parents[3]
PHOTO = ROOT / "runtimes/assets/photo.jpg"
PROMPT = "What is in this picture?"
ALL_PHASES = {
    "load_warm", "preprocess", "vision", "prefill", "prefill_before", "prefill_pruner", "prefill_after", "decode",
    "first_token",
}  # fmt: skip


def tiny(factory: pytest.TempPathFactory, name: str) -> Path:
    """A copy, since a profile tells the names of folders."""
    return Path(shutil.copytree(step_bundle(shared_folder(factory), name), factory.mktemp("profile") / name))


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory, "onnx-pruned")


@pytest.fixture(scope="module")
def unpruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory, "onnx-unpruned")


@pytest.fixture(scope="module")
def mobile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory, "executorch-pruned")


def asking(task: Any, bundle: Path) -> Request:
    return Request(task=task, bundle=bundle, photo=PHOTO, prompt=PROMPT, threads=1, runs=2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """No processes of their own, for what is not about them; tells which would have been started."""
    asked: list[tuple[str, str]] = []
    memory = Memory(
        libraries_pss_mib=1, libraries_rss_mib=1, loaded_pss_mib=2, loaded_rss_mib=2, ran_pss_mib=3, ran_rss_mib=3,
        peak_rss_mib=4,
    )  # fmt: skip

    def answer(given: Request, kind: Any) -> Any:
        asked.append((given.task, given.bundle.name))
        if kind is Traced:
            return Traced(operators=[], operators_ms={}, splits={"prefill": "not split: nothing was traced"})
        cold = given.task == "cold"
        return Started(load_ms=9 if cold else 3, first_token_ms=20, cached_share=0.0 if cold else None, memory=memory)

    monkeypatch.setattr(host, "ask", answer)
    return asked


def test_two_bundles_are_compared_phase_by_phase(
    unpruned: Path, pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real thing once, processes and all."""
    out = tmp_path / "out.json"
    argv = [str(unpruned), "--compare", str(pruned), "--decode-tokens", "4", "--threads", "1", "--json", str(out)]
    main([*argv, "--html", str(tmp_path / "out.html"), "--estimate", "pixel-8"])
    raw = json.loads(out.read_text())
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(raw)
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-unpruned", "onnx-pruned"]
    assert profile.machine.kind == "host"
    assert "onnxruntime" in profile.machine.runtimes
    assert profile.settings.photo == "photo.jpg"
    for bundle in profile.bundles:
        phases = {str(name): phase for name, phase in bundle.phases.items()}
        assert set(phases) >= ALL_PHASES
        for name, phase in phases.items():
            assert len(phase.samples_ms) == 5
            assert phase.low_ms <= phase.median_ms <= phase.high_ms
            assert phase.median_ms > 0 or (name, bundle.name) == ("prefill_pruner", "onnx-unpruned")
        parts = [phases[part].median_ms for part in PARTS["prefill"].values()]
        assert sum(parts) == pytest.approx(phases["prefill"].median_ms)
        # A file system that keeps what it is told to drop has no cold load; the profile must not invent one.
        assert ("load_cold" in phases) == (bundle.cold_cached_share is not None and bundle.cold_cached_share <= 0.05)
        assert bundle.memory is not None
        assert bundle.memory.libraries_rss_mib < bundle.memory.loaded_rss_mib <= bundle.memory.peak_rss_mib
        assert bundle.size_mib > 10
        for method in ("vision", "prefill", "decode"):
            found = sum(operator.ms for operator in bundle.operators if operator.method == method)
            assert 0.2 * bundle.operators_ms[method] < found <= 1.01 * bundle.operators_ms[method]
    picture = Image.open(io.BytesIO(base64.b64decode(profile.bundles[1].kept_picture or "")))
    assert picture.width > 100
    pruning = [operator for operator in profile.bundles[1].operators if operator.region == "pruner"]
    assert "Loop" in {operator.op for operator in pruning}
    assert max(operator.calls for operator in pruning if operator.op == "TopK") > 1
    bound = {"vision", "prefill", "prefill_before", "prefill_after", "decode"}
    assert [set(bundle.roofline) - {"prefill_pruner"} for bundle in profile.bundles] == [bound, bound]
    for folder, bundle in zip((unpruned, pruned), profile.bundles, strict=True):
        manifest = read_manifest(folder)
        spec = manifest.methods["prefill"]
        words = len(load_tokenizer(folder, manifest).encode(filled(manifest.prompt.first, PROMPT)).ids)
        done = spec.work["after"].macs - (32 - words) * spec.work_per_token["after"].macs
        assert bundle.roofline["prefill_after"].gmac == pytest.approx(done / 1e9)
        assert 0 < done < 0.8 * spec.work["after"].macs
    assert [(guess.phone, guess.bundle) for guess in profile.estimates] == [
        ("Pixel 8", "onnx-unpruned"), ("Pixel 8", "onnx-pruned"),
    ]  # fmt: skip
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == render(profile)
    shown = capsys.readouterr().out
    for text in (
        "estimate, not measured",
        "the machine's limits",
        "load, warm",
        "pruner",
        "to the first token",
        "times as fast as",
        "picture and vision",
        "ratio",
    ):
        assert text in shown


def test_executorch_tells_the_parts_of_prefill_and_its_operators(mobile: Path) -> None:
    traced = trace(mobile, PHOTO, PROMPT, threads=1, runs=2)
    assert traced.splits["prefill"].startswith("split by ExecuTorch")
    shares = part_shares(traced.operators)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    for method in ("vision", "prefill", "decode"):
        found = sum(operator.ms for operator in traced.operators if operator.method == method)
        assert 0.2 * traced.operators_ms[method] < found <= 1.01 * traced.operators_ms[method]
    linear = [o for o in traced.operators if o.method == "prefill" and o.op.startswith("Fully Connected")]
    # Four a layer, two of six layers before the pruner, and the head.
    assert {operator.region: operator.calls for operator in linear} == {"before": 8, "after": 17}
    assert {"topk.values", "argmax.out"} <= {o.op for o in traced.operators if o.region == "pruner"}


@pytest.mark.parametrize("name", ["pruned", "mobile"])
def test_a_bundle_starts_cold_in_a_process_of_its_own(name: str, loadable: Path) -> None:
    started = ask(asking("cold", loadable), Started)
    assert 0 < started.load_ms < started.first_token_ms
    memory = started.memory
    assert memory.libraries_rss_mib < memory.loaded_rss_mib <= memory.peak_rss_mib
    assert memory.ran_rss_mib <= memory.peak_rss_mib


def start_here(task: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Started:
    """What a process of its own does, in this one."""
    monkeypatch.setattr(sys, "argv", ["child", asking(task, bundle).model_dump_json()])
    child.main()
    return Started.model_validate_json(capsys.readouterr().out)


def test_a_start_is_not_known_to_be_cold_where_no_files_are_dropped(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on macOS, which does tell what is in its cache."""
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert start_here("cold", pruned, monkeypatch, capsys).cached_share is None


def test_opening_the_photo_counts_to_the_first_token(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(photo: Path) -> Image.Image:
        sleep(1)
        return open_image(photo)

    monkeypatch.setattr("vlmp.runtimes.turn.open_image", slow)
    started = start_here("cold", pruned, monkeypatch, capsys)
    assert started.first_token_ms - started.load_ms > 1000


@pytest.fixture
def loadable(name: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(name)


def test_loads_take_turns_and_the_first_one_does_not_count(
    unpruned: Path, pruned: Path, quick: list[tuple[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    main([str(unpruned), "--compare", str(pruned), "--decode-tokens", "1", "--runs", "6", "--json", str(out)])
    a, b = unpruned.name, pruned.name
    turn = [("cold", a), ("warm", a), ("cold", b), ("warm", b)]
    assert quick == [("warm", a), ("warm", b), *turn * 6, ("trace", a), ("trace", b)]
    phases = read_profile(out).bundles[0].phases
    assert phases["load_cold"].samples_ms == [9] * 6
    assert phases["load_warm"].samples_ms == [3] * 6
    assert "prefill_pruner" not in phases


def unlike(bundle: Path, folder: Path, **facts: str) -> Path:
    """A copy that says something else of itself."""
    other = shutil.copytree(bundle, folder / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | facts))
    return other


def test_unlike_bundles_are_compared_only_when_asked(
    pruned: Path, quick: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = unlike(pruned, tmp_path, quantization="int8")
    argv = [str(pruned), "--compare", str(other), "--decode-tokens", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "quantization none against int8" in line
    assert "--different" in line
    assert "\n" not in line
    assert quick == []
    main([*argv, "--different"])
    assert "their ratio has more than one cause" in " ".join(capsys.readouterr().out.split())


def test_a_runtime_that_is_interpreted_is_not_timed(
    pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TRAITS, "coreml", Traits(interpreted=True))
    other = unlike(pruned, tmp_path, target="coreml")
    with pytest.raises(SystemExit) as stopped:
        main([str(other)])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip()
    assert f"{other}: coreml is interpreted on this machine, which says nothing of its times: profile it where" in line
    assert "\n" not in line


def test_core_ml_takes_no_threads(
    pruned: Path, quick: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = unlike(pruned, tmp_path, target="coreml")
    for argv, says in (
        ([str(other)], f"--threads 1: {other} is for coreml, which chooses its threads itself"),
        ([str(pruned), "--compare", str(other), "--different"], f"--threads 1: {other} is for coreml"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*argv, "--threads", "1"])
        assert stopped.value.code == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert "\n" not in line
    assert quick == []


def test_a_bundle_can_be_compared_with_itself(pruned: Path, quick: list[tuple[str, str]], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main([str(pruned), "--compare", str(pruned), "--decode-tokens", "1", "--json", str(out)])
    assert [bundle.name for bundle in read_profile(out).bundles] == [pruned.name, f"{pruned.name} (2)"]


def test_bundles_of_one_name_are_told_apart_everywhere(
    pruned: Path, quick: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (shutil.copytree(pruned, tmp_path / parent / "onnx") for parent in ("all", "few"))
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    argv = [str(one), "--compare", str(two), "--decode-tokens", "1", "--json", str(out), "--html", str(page)]
    main([*argv, "--estimate", "pixel-8"])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["all/onnx", "few/onnx"]
    assert [guess.bundle for guess in profile.estimates] == ["all/onnx", "few/onnx"]
    for shown in (capsys.readouterr().out, page.read_text(encoding="utf-8")):
        assert shown.count("all/onnx") > 3
        assert shown.replace("all/onnx", "").replace("few/onnx", "").replace(f"{two}", "").count("onnx ") == 0


def test_a_load_that_stayed_cached_is_not_called_cold(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, quick: list[tuple[str, str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answer = host.ask

    def cached(given: Request, kind: Any) -> Any:
        answered = answer(given, kind)
        return answered if kind is Traced else answered.model_copy(update={"cached_share": 0.7})

    monkeypatch.setattr(host, "ask", cached)
    out = tmp_path / "out.json"
    main([str(pruned), "--decode-tokens", "1", "--json", str(out)])
    bundle = read_profile(out).bundles[0]
    assert not {"load_cold", "first_token_cold"} & bundle.phases.keys()
    assert bundle.cold_cached_share == 0.7
    assert "no cold load, 70% of its files stayed in the page cache" in " ".join(capsys.readouterr().out.split())


class Closed(io.StringIO):
    """Stdout whose reader has gone, as that of `| head`."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_files_are_written_whatever_becomes_of_the_terminal(
    pruned: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit):
        main([str(pruned), "--decode-tokens", "1", "--json", str(out), "--html", str(page)])
    assert page.read_text(encoding="utf-8") == render(read_profile(out))


def test_what_cannot_be_written_is_shown(
    pruned: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write = Path.write_text

    def full(path: Path, *given: Any, **named: Any) -> int:
        if path.name.startswith(".out.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *given, **named)

    monkeypatch.setattr(Path, "write_text", full)
    page = tmp_path / "out.html"
    with pytest.raises(SystemExit):
        main([str(pruned), "--decode-tokens", "1", "--json", str(tmp_path / "out.json"), "--html", str(page)])
    assert "</html>" in page.read_text(encoding="utf-8")
    shown = capsys.readouterr()
    assert "to the first token" in shown.out
    assert "No space left on device" in shown.err
    assert "figures in" not in shown.out


def test_where_no_load_is_cold_none_is_tried_again(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, quick: list[tuple[str, str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answer = host.ask

    def kept(given: Request, kind: Any) -> Any:
        answered = answer(given, kind)
        return answered if kind is Traced else answered.model_copy(update={"cached_share": None})

    monkeypatch.setattr(host, "ask", kept)
    out = tmp_path / "out.json"
    main([str(pruned), "--decode-tokens", "1", "--json", str(out)])
    assert [task for task, _ in quick] == ["warm", "cold", *["warm"] * 5, "trace"]
    bundle = read_profile(out).bundles[0]
    assert not {"load_cold", "first_token_cold"} & bundle.phases.keys()
    assert bundle.cold_cached_share is None
    assert "no cold load, this system drops no files from its cache" in " ".join(capsys.readouterr().out.split())


BAD: list[tuple[list[str], str]] = [
    (["{here}"], "is not a bundle"),
    (["{bundle}", "--compare", "{here}/none"], "is not a bundle"),
    (["{bundle}", "--image", "{here}/none.jpg"], "does not exist"),
    (["{bundle}", "--image", "{bundle}/manifest.json"], "not in a format"),
    (["{bundle}", "--runs", "4"], "--runs 4: must be at least 5"),
    (["{bundle}", "--decode-tokens", "0"], "--decode-tokens 0: must be at least 1"),
    (["{bundle}", "--decode-tokens", "33"], "has room for 32"),
    (["{bundle}", "--threads", "0"], "--threads 0: must be at least 1"),
    (["{bundle}", "--json", "{here}/none/out.json"], "there is no folder"),
    (["{bundle}", "--html", "{here}/none/out.html"], "there is no folder"),
    (["{bundle}", "--json", "{here}"], "is a folder"),
    (["{bundle}", "--estimate", "pixel-0"], "unknown phone 'pixel-0'"),
    (["{bundle}", "--runs", "many"], "invalid int value"),
    (["{bundle}", "--prompt", "word " * 500], "tokens, the bundle takes up to"),
    ([], "required: bundle"),
]


@pytest.mark.parametrize(("argv", "says"), BAD, ids=[says for _, says in BAD])
def test_bad_input_ends_as_one_line(
    argv: list[str], says: str, pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([part.format(bundle=pruned, here=tmp_path) for part in argv])
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "machine is busy" not in line and line.strip()]
    assert len(lines) == 1, lines
    assert says in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_in_a_process_of_its_own_is_one_line(pruned: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(pruned, tmp_path / "broken")
    (broken / "vision.onnx").write_bytes(b"?" * (broken / "vision.onnx").stat().st_size)
    with pytest.raises(UserError, match=r"vision.onnx cannot be loaded"):
        ask(asking("warm", broken), Started)


def test_a_process_without_the_runtime_says_how_to_get_it(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RUNTIMES, "onnx", "no_such_runtime.python:Session")
    with pytest.raises(SystemExit):
        start_here("warm", pruned, monkeypatch, capsys)
    line = capsys.readouterr().err.strip()
    assert line.endswith("needs no_such_runtime, which is not installed: pip install 'vlmp[onnx]'")
    assert "\n" not in line


def test_names_of_nodes_tell_where_they_stand_to_the_pruner(pruned: Path, unpruned: Path) -> None:
    import onnx

    for bundle in (pruned, unpruned):
        nodes = onnx.load(bundle / "language.onnx", load_external_data=False).graph.node
        found = [node.name.partition("/")[0] for node in nodes]
        regions = [region for place, region in enumerate(found) if place == 0 or found[place - 1] != region]
        assert regions == ["before", "pruner", "after"]
        assert len({node.name for node in nodes}) == len(nodes)
        for node, region in zip(nodes, found, strict=True):
            for attribute in node.attribute:
                assert all(inner.name.startswith(f"{region}/") for inner in attribute.g.node)
