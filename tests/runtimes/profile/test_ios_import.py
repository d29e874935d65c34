"""`vlmp-profile --device ios`: files that an iPhone wrote, and options that do not belong together."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import make_phase, make_profile
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.compare import explain
from vlmp.runtimes.profile.report import render, times
from vlmp.runtimes.profile.schema import Condition, Profile, RunCondition, read_profile, write_profile

IPHONE = {
    "kind": "ios", "name": "iPhone17,1", "os": "iOS 26.1", "cpu": "Apple A18 Pro", "cores": 6, "flags": [],
    "memory_mib": 7600, "runtimes": {"Core ML": "26.1"}, "facts": {"battery": "91 %", "low power mode": "off"},
}  # fmt: skip


PARTS = ("prefill_before", "prefill_pruner", "prefill_after")


def phone_profile(bundles: list[int], **changed: Any) -> Profile:
    """What the demo's benchmark writes of these bundles: no operators, no roofline, no estimates."""
    whole = make_profile()
    runs = len(whole.bundles[0].phases["prefill"].samples_ms)
    moment = Condition(thermal_status="nominal")
    raw = json.loads(whole.model_dump_json()) | {
        "settings": json.loads(whole.settings.model_copy(update={"runs": runs}).model_dump_json()),
        "command": "", "machine": IPHONE, "peaks": None, "estimates": [], "explanation": [],
        "conditions": [
            json.loads(RunCondition(round=1, bundle=n, waited_s=5, before=moment, after=moment).model_dump_json())
            for n in range(len(bundles))
        ],
        "bundles": [json.loads(whole.bundles[place].model_dump_json()) for place in bundles],
    }  # fmt: skip
    for bundle in raw["bundles"]:
        for name in PARTS:
            del bundle["phases"][name]
        bundle |= {"operators": [], "operators_ms": {}, "roofline": {}, "runtime": "Core ML 26.1"}
        bundle["prefill_split"] = "not split: Core ML tells no operator's time"
        bundle["manifest"]["target"] = "coreml"
    return Profile.model_validate(raw | changed)


def write(folder: Path, name: str, profile: Profile) -> str:
    write_profile(profile, folder / name)
    return str(folder / name)


def test_files_of_one_phone_are_put_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (write(tmp_path, f"{n}.json", phone_profile([n], warnings=["it was in a pocket"])) for n in (0, 1))
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    main(["--device", "ios", "--import", one, "--import", two, "--json", str(out), "--html", str(page)])
    profile = read_profile(out)
    assert [bundle.name for bundle in profile.bundles] == ["onnx-none", "onnx-vlm-pruner"]
    assert [condition.bundle for condition in profile.conditions] == [0, 1]
    assert profile.warnings == ["it was in a pocket"]
    assert "times as fast as onnx-none" in profile.explanation[0]
    assert profile.command.startswith("vlmp-profile --device ios --import")
    assert page.read_text(encoding="utf-8") == render(profile)
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "iPhone17,1 (Apple A18 Pro)",
        "iOS 26.1",
        "low power mode off",
        "nominal",
        "note: it was in a pocket.",
    ):
        assert text in shown


def test_bundles_of_one_name_get_numbers(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{n}.json", phone_profile([0])) for n in (1, 2)]
    out = tmp_path / "out.json"
    main(["--device", "ios", "--import", paths[0], "--import", paths[1], "--json", str(out)])
    assert [bundle.name for bundle in read_profile(out).bundles] == ["onnx-none", "onnx-none (2)"]


def test_one_file_may_hold_all_bundles(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main(["--device", "ios", "--import", write(tmp_path, "both.json", phone_profile([0, 1])), "--json", str(out)])
    assert len(read_profile(out).bundles) == 2


def test_bundles_that_differ_in_more_are_compared_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = phone_profile([1])
    facts = other.bundles[0].manifest.model_copy(update={"quantization": "int4"})
    other = other.model_copy(update={"bundles": [other.bundles[0].model_copy(update={"manifest": facts})]})
    one, two = write(tmp_path, "1.json", phone_profile([0])), write(tmp_path, "2.json", other)
    out = tmp_path / "out.json"
    argv = ["--device", "ios", "--import", one, "--import", two, "--json", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "onnx-none and onnx-vlm-pruner differ in more than pruning: quantization none against int4; --diff" in line
    assert "\n" not in line
    assert not out.exists()
    main([*argv, "--different"])
    assert "differ in quantization none against int4" in read_profile(out).explanation[0]


OTHERS = [
    (make_profile(), "was measured on a machine of kind 'host', not on ios"),
    (phone_profile([]), "holds no bundle"),
    (
        phone_profile([0], machine=IPHONE | {"name": "iPhone15,2"}),
        "are of different devices: iPhone17,1 against iPhone15,2",
    ),
    (phone_profile([0], machine=IPHONE | {"os": "iOS 18.0"}), "are of different systems: iOS 26.1 against iOS 18.0"),
]


@pytest.mark.parametrize(("other", "says"), OTHERS, ids=[says for _, says in OTHERS])
def test_files_that_do_not_belong_together(
    other: Profile, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write(tmp_path, "1.json", phone_profile([0])), write(tmp_path, "2.json", other)
    with pytest.raises(SystemExit):
        main(["--device", "ios", "--import", one, "--import", two])
    line = capsys.readouterr().err.strip()
    assert says in line
    assert "\n" not in line


def answer(raw: object, folder: Path) -> tuple[int, str, str]:
    """Exit code, what is shown and the last words for a file that holds `raw`."""
    path = folder / "file.json"
    path.write_text(json.dumps(raw))
    outputs = ["--json", f"{folder}/out.json", "--html", f"{folder}/out.html"]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(["--device", "ios", "--import", str(path), *outputs])
        except SystemExit as stopped:
            return int(str(stopped.code)), out.getvalue(), err.getvalue().removesuffix("\n")
    return 0, out.getvalue(), err.getvalue()


def raw_profile(*, parts: bool) -> Any:
    """Two bundles, as a file has them. parts: with those of prefill, memory and operators."""
    raw = json.loads(phone_profile([0, 1]).model_dump_json())
    for bundle, whole in zip(raw["bundles"], json.loads(make_profile().model_dump_json())["bundles"], strict=True):
        bundle["phases"] |= {name: whole["phases"][name] for name in PARTS if parts}
        bundle |= {"operators": whole["operators"][:8], "operators_ms": whole["operators_ms"]} if parts else {}
        bundle["memory"] = whole["memory"] if parts else None
    return raw


def change(raw: Any, place: str, value: object) -> None:
    """place: `bundles.0.name`."""
    *way, last = place.split(".")
    for step in way:
        raw = raw[int(step) if isinstance(raw, list) else step]
    raw[int(last) if isinstance(raw, list) else last] = value


WRONG: list[tuple[str, object, str]] = [
    ("conditions.0.bundle", 2, "conditions.0.bundle is 2, but bundles go from 0 to 1"),
    ("conditions.1.bundle", -1, "conditions.1.bundle is -1, but bundles go from 0 to 1"),
    ("bundles.0.phases.prefill.median_ms", 0, "bundles.0.phases.prefill.median_ms is 0, but the median of its samples"),
    ("bundles.1.phases.decode", dict.fromkeys(("median_ms", "low_ms", "high_ms"), 0) | {"samples_ms": [0, 0]},
     "bundles.1: decode takes 0 ms, but nothing is that fast"),
    ("bundles.1.operators_ms.vision", 1e-9, "bundles.1: vision takes 1e-09 ms, but nothing is that fast"),
    ("bundles.1.phases.vision", make_phase(1e-320).model_dump(), "vision takes 9.99989e-321 ms, but nothing is"),
    ("bundles.1.phases.prefill.high_ms", 1, "is not between low_ms and high_ms"),
    ("bundles.1.phases.prefill.samples_ms", [68.4], "bundles.1.phases.prefill.samples_ms has 1 samples of 2 runs"),
    ("bundles.0.phases.first_token", make_phase(100).model_dump(), "bundles.0.phases.first_token is not longer than"),
    ("bundles.0.phases.prefill_after", make_phase(1).model_dump(), "prefill_after do not add up to prefill"),
    ("bundles.0.phases", {"prefill_pruner": make_phase(1).model_dump()}, "prefill_after do not add up to prefill"),
    ("bundles.0.phases.vision_after", make_phase(1).model_dump(), "vision_after do not add up to vision"),
    ("bundles.0.size_mib", math.nan, "bundles.0.size_mib: Input should be a finite number"),
    ("machine.memory_mib", -math.inf, "machine.memory_mib: Input should be a finite number"),
    ("machine.memory_mib", 1e308, "machine.memory_mib has to be at least 0 and below 1e+12"),
    ("machine.cores", 10**400, "machine.cores has to be at least 0 and below 1e+12"),
    ("machine.cores", -1, "machine.cores has to be at least 0 and below 1e+12"),
    ("machine.name", "\x1b[2J", r"machine.name holds control characters: '\x1b[2J'"),
    ("machine.facts", {"\ud800": ""}, r"a name in machine.facts holds control characters: '\ud800'"),
    ("new\nfield", 1, r"new\nfield: Extra inputs are not permitted"),
    ("peaks", {"gop_s": {}, "gb_s": 0, "how": ""}, "holds peaks or estimates, which no app measures"),
    ("bundles.0.roofline.vision", make_profile().bundles[0].roofline["vision"].model_dump(),
     "bundles.0.roofline holds limits"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "says"), WRONG, ids=[f"{place} {value}"[:60] for place, value, _ in WRONG])
def test_figures_that_cannot_be_are_refused_in_one_line(place: str, value: object, says: str, tmp_path: Path) -> None:
    raw = raw_profile(parts=True)
    assert answer(raw, tmp_path)[0] == 0
    (tmp_path / "out.json").unlink()
    change(raw, place, value)
    code, _, line = answer(raw, tmp_path)
    assert (code, len(line.splitlines())) == (2, 1)
    assert line.startswith(f"vlmp-profile: {tmp_path}/file.json")
    assert says in line
    assert not (tmp_path / "out.json").exists()


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    raw = raw_profile(parts=True)
    names = ("[red]a", "[/]b", ":smile:c", "[bold]d")
    for place, name in zip(
        ("bundles.0.name", "bundles.0.manifest.pruner", "bundles.1.operators.0.op", "machine.name"), names, strict=True
    ):
        change(raw, place, name)
    code, shown, line = answer(raw, tmp_path)
    assert (code, line) == (0, "")
    assert [name for name in names if name not in shown] == []


def test_an_explanation_divides_by_no_zero_and_misses_no_part() -> None:
    unpruned, pruned = make_profile().bundles
    nothing = pruned.model_copy(update={"phases": dict.fromkeys(pruned.phases, make_phase(0))})
    text = explain(nothing, nothing, [])
    assert "0.0 ms (-) are picture and vision" in text
    assert "take - of it, the pruner -, layers after it -." in text
    some = {name: phase for name, phase in pruned.phases.items() if name != "prefill_after"}
    text = explain(unpruned, pruned.model_copy(update={"phases": some}), [])
    assert text.endswith("Its prefill is 1.87 times as fast.")


def test_what_only_another_bundle_tells_is_shown(tmp_path: Path) -> None:
    raw = raw_profile(parts=True)
    raw["bundles"][0]["memory"] = None
    for name in PARTS:
        del raw["bundles"][0]["phases"][name]
    shown = answer(raw, tmp_path)[1]
    peak = next(line for line in shown.splitlines() if "peak memory" in line)
    assert [cell.strip() for cell in peak.split("│")[2:5]] == ["-", "171.9", "-"]


def test_a_speed_up_without_bounds_is_a_dash() -> None:
    assert [times(ratio) for ratio in (1.5, math.inf)] == ["1.50×", "–"]


def places(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The ways to everything in a tree."""
    steps = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield (*way, step)
        yield from places(value[step], (*way, step))


GONE = "(gone)"
JUNK = [
    GONE, None, True, -1, 0, 1, 2.5, 1e-320, 1e308, 10**400, math.nan, math.inf, -math.inf, "", "[red]", "[/]",
    "[/x]\\", "\x1b[2J", "\ud800", "a\nb", "fair", [], {}, [[]], {"": ""}, {"vision": 1}, [0.0, 0.0],
    make_phase(0).model_dump(), make_phase(1e-320).model_dump(), make_phase(1e11).model_dump(),
]  # fmt: skip


@given(parts=st.booleans(), changes=st.lists(st.tuples(st.integers(0), st.sampled_from(JUNK)), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_changed_file_is_shown_or_refused_in_one_line(parts: bool, changes: list[tuple[int, object]]) -> None:
    raw = raw_profile(parts=parts)
    for number, junk in changes:
        ways = list(places(raw))
        *way, last = ways[number % len(ways)]
        parent = raw
        for step in way:
            parent = parent[step]
        if junk == GONE:
            del parent[last]
        else:
            parent[last] = deepcopy(junk)
    with TemporaryDirectory() as folder:
        code, shown, line = answer(raw, Path(folder))
        assert (code, len(line.splitlines())) in ((0, 0), (2, 1))
        if code == 0:
            page = (Path(folder) / "out.html").read_text("utf-8")
            assert re.search(r"\b(nan|inf)\b", shown + page) is None
            assert render(read_profile(Path(folder) / "out.json")) == page


BAD: list[tuple[list[str], str]] = [
    (["--device", "ios"], "name it by --import FILE"),
    (["--device", "ios", "bundle", "--import", "x"], "takes no bundle"),
    (["--device", "ios", "--import", "none.json"], "none.json cannot be read as a profile"),
    (["--device", "ios:1", "--import", "x"], "--device ios:1: adb, adb:SERIAL, ios, android or browser"),
    (["--device", "fridge", "bundle"], "--device fridge: adb, adb:SERIAL, ios, android or browser"),
    (["bundle", "--import", "x"], "--import is for --device ios, android or browser"),
    (["bundle", "--cool-down", "3"], "--cool-down is for --device adb"),
    (["bundle", "--cool-down", "0"], "--cool-down is for --device adb"),
    (["--device", "ios", "--import", "x", "--cool-down", "0"], "--cool-down is for --device adb"),
    (["--device", "ios", "--import", "x", "--threads", "2"], "--threads is of no use with it"),
    (["--device", "ios", "--import", "x", "--decode-tokens", "4"], "--decode-tokens is of no use with it"),
    (["bundle", "--runner", "r"], "--runner is for --device adb"),
    (["bundle", "--device", ""], "--device : adb, adb:SERIAL, ios, android or browser"),
    (["bundle", "--keep-files"], "--keep-files is for --device adb"),
    (["bundle", "--device", "adb", "--cool-down", "-1"], "--cool-down -1.0: must be at least 0"),
    (["bundle", "--device", "adb", "--cool-down", "nan"], "--cool-down nan: must be at least 0"),
    (["bundle", "--device", "adb", "--cool-down", "inf"], "--cool-down inf: must be at most 3600 seconds"),
    (["--device", "adb"], "required: bundle"),
]


@pytest.mark.parametrize(("argv", "says"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_options_that_do_not_belong_together(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
