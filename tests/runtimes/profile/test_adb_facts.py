"""What phones print, and what is made of it when they print something else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from adb_phone import BATTERY, PROPERTIES, THERMAL
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile.adb.facts import (
    STATUSES,
    count_cores,
    read_battery_c,
    read_clock_limit,
    read_condition,
    read_fields,
    read_free,
    read_properties,
    read_status,
    read_temperatures,
    read_zones,
)
from vlmp.runtimes.profile.adb.merge import doubts, merge_phases
from vlmp.runtimes.profile.adb.rounds import Run
from vlmp.runtimes.profile.adb.runner import read_loader
from vlmp.runtimes.profile.schema import PARTS, Condition, InParts, Operator, RunCondition
from vlmp.runtimes.profile.trace import Traced


def test_properties_may_go_over_lines() -> None:
    found = read_properties(PROPERTIES + "[ro.odd]: [one\ntwo]\n[ro.empty]: []\n")
    assert found["ro.soc.model"] == "Tensor G3"
    assert found["ro.odd"] == "one\ntwo"
    assert found["ro.empty"] == ""


@pytest.mark.parametrize("status", range(7))
def test_thermal_status(status: int) -> None:
    assert read_status(THERMAL.format(status=status)) == STATUSES[status]


def test_temperatures_of_now_rather_than_those_remembered() -> None:
    assert read_temperatures(THERMAL.format(status=0)) == {"BIG": 41.5, "VIRTUAL-SKIN": 33.2}
    broken = (
        "Temperature{mValue=NaN, mType=0, mName=a, mStatus=0} Temperature{mValue=-274.0, mType=0, mName=b, mStatus=0}"
    )
    assert read_temperatures(broken + " Temperature{mValue=30.0, mType=2, mName=battery, mStatus=0}") == {"battery": 30}


def test_sensors_without_a_service() -> None:
    zones = "cpu-0-0 41200\nbattery 30100\nbroken -273000\n unreadable\nhuge 4294967295\n"
    assert read_zones(zones) == {"cpu-0-0": 41.2, "battery": 30.1}
    assert read_condition({"zones": zones}).temperatures_c == {"cpu-0-0": 41.2, "battery": 30.1}


def test_battery_and_clocks() -> None:
    assert read_battery_c(BATTERY) == 29.1
    assert read_clock_limit("1704000 1704000\n1803000 2914000\n \n") == pytest.approx(1803 / 2914)


@pytest.mark.parametrize(
    ("possible", "cpuinfo", "cores"),
    [("0-8\n", "", 9), ("0-3,6-7", "", 6), ("0", "", 1), ("", "processor\t: 0\nprocessor\t: 1\n", 2), ("", "", 0)],
)
def test_cores(possible: str, cpuinfo: str, cores: int) -> None:
    assert count_cores(possible, cpuinfo) == cores


def test_room_on_the_storage() -> None:
    toybox = (
        "Filesystem     1K-blocks     Used Available Use% Mounted on\n/dev/block/dm-53 115249236 9 1000 21% /data\n"
    )
    assert read_free(toybox) == 1000 * 1024
    assert read_free("Filesystem Size Used Free Blksize\n/data 12.2G 3.0G 9.2G 4096\n") is None, "an old df has no -k"


def test_what_is_not_told_stays_unknown() -> None:
    assert read_condition({}) == Condition()
    assert read_condition(dict.fromkeys(("thermal", "battery", "zones", "clocks"), "Can't find service")) == Condition()
    assert read_status("Thermal Status: 9") is None
    assert read_free("") is None
    assert read_fields("no colon\na: 1\na: 2") == {"a": "1"}


def run(place: int, status: str | None = "none", clock: float | None = None) -> Run:
    from report_cases import make_profile

    moment = Condition.model_validate({"thermal_status": status, "clock_limit_share": clock})
    condition = RunCondition(round=1, bundle=place, waited_s=0, before=Condition(thermal_status="none"), after=moment)
    return Run(bundle=make_profile().bundles[place], runtimes={}, condition=condition)


def test_what_makes_figures_doubtful() -> None:
    from report_cases import make_profile

    machine = make_profile().machine
    assert doubts(machine, [run(0), run(1)], 1, 0) == []
    assert doubts(machine, [run(0, "light"), run(1, "severe")], 1, 0) == [
        "the phone was hot, up to thermal status severe, around 2 of 2 runs: it may have throttled"
    ]
    slowed = doubts(machine, [run(0, clock=1.0), run(1, clock=0.7)], 1, 0)
    assert slowed == ["the phone lowered the limit of its clocks from 100% to 70% of the highest meanwhile"]
    held = doubts(machine, [run(0, clock=0.8), run(1, clock=0.7)], 1, 0)
    assert held == [
        "the limit of the phone's clocks was at 80% of the highest from the start",
        "the phone lowered the limit of its clocks from 80% to 70% of the highest meanwhile",
    ]
    emulated = machine.model_copy(update={"facts": {"emulated": "yes"}})
    assert doubts(emulated, [run(0), run(1)], 1, 0) == [
        "the phone is emulated: no time here is a phone's, and no speed-up either"
    ]
    low = machine.model_copy(update={"facts": {"battery": "12 %", "battery saver": "on"}})
    assert [line.partition(" ")[2][:12] for line in doubts(low, [run(0)], 2, 3)] == [
        "battery save", "battery is a", "phone was di", "stopped afte",
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["vision", "prefill"])
def test_methods_of_all_runs_are_split_by_the_shares_of_the_trace(method: InParts) -> None:
    operators = [
        Operator(method=method, region=part, op="x", calls=1, ms=ms)
        for part, ms in zip(PARTS[method], (1.0, 1.0, 2.0), strict=True)
    ]
    traced = Traced(operators=operators, operators_ms={}, splits={method: "split"})
    phases = merge_phases([run(0).bundle, run(1).bundle], traced)
    whole = phases[method].samples_ms
    *_, after = PARTS[method].values()
    assert phases[after].samples_ms == pytest.approx([ms / 2 for ms in whole])
    assert len(whole) == 4
    assert sum(name.startswith(("vision_", "prefill_")) for name in phases) == 3


def elf(machine: int, loader: bytes) -> bytes:
    """A program's header with one segment, the loader's name."""
    head = b"\x7fELF\x02\x01".ljust(18, b"\0") + struct.pack("<H12xQ", machine, 64)
    head = head.ljust(54, b"\0") + struct.pack("<HH", 56, 1)
    return head.ljust(64, b"\0") + struct.pack("<IIQQQQ", 3, 4, 120, 0, 0, len(loader)).ljust(56, b"\0") + loader


@pytest.mark.parametrize("loader", [b"/lib/ld-linux-aarch64.so.1\0", b"/system/bin/linker64\0"])
def test_the_loader_of_a_program(loader: bytes, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(elf(183, loader))
    assert read_loader(program) == loader[:-1].decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no 64-bit program"), (b"#!/bin/sh\n".ljust(99), "no 64-bit program"),
     (b"\x7fELF\x01\x01", "no 64-bit program"), (b"\x7fELF\x02\x01\0", "no 64-bit program"),
     (elf(62, b"x"), "another processor"), (elf(183, b"x")[:70], "is cut off")],
)  # fmt: skip
def test_what_is_no_program_for_a_phone(content: bytes, says: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_loader(program)
