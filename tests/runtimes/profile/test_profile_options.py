"""What `--estimate` does on a command line, and the tables of bounds and estimates on a terminal."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from estimate_cases import make_manifest
from report_cases import make_profile, with_tower
from rich.console import Console
from rich.table import Table
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.writing import exclusive
from vlmp.runtimes.profile.cli import main, parser
from vlmp.runtimes.profile.phones import catalogue, estimates
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import Condition, RunCondition
from vlmp.runtimes.profile.table import condition_table, estimate_table, operator_table, phase_table, roofline_table


def printed(table: Table) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_phones_are_listed_without_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--estimate", "list"])
    assert ended.value.code == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(catalogue().phones)


def test_phones_are_collected() -> None:
    arguments = parser().parse_args(["bundle", "--estimate", "pixel-8", "--estimate", "galaxy-a55"])
    assert arguments.estimate == ["pixel-8", "galaxy-a55"]
    assert parser().parse_args([str(Path("bundle"))]).estimate is None


def test_every_bundle_on_every_phone() -> None:
    manifests = [make_manifest(), make_manifest(quantization="int8")]
    found = estimates(["pixel-8", "galaxy-a55"], ["one", "two"], manifests)
    assert [(guess.phone, guess.bundle, guess.arithmetic) for guess in found] == [
        ("Pixel 8", "one", "float32"), ("Pixel 8", "two", "int8"),
        ("Galaxy A55", "one", "float32"), ("Galaxy A55", "two", "int8"),
    ]  # fmt: skip
    assert estimates([], ["one"], manifests[:1]) == []
    with pytest.raises(UserError, match="unknown phone 'pixel-0'"):
        estimates(["pixel-0"], ["one"], manifests[:1])


WAYS: dict[str, list[str]] = {
    "host": ["no-bundle"],
    "adb": ["no-bundle", "--device", "adb"],
    "ios": ["--device", "ios", "--import", "no-file"],
}
OUTPUTS = [
    ("{here}", "is a folder: name a file"),
    ("{here}/none/out", "there is no folder"),
    ("{here}/file/out", "there is no folder"),
    ("{here}/fifo", "is no ordinary file"),
    (f"{{here}}/{'n' * 250}", "cannot be written: File name too long"),
    ("{here}/\udcff", "the command line is not valid UTF-8"),
]
if Path("/proc").is_dir():
    OUTPUTS.append(("/proc/out", "cannot be written"))  # as a folder without permission, which root does not know


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", ["--json", "--html"])
@pytest.mark.parametrize(("output", "says"), OUTPUTS, ids=[output[:20] for output, _ in OUTPUTS])
def test_outputs_that_cannot_be_written_are_found_before_anything_is_read(
    way: str, option: str, output: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SystemExit) as stopped:
        main([*WAYS[way], option, output.format(here=tmp_path)])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip()
    assert says in line
    assert len(line.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "file"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_file_that_another_process_writes_is_refused_before_anything_is_read(
    way: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with exclusive(out, "another profile"), pytest.raises(SystemExit, match="2"):
        main([*WAYS[way], option, str(out)])
    assert capsys.readouterr().err == (
        f"vlmp-profile: {option} {out} is being written by another process: wait until it is done, or choose another\n"
    )
    with pytest.raises(SystemExit, match="2"):
        main([*WAYS[way], option, str(out)])
    assert "no-" in capsys.readouterr().err, "now it is read"
    assert list(tmp_path.iterdir()) == []


def test_figures_and_report_are_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no-bundle", "--json", f"{tmp_path}/out", "--html", f"{tmp_path}/../{tmp_path.name}/out"])
    assert "--json and --html name the same file" in capsys.readouterr().err


def test_the_table_of_estimates_says_what_it_is() -> None:
    text = printed(estimate_table(make_profile().estimates))
    assert "estimate, not measured" in text
    assert [line.count("onnx-none") for line in text.splitlines()].count(1) == 2
    assert "Pixel 8" in text
    assert "iPhone 16 Pro" in text


def test_operators_are_shares_of_their_whole_method() -> None:
    """In the report too: 38.1 of the 128.2 ms of prefill, of which operators are 121.7 ms."""
    bundle = make_profile().bundles[0]
    untold = bundle.model_copy(update={"operators_ms": {"prefill": 0.0}})
    for one, share in ((bundle, "30%"), (untold, "-")):
        row = next(line for line in printed(operator_table(one)).splitlines() if "before" in line)
        assert [cell.strip() for cell in row.split("│")[3:7]] == ["MatMul", "14", "38.10", share]
    assert "<td>38.1</td>\n<td>30%</td>" in render(make_profile())


def test_memory_is_resident_where_the_system_tells_no_other() -> None:
    """As macOS. Were it one bundle's only, there would be no ratio to the other's."""
    profile = make_profile()
    first, second = profile.bundles
    assert first.memory is not None
    untold = first.memory.model_copy(
        update={"libraries_pss_mib": None, "loaded_pss_mib": None, "ran_pss_mib": None, "loaded_rss_mib": 131.5}
    )
    mac = profile.model_copy(update={"bundles": [first.model_copy(update={"memory": untold}), second]})
    for one, kind, loaded in ((profile, "Pss", ["31.5", "31.5", "1.00"]), (mac, "resident", ["51.5", "50.0", "1.03"])):
        row = next(line for line in printed(phase_table(one)).splitlines() if "loaded session" in line)
        assert f"memory of a loaded session ({kind}), MiB" in row
        assert [cell.strip() for cell in row.split("│")[2:5]] == loaded
    page = " ".join(render(mac).split())
    for label, values in (
        ("runtime library", (80.0, 80.0)),
        ("loaded", (131.5, 130.0)),
        ("after all methods", (160.0,)),
    ):
        assert f"{label}, resident</th><td>" + "</td><td>".join(f"{value}" for value in values) in page


def test_the_hottest_sensor_is_shown() -> None:
    hot = Condition(temperatures_c={"battery": 38.0, "skin": 41.04}, battery_c=38.0)
    around = RunCondition(round=1, bundle=0, waited_s=10, before=hot, after=Condition())
    profile = make_profile().model_copy(update={"conditions": [around]})
    assert "│ 41.0, - " in " ".join(printed(condition_table(profile)).split())
    assert "<td>41.0 → –</td>\n<td>38.0 → –</td>" in render(profile)


def test_tables_tell_the_parts_of_vision() -> None:
    profile = with_tower(make_profile())
    phases = printed(phase_table(profile))
    labels = ["vision: before the stage", "vision: the stage", "vision: after the stage"]
    assert [label for label in labels if f"│ {label} " in phases] == labels
    operators = printed(operator_table(profile.bundles[1]))
    rows = [[cell.strip() for cell in line.split("│")] for line in operators.splitlines()]
    assert ["vision", "vision_pruner", "TopK", "3", "1.90", "3%"] in [cells[1:-1] for cells in rows]
    assert "vision: the stage" not in printed(phase_table(make_profile()))


def test_the_table_of_bounds() -> None:
    lines = [
        [cell.strip() for cell in line.split("│")] for line in printed(roofline_table(make_profile())).splitlines()
    ]
    rows = {cells[1]: cells[2:6] for cells in lines if len(cells) > 5}
    assert rows["vision"] == ["38.10 (compute)", "62%", "38.10 (compute)", "61%"]
    assert rows["decode, per token"][:2] == ["55.43 (memory)", "81%"]
    assert rows["prefill: the pruner"][:2] == ["-", "-"]  # it keeps all and computes nothing
