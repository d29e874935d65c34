"""Bounds by hand, and a machine's limits that are really its limits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from estimate_cases import TOWER, WORK, make_manifest
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import WorkSpec
from vlmp.runtimes.profile import roofline
from vlmp.runtimes.profile.roofline import arithmetic, measure_peaks, rooflines, sides_ms, with_less_text, work_of
from vlmp.runtimes.profile.schema import Peaks, Phase, PhaseName

PEAKS = Peaks(gop_s={"float32": 200, "int8": 800}, gb_s=20, how="made up")


def took(*phases: PhaseName, ms: float = 100) -> dict[PhaseName, Phase]:
    return {name: Phase(median_ms=ms, low_ms=ms, high_ms=ms, samples_ms=[ms]) for name in phases}


def test_each_side_by_hand() -> None:
    assert sides_ms(WORK["vision"], 200, 20) == pytest.approx((40, 10))
    assert sides_ms(WORK["decode"], 200, 20) == pytest.approx((2.5, 51))


def test_bounds() -> None:
    found = rooflines(make_manifest(), took("vision", "decode", "preprocess", "first_token"), PEAKS)
    assert set(found) == {"vision", "decode"}
    vision, decode = found["vision"], found["decode"]
    assert (vision.bound_ms, vision.binds, vision.share_of_bound) == (pytest.approx(40), "compute", pytest.approx(0.4))
    assert (decode.bound_ms, decode.binds, decode.share_of_bound) == (pytest.approx(51), "memory", pytest.approx(0.51))
    assert vision.gmac == 4
    assert decode.gib_moved == pytest.approx(1.02e9 / 2**30)


def test_a_shorter_text_is_less_work_where_the_graph_says_so() -> None:
    each = WorkSpec(macs=10**8, weight_bytes=0, cache_bytes=10**4, activation_bytes=10**5)
    plain = make_manifest()
    assert with_less_text(plain, 20) == plain
    prefill = plain.methods["prefill"].model_copy(update={"work_per_token": {"after": each}})
    manifest = plain.model_copy(update={"methods": {**plain.methods, "prefill": prefill}})
    assert with_less_text(manifest, 0) == manifest
    fewer = work_of(with_less_text(manifest, 20))
    assert fewer["after"] == WorkSpec(
        macs=4 * 10**9, weight_bytes=10**9, cache_bytes=8 * 10**5, activation_bytes=8 * 10**6
    )
    assert {name: work for name, work in fewer.items() if name != "after"} == {
        name: work for name, work in WORK.items() if name != "after"
    }


def test_prefill_is_the_sum_of_its_parts() -> None:
    """20 ms and 1 ms of arithmetic, and 60 ms of it that memory stays behind."""
    phases = took("prefill", "prefill_before", "prefill_pruner", "prefill_after")
    found = rooflines(make_manifest(), phases, PEAKS)
    parts = [found[name].bound_ms for name in ("prefill_before", "prefill_pruner", "prefill_after")]
    assert parts == pytest.approx([20, 1, 60])
    assert found["prefill"].bound_ms == pytest.approx(81)
    assert found["prefill"].gmac == pytest.approx(8.1)
    assert found["prefill"].binds == "compute"
    slow_memory = PEAKS.model_copy(update={"gb_s": 5.0})
    assert rooflines(make_manifest(), phases, slow_memory)["prefill"].binds == "memory"


def test_vision_is_the_sum_of_its_parts_where_a_stage_is_in_it() -> None:
    """20 ms and 1 ms of arithmetic, and 25 ms of memory traffic; of integers the stage has none."""
    phases = took("vision", "vision_before", "vision_pruner", "vision_after")
    found = rooflines(make_manifest(work=WORK | TOWER), phases, PEAKS)
    parts = [found[name].bound_ms for name in ("vision_before", "vision_pruner", "vision_after")]
    assert parts == pytest.approx([20, 1, 25])
    assert found["vision"].bound_ms == pytest.approx(46)
    assert (found["vision"].gmac, found["vision"].binds) == (pytest.approx(3.1), "memory")
    integers = rooflines(make_manifest(work=WORK | TOWER, quantization="int8"), phases, PEAKS)
    assert integers["vision_pruner"].bound_ms == pytest.approx(1)
    assert integers["vision_before"].bound_ms == pytest.approx(5)
    assert list(rooflines(make_manifest(), phases, PEAKS)) == ["vision"]


@pytest.mark.parametrize(
    ("facts", "kind"),
    [({}, "float32"), ({"precision": "float16"}, "float16"), ({"quantization": "int8"}, "int8"),
     ({"quantization": "int4", "target": "coreml", "precision": "float16"}, "float16")],
)  # fmt: skip
def test_arithmetic(facts: dict[str, Any], kind: str) -> None:
    assert arithmetic(make_manifest(**facts)) == kind


def test_integers_have_their_own_peak_and_the_pruner_keeps_floats() -> None:
    found = rooflines(make_manifest(quantization="int8"), took("vision", "prefill_pruner"), PEAKS)
    assert found["vision"].bound_ms == pytest.approx(10)
    assert found["prefill_pruner"].bound_ms == pytest.approx(1)


def test_no_bound_where_the_work_or_the_peak_is_unknown() -> None:
    assert work_of(make_manifest(work={})) == {}
    assert rooflines(make_manifest(work={}), took("vision"), PEAKS) == {}
    assert rooflines(make_manifest(precision="float16"), took("vision"), PEAKS) == {}


def test_memory_binds_whatever_the_peak_if_it_does_at_the_lower_one() -> None:
    found = rooflines(make_manifest(precision="float16"), took("vision", "prefill", "decode"), PEAKS)
    assert list(found) == ["decode"]
    assert (found["decode"].binds, found["decode"].bound_ms) == ("memory", pytest.approx(51))


def test_no_bound_for_a_pruner_that_does_nothing() -> None:
    nothing = WorkSpec(macs=0, weight_bytes=0, cache_bytes=0, activation_bytes=0)
    idle = make_manifest(work=WORK | {"pruner": nothing})
    assert rooflines(idle, took("prefill_pruner"), PEAKS) == {}
    assert rooflines(make_manifest(), took("prefill_pruner", ms=0), PEAKS) == {}


def test_this_machines_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small product and a small copy of numpy, timed here, stay below them."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")  # of no effect on what is measured
    peaks = measure_peaks(1)
    assert 1 < peaks.gop_s["float32"] < 2000
    assert 0.5 < peaks.gb_s < 1000
    assert set(peaks.gop_s) == {"float32"}
    assert "threads=1" in peaks.how
    assert np.isfinite(peaks.gb_s)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_limits_are_those_of_the_cores_that_may_be_used() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert "threads=1:" in measure_peaks(None).how
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_measurement_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "__name__", "vlmp.no_such_module")
    with pytest.raises(UserError, match="this machine's limits could not be measured"):
        measure_peaks(1)
