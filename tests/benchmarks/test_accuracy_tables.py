"""The accuracy benchmark: its variants of the pruner, and the document that it writes into."""

from __future__ import annotations

from pathlib import Path

import accuracy
import numpy as np
import pytest
import schedules
import torch
from vlmp.evaluation.data import open_dataset
from vlmp.pruner import PrunerConfig

GRID = (4, 6)


def test_norm_pivots_are_the_largest_keys_however_close() -> None:
    keys_NC = torch.zeros(24, 3)
    keys_NC[[7, 8, 20]] = torch.tensor([[3.0, 0, 0], [3.0, 0.1, 0], [-4.0, 0, 0]])
    pruner = accuracy.NormPivots(GRID, PrunerConfig(num_kept=6, pivots=3))
    assert [int(pivot) for pivot in pruner.pivots(keys_NC)] == [20, 8, 7]
    assert pruner(torch.randn(24, 16), keys_NC).kept_S.numel() == 6


def test_the_patch_grid_takes_two_rows_of_tokens_for_one() -> None:
    """Token 6 begins the second row of 6 tokens, but counts as the seventh of a first row of 12."""
    distance = accuracy.PatchGrid(GRID, PrunerConfig(num_kept=6)).distance_RN
    diagonal = (8**2 + 12**2) ** 0.5
    assert distance[0, 6].item() == pytest.approx(6 / diagonal)
    assert distance[0, 12].item() == pytest.approx(1 / diagonal)
    assert distance[0, 19].item() == pytest.approx((1 + 7**2) ** 0.5 / diagonal)
    assert distance[24].unique().tolist() == [2.0]


def test_a_part_of_the_document_is_replaced_and_the_rest_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "accuracy.md"
    monkeypatch.setattr(accuracy, "DOCUMENT", document)
    document.write_text("before\n<!-- methods: generated -->\nold\n<!-- methods: end -->\nbehind\n")
    accuracy.write_part("methods", r"new \1 | figures")
    once = document.read_text()
    assert once == "before\n<!-- methods: generated -->\n\nnew \\1 | figures\n\n<!-- methods: end -->\nbehind\n"
    accuracy.write_part("methods", r"new \1 | figures")
    assert document.read_text() == once
    with pytest.raises(SystemExit, match="lacks the marks"):
        accuracy.write_part("exports", "x")


def test_the_document_has_a_place_for_every_part() -> None:
    text = accuracy.DOCUMENT.read_text(encoding="utf-8")
    for part in {*accuracy.PARTS, *schedules.PARTS, schedules.DEPTH} - {"pictures"}:
        assert f"<!-- {part}: generated -->" in text
        assert f"<!-- {part}: end -->" in text


def test_the_pareto_front_is_what_nothing_beats_at_less_cost() -> None:
    points = [(10, 90.0), (8, 90.0), (8, 85.0), (5, 80.0), (5, 80.0), (4, 70.0), (6, 79.0)]
    assert schedules.pareto_front(points) == {1, 3, 4, 5}


def test_the_depth_table_has_a_line_for_each_block_and_later_ones_save_less(tmp_path: Path) -> None:
    checkpoint = str(schedules.ROOT / "export/assets/vlmp-tiny")  # a folder, whose family's pictures are larger
    bench = schedules.Bench(open_dataset("scenes:test", seed=7, questions=12), tmp_path, checkpoint)
    _, _, whole, *blocks = [line.split(" | ") for line in schedules.depth_table([bench]).splitlines()]
    assert [(cells[0], cells[1]) for cells in blocks] == [("| 1", "25.0"), ("| 2", "50.0"), ("| 3", "75.0")]
    works = [float(cells[2]) for cells in [*blocks, whole]]
    assert works == sorted(works)
    assert works[-1] == 100
    found = bench.measure("vision.2:0.5:local,weigh=1,form=dropped")
    assert found.kept == [72, 72]
    assert blocks[1][5] == f"{100 * sum(found.scores) / 12:.1f}"


def test_a_smaller_photo_is_measured_apart(tmp_path: Path) -> None:
    bench = schedules.Bench(open_dataset("scenes:test", seed=7, questions=12), tmp_path, accuracy.MODEL)
    whole, small, again = (bench.measure(schedules.UNPRUNED, side) for side in (336, 168, 336))
    assert (whole.kept, small.kept, again) == ([144], [36], whole)
    assert small.vision_macs < whole.vision_macs / 3
    assert np.mean(small.scores) < np.mean(whole.scores)


def test_another_model_is_for_the_depth_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["schedules.py", "--part", "tower", "--model", "qwen2-vl-2b"])
    with pytest.raises(SystemExit, match="2"):
        schedules.main()
