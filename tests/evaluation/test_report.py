"""Figures from scores: intervals against cases with a known answer, seeds, and the three files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import FakeSession, make_data, make_subject
from PIL import Image
from vlmp.evaluation.report import Row, interval, markdown, plot, summarize, write_report
from vlmp.evaluation.run import Answer, Answered

KEYS = {
    "model", "runtime", "precision", "quantization", "pruner", "layers", "keep", "kept", "visual_tokens",
    "prefill_gmac", "cache_mib", "dataset", "metric", "seeds", "accuracy", "low", "high", "n", "by_type", "figures",
    "settings",
}  # fmt: skip


def answered(key: str, scores: list[float], *, group: str = "", kept: int = 5, pruner: str = "random") -> Answered:
    session = FakeSession(kept, pruner)
    facts = {"pruner": pruner, "keep": None if kept == 16 else 0.3}
    answers = [Answer(str(index), f"said {index}", score) for index, score in enumerate(scores)]
    return Answered(make_subject(key, group=group, **facts), session.manifest, session.runtime, answers)


# --- Intervals --------------------------------------------------------------------------------------------------------


def test_the_interval_of_independent_answers_is_the_binomials() -> None:
    """600 pictures with a question each, 30 % right: 1.96 standard errors on both sides."""
    data = make_data(600, a_picture=1)
    scores = np.array([1.0] * 180 + [0.0] * 420)
    low, high = interval(scores, data.examples)
    error = math.sqrt(0.3 * 0.7 / 600)
    assert low == pytest.approx(0.3 - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(0.3 + 1.96 * error, abs=0.15 * error)


def test_questions_about_one_picture_do_not_count_as_independent() -> None:
    """Four equal answers a picture say no more than one: the interval is that of the pictures."""
    few = interval(np.array([1.0] * 45 + [0.0] * 105), make_data(150, a_picture=1).examples)
    many = interval(np.repeat([1.0] * 45 + [0.0] * 105, 4), make_data(600, a_picture=4).examples)
    assert many == few


def test_pictures_with_more_questions_weigh_more() -> None:
    data = make_data(4, a_picture=1)
    examples = [replace(one, image_id="a" if one.id != "3" else "b") for one in data.examples]
    assert interval(np.array([1.0, 1.0, 1.0, 0.0]), examples) == (0, 1)
    assert interval(np.ones(4), examples) == (1, 1)
    assert interval(np.array([0.25]), data.examples[:1]) == (0.25, 0.25)


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_seeds_are_averaged_question_by_question() -> None:
    data = make_data(4)
    seeds = [
        answered(f"random-{seed}", scores, group="random") for seed, scores in enumerate([[1, 1, 0, 0], [1, 0] * 2])
    ]
    rows = summarize([answered("none", [1, 1, 1, 0], kept=16, pruner="none"), *seeds], data)
    assert [(row.pruner, row.seeds, row.accuracy, row.n) for row in rows] == [
        ("none", 1, 0.75, 4),
        ("random", 2, 0.5, 4),
    ]
    assert rows[1].by_type == {"hue": 0.75, "size": 0.25}
    assert (rows[0].keep, rows[1].keep) == (1, 0.3)
    assert (rows[0].kept_tokens, rows[1].kept_tokens, rows[1].visual_tokens) == (16, 5, 16)
    assert (rows[1].layers, rows[1].kept, rows[1].settings) == ([2], [5], [{"seed": 0}])
    assert rows[1].prefill_gmac == 0.5
    # Keys and values of two layers with all 16 tokens and one with 5, each with 9 of text, one head of two numbers.
    assert rows[1].cache_mib == 2 * 2 * (2 * (16 + 9) + 5 + 9) * 4 / 2**20
    assert rows[1].low < 0.5 < rows[1].high


def test_figures_of_a_paper_are_averaged_over_seeds() -> None:
    data = replace(make_data(2), figures=lambda _, texts: {"F1, %": float(len(texts[1]))})
    seeds = [answered(str(seed), [1, 0], group="random") for seed in range(2)]
    other = replace(seeds[1], answers=[Answer("0", "", 1), Answer("1", "ab", 0)])
    assert summarize([seeds[0], other], data)[0].figures == {"F1, %": (len("said 1") + 2) / 2}


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows() -> list[Row]:
    data = make_data(4)
    return summarize(
        [
            answered("none", [1, 1, 1, 0], kept=16, pruner="none"),
            answered("few", [1, 0, 0, 0], kept=2, pruner="vlm-pruner"),
            answered("more", [1, 0, 1, 0], kept=8, pruner="vlm-pruner"),
        ],
        data,
    )


def test_files(tmp_path: Path, rows: list[Row]) -> None:
    files = write_report(rows, tmp_path, "vlmp-eval --questions 4")
    assert [file.name for file in files] == ["results.json", "results.md", "accuracy.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files)
    read = json.loads(files[0].read_text())
    assert all(row.keys() == KEYS for row in read)
    assert [row["accuracy"] for row in read] == [0.75, 0.25, 0.5]
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in read)
    with Image.open(files[2]) as image:
        assert image.format == "PNG"
        image.load()
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 3


def test_the_plot_tells_bundles_apart(tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "close", lambda _figure: None)
    unpruned = [replace(rows[0], model=model, runtime="onnxruntime 1") for model in ("a", "b")]
    plot([*unpruned, replace(rows[1], runtime="pytorch 2"), replace(rows[2], runtime="pytorch 2")], tmp_path / "plot")
    labels = [text.get_text() for text in pyplot.gca().get_legend().get_texts()]
    monkeypatch.undo()
    pyplot.close("all")
    assert sorted(labels) == ["a (none), all tokens", "b (none), all tokens", "vlm-pruner"]


def test_unpruned_rows_alone_make_no_plot(tmp_path: Path, rows: list[Row]) -> None:
    assert [file.name for file in write_report(rows[:1], tmp_path, "")] == ["results.json", "results.md"]


def test_markdown(rows: list[Row]) -> None:
    text = markdown([replace(row, figures={"F1, %": 81.26}) for row in rows], "vlmp-eval --questions 4")
    lines = text.splitlines()
    assert lines[0] == "`vlmp-eval --questions 4`"
    assert lines[2] == "numbers, metric exact, 4 questions."
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert table[0] == [
        "model", "runtime", "pruner", "layer", "kept", "prefill, GMAC", "caches, MiB", "accuracy, %", "95 % interval",
        "hue", "size", "F1, %",
    ]  # fmt: skip
    assert {len(cells) for cells in table} == {12}
    assert table[3][:8] == ["fake", "fake 1", "vlm-pruner", "2", "2 of 16", "0.5", "0.000931", "25.0"]
    assert table[3][9:] == ["50.0", "0.0", "81.3"]
    staged = replace(rows[1], layers=[2, 4], kept=[8, 2], prefill_gmac=12.345, cache_mib=6)
    assert "| 2, 4 | 8, 2 of 16 | 12.3 | 6 |" in markdown([staged], "")
    assert "3 seeds" in markdown([replace(rows[1], seeds=3)], "")
