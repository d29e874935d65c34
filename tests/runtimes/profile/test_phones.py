"""Estimates by hand, and a catalogue in which every figure says where it comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from estimate_cases import TOWER, WORK, make_manifest
from vlmp.export.targets import TARGETS, open_target
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile.phones import (
    EFFICIENCY,
    LANES,
    MEMORY_EFFICIENCY,
    PRUNER_EFFICIENCY,
    Phone,
    catalogue,
    estimate,
    find_phone,
    listing,
)

ROUND = Phone.model_validate(
    {
        "name": "Round", "chip": "Square",
        "clusters": [{"core": "Cortex-X4", "count": 1, "clock_ghz": 3}, {"core": "Cortex-A720", "count": 2,
                                                                         "clock_ghz": 2}],
        "clocks": {"kind": "published", "source": "https://example.org"},
        "memory": {"kind": "published", "source": "https://example.org", "gb_s": 50},
    }
)  # fmt: skip


def test_peaks_by_hand() -> None:
    """4 pipes of 4 numbers at 3 GHz and twice 2 at 2 GHz, a multiply-accumulate being two operations."""
    cores = catalogue().cores
    assert ROUND.gop_s("float32", cores) == 4 * 4 * 2 * 3 + 2 * (2 * 4 * 2 * 2)
    assert ROUND.gop_s("float16", cores) == 2 * ROUND.gop_s("float32", cores)
    assert ROUND.gop_s("int8", cores) == 4 * ROUND.gop_s("float32", cores)


def test_estimate_by_hand() -> None:
    """160 GOP/s, half of it reached; 50 GB/s, 60 % of it reached; the pruner at 4 % of 96 GOP/s."""
    found = estimate("b", make_manifest(), ROUND)
    assert found.label == "estimate, not measured"
    assert (found.phone, found.chip, found.bundle, found.arithmetic) == ("Round", "Square", "b", "float32")
    assert found.phases_ms["vision"] == pytest.approx(8e9 / 160e9 / 0.5 * 1e3)
    assert found.phases_ms["decode"] == pytest.approx(1.02e9 / 50e9 / 0.6 * 1e3)
    assert found.phases_ms["prefill_pruner"] == pytest.approx(2e8 / 96e9 / 0.04 * 1e3)
    parts = ("prefill_before", "prefill_pruner", "prefill_after")
    assert found.phases_ms["prefill"] == pytest.approx(sum(found.phases_ms[part] for part in parts))
    assert {phase: found.binds[phase] for phase in ("vision", "decode", "prefill")} == {
        "vision": "compute", "decode": "memory", "prefill": "compute",
    }  # fmt: skip
    assert found.assumptions[0].startswith("50% of 160 GOP/s (float32, 1 Cortex-X4 at 3 GHz + 2 Cortex-A720 at 2 GHz)")
    assert any("no neural engine, no GPU, no heat" in line for line in found.assumptions)


def test_integers_compute_faster_and_change_nothing_where_memory_binds() -> None:
    floats, integers = (estimate("b", make_manifest(quantization=name), ROUND) for name in ("none", "int8"))
    assert floats.phases_ms["vision"] == pytest.approx(4 * 0.45 / 0.5 * integers.phases_ms["vision"])
    assert floats.phases_ms["decode"] == integers.phases_ms["decode"]
    assert floats.phases_ms["prefill_pruner"] == integers.phases_ms["prefill_pruner"]


def test_vision_of_a_4_bit_bundle_is_8_bit() -> None:
    eight, four = (estimate("b", make_manifest(quantization=name), ROUND) for name in ("int8", "int4"))
    assert four.phases_ms["vision"] == eight.phases_ms["vision"]
    assert four.phases_ms["prefill_before"] == pytest.approx(0.45 / 0.15 * eight.phases_ms["prefill_before"])
    assert four.assumptions[0].startswith("15% of 640 GOP/s (int8, ")
    assert four.assumptions[0].endswith(", 45% in vision, whose weights are 8-bit")
    assert "vision" not in eight.assumptions[0]


def test_vision_with_a_stage_in_the_tower_is_its_parts() -> None:
    """As the whole, but the stage as any pruner; 5e8 bytes at 30 GB/s are more than 1 GMAC at 80 GOP/s."""
    whole, parted = (estimate("b", make_manifest(work=work), ROUND) for work in (WORK, WORK | TOWER))
    assert parted.phases_ms["vision_before"] == pytest.approx(4e9 / 80e9 * 1e3)
    assert parted.phases_ms["vision_pruner"] == parted.phases_ms["prefill_pruner"]
    assert parted.phases_ms["vision_after"] == pytest.approx(2e9 / 80e9 * 1e3)
    parts = ("vision_before", "vision_pruner", "vision_after")
    assert parted.phases_ms["vision"] == pytest.approx(sum(parted.phases_ms[part] for part in parts))
    assert parts[0] not in whole.phases_ms
    four = estimate("b", make_manifest(work=WORK | TOWER, quantization="int4"), ROUND)
    assert four.phases_ms["vision_before"] == pytest.approx(4e9 / (0.45 * 640e9) * 1e3)


def test_every_target_has_an_efficiency() -> None:
    for target in TARGETS:
        for quantization in ("none", *open_target(target).presets):
            manifest = make_manifest(target=target, quantization=quantization)
            assert estimate("b", manifest, ROUND).phases_ms["vision"] > 0
    for facts in ({"target": "other"}, {"quantization": "int2"}):
        with pytest.raises(UserError, match="b: nothing is assumed of "):
            estimate("b", make_manifest(**facts), ROUND)


def test_a_bundle_without_work_is_refused() -> None:
    with pytest.raises(UserError, match="old does not say how much work it is: export it again"):
        estimate("old", make_manifest(work={}), ROUND)


# --- The catalogue ----------------------------------------------------------------------------------------------------


def test_every_figure_names_its_source() -> None:
    """Published ones a link; derived ones their formula, and a link unless it says that nothing was found."""
    entries = [*catalogue().cores.values()]
    for phone in catalogue().phones.values():
        entries += [phone.clocks, phone.memory]
        assert all(cluster.core in catalogue().cores for cluster in phone.clusters), phone.name
        clocks = [cluster.clock_ghz for cluster in phone.clusters]
        assert clocks == sorted(clocks, reverse=True), phone.name
        assert all(1 < clock < 5 for clock in clocks)
        assert 10 < phone.memory.gb_s < 120
    for entry in entries:
        assert entry.formula or entry.kind == "published"
        assert re.match(r"https://\w", entry.source) or "nothing published was found" in entry.formula


def test_phones_are_found_by_name() -> None:
    assert find_phone("pixel-8").chip == "Google Tensor G3"
    assert len(catalogue().phones) >= 6
    assert [line.split()[0] for line in listing().splitlines()] == list(catalogue().phones)
    with pytest.raises(UserError, match="unknown phone 'pixel-0': choose one of pixel-8, "):
        find_phone("pixel-0")


def test_derived_bandwidths_are_their_formula() -> None:
    """Transfers a second x 64 bit."""
    seen = 0
    for phone in catalogue().phones.values():
        match = re.search(r"(\d{4}) MT/s x 64 bit", phone.memory.formula)
        if match:
            seen += 1
            assert phone.memory.gb_s == pytest.approx(int(match[1]) * 8 / 1000, abs=0.05)
    assert seen >= 4


def test_the_document_has_the_catalogues_figures() -> None:
    text = (Path(__file__).parents[3] / "docs/estimates.md").read_text(encoding="utf-8")
    for phone in catalogue().phones.values():
        rates = [f"{phone.gop_s(kind, catalogue().cores):.0f}" for kind in LANES]
        cells = [phone.name, phone.chip, *rates, f"{phone.memory.gb_s:g}", phone.memory.kind]
        assert f"| {' | '.join(cells)} |" in text
    for target, shares in EFFICIENCY.items():
        assert f"| {target} | {' | '.join(f'{100 * share:.0f} %' for share in shares.values())} |" in text
    assert f"{100 * MEMORY_EFFICIENCY:.0f} % of the chip's bandwidth" in text
    assert f"one core at {100 * PRUNER_EFFICIENCY:.0f} % of its float32 peak" in text
