"""Scenes: the splits share nothing, and every answer is worked out once more from what is in the picture."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vlmp.evaluation.data import SPLITS, open_dataset
from vlmp.evaluation.scenes import KINDS, SIDE, Item, Question, Scene, layout, make_scene, sample
from vlmp.evaluation.scenes.drawing import DIGIT_RANGES, Split, digits

PHOTOS = Path(__file__).parents[3] / "evaluation/scenes/photos"
ROWS = {"top": 0, "bottom": 2}
COLUMNS = {"left": 0, "right": 2}
NEAR = 40
"""Pixels that two centres may differ across the direction that is asked for."""


@pytest.fixture(scope="module")
def asked() -> list[tuple[int, Scene, list[Question]]]:
    return list(sample("test", 3, 120))


# --- Splits -----------------------------------------------------------------------------------------------------------


def test_splits_share_no_digit() -> None:
    inks = {split: {ink.tobytes() for value in digits(split) for ink in value} for split in DIGIT_RANGES}
    assert not inks["train"] & inks["test"]
    assert not inks["train"] & inks["validation"]
    assert not inks["validation"] & inks["test"]
    places = [set(range(1797)[numbers]) for numbers in DIGIT_RANGES.values()]
    assert sum(map(len, places)) == len(set().union(*places)) == 1797
    assert all(len(value) >= 10 for split in DIGIT_RANGES for value in digits(split))


def test_splits_share_no_photograph() -> None:
    files = sorted(PHOTOS.glob("*.jpg"))
    assert {file.name.split("-")[0] for file in files} == set(SPLITS)
    assert len({hashlib.sha256(file.read_bytes()).digest() for file in files}) == len(files)


def test_splits_and_seeds_share_no_scene() -> None:
    streams: list[tuple[Split, int]] = [("train", 0), ("validation", 0), ("test", 0), ("test", 1), ("test", 2)]
    scenes = [make_scene(split, seed, index).items for split, seed in streams for index in range(3)]
    assert len(set(scenes)) == len(scenes)


def test_scenes_are_the_same_each_time() -> None:
    first, second = make_scene("test", 5, 2), make_scene("test", 5, 2)
    assert first.items == second.items
    assert np.array_equal(first.image, second.image)
    assert first.image.size == (SIDE, SIDE)
    assert first.image.mode == "RGB"


# --- Questions --------------------------------------------------------------------------------------------------------


def test_kinds_are_balanced_and_a_seed_gives_the_same_questions(asked: list[tuple[int, Scene, list[Question]]]) -> None:
    counts = Counter(question.kind for _, _, questions in asked for question in questions)
    assert counts == dict.fromkeys(KINDS, 20)
    again = open_dataset("scenes:test", seed=3, questions=120)
    assert [(one.image_id, one.question, one.answers) for one in again.examples] == [
        (str(index), question.text, (question.answer,)) for index, _, questions in asked for question in questions
    ]
    uneven = Counter(example.kind for example in open_dataset("scenes:test", seed=3, questions=8).examples)
    assert sorted(uneven.values()) == [1, 1, 1, 1, 2, 2]
    assert len({example.id for example in again.examples}) == 120


def test_a_data_set_opens_the_pictures_that_were_asked_about(asked: list[tuple[int, Scene, list[Question]]]) -> None:
    data = open_dataset("scenes:test", seed=3, questions=6)
    scenes = {str(index): scene for index, scene, _ in asked}
    assert (data.name, data.metric) == ("scenes:test seed 3", "exact")
    for example in data.examples:
        assert np.array_equal(example.open(), scenes[example.image_id].image)


def test_another_generator_makes_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_dataset("scenes:test", seed=3, questions=6).examples
    assert len({one.digest() for one in before}) == len({one.image_id for one in before})
    assert [one.digest() for one in open_dataset("scenes:test", seed=3, questions=6).examples] == [
        one.digest() for one in before
    ]
    monkeypatch.setattr(layout, "draw_clutter", lambda *_: None)
    after = {one.digest() for one in open_dataset("scenes:test", seed=3, questions=6).examples}
    assert after
    assert not after & {one.digest() for one in before}


def test_every_answer_is_right(asked: list[tuple[int, Scene, list[Question]]]) -> None:
    for index, scene, questions in asked:
        for question in questions:
            assert ANSWER[question.kind](scene.items, question.text) == question.answer, (index, question)


def test_yes_and_no_are_both_asked_for(asked: list[tuple[int, Scene, list[Question]]]) -> None:
    answers = Counter(question.answer for _, _, each in asked for question in each if question.kind == "exists")
    assert min(answers["yes"], answers["no"]) >= 4


def one(items: list[Item]) -> Item:
    assert len(items) == 1, "the question has several answers"
    return items[0]


def named(items: tuple[Item, ...], shape: str) -> list[Item]:
    return [item for item in items if item.colour and item.text == shape]


def digit(items: tuple[Item, ...], text: str) -> str:
    place = text.split(" at the ")[1].rstrip("?").split()
    row = next((ROWS[word] for word in place if word in ROWS), 1)
    column = next((COLUMNS[word] for word in place if word in COLUMNS), 1)
    return one(
        [
            item
            for item in items
            if item.colour is None and len(item.text) == 1
            and (int(item.centre[1] * 3 / SIDE), int(item.centre[0] * 3 / SIDE)) == (row, column)
        ]
    ).text  # fmt: skip


def colour(items: tuple[Item, ...], text: str) -> str:
    return str(one(named(items, text.split()[-1].rstrip("?"))).colour)


def exists(items: tuple[Item, ...], text: str) -> str:
    tone, shape = text.rstrip("?").split()[-2:]
    return "yes" if any(item.colour == tone for item in named(items, shape)) else "no"


def count(items: tuple[Item, ...], text: str) -> str:
    found = re.fullmatch(r"How many (?:(\w+) )?(\w+) are there\?", text)
    assert found is not None
    shapes = [item for item in items if item.colour]
    if found[2] != "shapes":
        singular = found[2].removesuffix("es") if found[2] == "crosses" else found[2].removesuffix("s")
        return str(len(named(items, singular)))
    return str(len([item for item in shapes if found[1] in (None, item.colour)]))


def spatial(items: tuple[Item, ...], text: str) -> str:
    item = one(named(items, text.split()[-1].rstrip("?")))
    along, across = (0, 1) if " left of " in text else (1, 0)
    before = [
        other
        for other in items
        if other.centre[along] < item.centre[along] and abs(other.centre[across] - item.centre[across]) <= NEAR
    ]
    nearest = max(before, key=lambda other: other.centre[along])
    assert nearest.box[2 + along] <= item.box[along], "they overlap along the line"
    return nearest.text


def code(items: tuple[Item, ...], _text: str) -> str:
    return one([item for item in items if item.colour is None and len(item.text) > 1]).text


ANSWER: dict[str, Callable[[tuple[Item, ...], str], str]] = {
    "digit": digit, "colour": colour, "exists": exists, "count": count, "spatial": spatial, "code": code,
}  # fmt: skip
