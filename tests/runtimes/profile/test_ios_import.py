"""`vlmp-profile --device ios`: files that an iPhone wrote, and options that do not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_cases import make_profile
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import Condition, Profile, RunCondition, read_profile, write_profile

IPHONE = {
    "kind": "ios", "name": "iPhone17,1", "os": "iOS 26.1", "cpu": "Apple A18 Pro", "cores": 6, "flags": [],
    "memory_mib": 7600, "runtimes": {"Core ML": "26.1"}, "facts": {"battery": "91 %", "low power mode": "off"},
}  # fmt: skip


def phone_profile(bundles: list[int], **changed: Any) -> Profile:
    """What the demo's benchmark writes of these bundles: no operators, no roofline, no estimates."""
    whole = make_profile()
    moment = Condition(thermal_status="nominal")
    raw = json.loads(whole.model_dump_json()) | {
        "command": "", "machine": IPHONE, "peaks": None, "estimates": [], "explanation": [],
        "conditions": [
            json.loads(RunCondition(round=1, bundle=n, waited_s=5, before=moment, after=moment).model_dump_json())
            for n in range(len(bundles))
        ],
        "bundles": [json.loads(whole.bundles[place].model_dump_json()) for place in bundles],
    }  # fmt: skip
    for bundle in raw["bundles"]:
        for name in ("prefill_before", "prefill_pruner", "prefill_after"):
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


def test_one_file_may_hold_all_bundles(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main(["--device", "ios", "--import", write(tmp_path, "both.json", phone_profile([0, 1])), "--json", str(out)])
    assert len(read_profile(out).bundles) == 2


def test_bundles_that_differ_in_more_are_said_to(tmp_path: Path) -> None:
    other = phone_profile([1])
    facts = other.bundles[0].manifest.model_copy(update={"quantization": "int4"})
    other = other.model_copy(update={"bundles": [other.bundles[0].model_copy(update={"manifest": facts})]})
    one, two = write(tmp_path, "1.json", phone_profile([0])), write(tmp_path, "2.json", other)
    out = tmp_path / "out.json"
    main(["--device", "ios", "--import", one, "--import", two, "--json", str(out)])
    assert "differ in quantization none against int4" in read_profile(out).explanation[0]


OTHERS = [
    (make_profile(), "was measured on a machine of kind 'host', not on ios"),
    (phone_profile([]), "holds no bundle"),
    (
        phone_profile([0], machine=IPHONE | {"name": "iPhone15,2"}),
        "are of different phones: iPhone17,1 against iPhone15,2",
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


BAD: list[tuple[list[str], str]] = [
    (["--device", "ios"], "name it by --import FILE"),
    (["--device", "ios", "bundle", "--import", "x"], "takes no bundle"),
    (["--device", "ios", "--import", "none.json"], "none.json cannot be read as a profile"),
    (["--device", "ios:1", "--import", "x"], "--device ios:1: adb, adb:SERIAL or ios"),
    (["--device", "fridge", "bundle"], "--device fridge: adb, adb:SERIAL or ios"),
    (["bundle", "--import", "x"], "--import is for --device ios"),
    (["bundle", "--cool-down", "3"], "--cool-down is for --device adb"),
    (["bundle", "--cool-down", "0"], "--cool-down is for --device adb"),
    (["--device", "ios", "--import", "x", "--cool-down", "0"], "--cool-down is for --device adb"),
    (["bundle", "--runner", ""], "--runner is for --device adb"),
    (["bundle", "--device", ""], "--device : adb, adb:SERIAL or ios"),
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
