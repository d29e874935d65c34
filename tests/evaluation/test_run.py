"""Interruptions: no answer is lost, none is asked for twice, and none is taken for that of another question."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_cases import FakeSession, answers_with, make_data, make_subject, number_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vlmp.evaluation import run
from vlmp.evaluation.data import DataSet
from vlmp.evaluation.run import Answered, VisionCache, ask
from vlmp.evaluation.subjects import Subject
from vlmp.runtimes.bundle.errors import UserError

FILE = Path("fake.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(data: DataSet, subject: Subject | None = None, **changes: Any) -> Answered:
    given = {"max_new_tokens": 8, "cache": VisionCache(), **changes}
    return ask(subject or make_subject(), data, Path(), **given)


def rule(question: str) -> str:
    """Wrong for every third question."""
    number = number_in(question)
    return "x" if int(number) % 3 == 0 else number


def interrupted_after(count: int) -> Any:
    left = iter(range(count))

    def answer(question: str) -> str:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rule(question)

    return answer


def ids_in_file() -> list[str]:
    return [json.loads(line)["id"] for line in FILE.read_text().splitlines()[1:]]


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_data_sets_order_with_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers_with(rule, monkeypatch.setattr)
    session, done = FakeSession(), list[int]()
    found = put(make_data(5), make_subject(session=session), on_answer=done.append)
    assert [(one.id, one.text, one.score) for one in found.answers] == [
        ("0", "x", 0), ("1", "1", 1), ("2", "2", 1), ("3", "x", 0), ("4", "4", 1),
    ]  # fmt: skip
    assert len(asked) == 5
    assert done == [0, 1, 2, 3, 4, 5]
    assert session.seen == 3, "questions about one picture share its visual tokens"
    assert found.runtime == "fake 1"


def test_kinds_of_question_may_have_a_metric_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(lambda question: f"it is {number_in(question)}", monkeypatch.setattr)
    data = replace(make_data(4), kind_metrics={"hue": "contains"})
    assert [one.score for one in put(data).answers] == [1, 0, 1, 0]


def test_another_metric_needs_no_new_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers_with(lambda question: f"it is {number_in(question)}", monkeypatch.setattr)
    assert sum(one.score for one in put(make_data(4)).answers) == 0
    assert sum(one.score for one in put(replace(make_data(4), metric="contains")).answers) == 4
    assert len(asked) == 4


# --- Interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    answers_with(interrupted_after(after), monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        put(make_data(7))
    assert ids_in_file() == [str(index) for index in range(after)]
    asked, done = answers_with(rule, monkeypatch.setattr), list[int]()
    resumed = put(make_data(7), on_answer=done.append)
    assert asked == [f"Which is {index}?" for index in range(after, 7)]
    assert done == list(range(after, 8))
    assert ids_in_file() == [str(index) for index in range(7)]
    FILE.unlink()
    assert put(make_data(7)).answers == resumed.answers


@given(cut=st.integers(min_value=1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_off_anywhere_goes_on(cut: int) -> None:
    """Whatever a crash leaves behind the head, the file is as if it had never happened after the next run."""
    with pytest.MonkeyPatch.context() as patch:
        answers_with(lambda question: rule(question) + " \u00e9\n\u2028", patch.setattr)
        FILE.unlink(missing_ok=True)
        whole = put(make_data(4))
        content = FILE.read_bytes()
        head = content.index(b"\n") + 1
        FILE.write_bytes(content[: head + cut % (len(content) - head)])
        assert put(make_data(4)).answers == whole.answers
        assert FILE.read_bytes() == content


def test_a_finished_run_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers_with(rule, monkeypatch.setattr)
    first, content = put(make_data(4)), FILE.read_bytes()
    assert put(make_data(4)).answers == first.answers
    assert (len(asked), FILE.read_bytes()) == (4, content)


def test_more_and_fewer_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, done = answers_with(rule, monkeypatch.setattr), list[int]()
    put(make_data(4))
    assert len(put(make_data(2), on_answer=done.append).answers) == 2
    assert done == [2], "what the file has beyond is no progress"
    assert len(put(make_data(6)).answers) == 6
    assert len(asked) == 6
    assert ids_in_file() == list("012345")


def test_overwriting_asks_again_and_keeps_what_is_there_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)
    put(make_data(3), make_subject(weights="a"))
    content = FILE.read_bytes()

    def fail() -> Any:
        raise UserError("no runtime")

    with pytest.raises(UserError, match="no runtime"):
        put(make_data(2), replace(make_subject(weights="b"), open=fail), overwrite=True)
    assert FILE.read_bytes() == content
    asked = answers_with(lambda _: "1", monkeypatch.setattr)
    assert [one.text for one in put(make_data(2), make_subject(weights="b"), overwrite=True).answers] == ["1", "1"]
    assert len(asked) == 2
    assert ids_in_file() == ["0", "1"]


def test_a_question_that_cannot_be_put_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(question: str) -> str:
        if question == "Which is 2?":
            raise UserError("the prompt holds an image token")
        return "x"

    answers_with(fail, monkeypatch.setattr)
    with pytest.raises(UserError, match=r"^line 2: the prompt holds an image token$"):
        put(make_data(4))
    assert ids_in_file() == ["0", "1"]

    def too_narrow(_image: object, _spec: object) -> Any:
        raise UserError("too narrow")

    monkeypatch.setattr(run, "to_pixels", too_narrow)
    with pytest.raises(UserError, match=r"^line 2: too narrow$"):
        put(make_data(4))


def test_a_session_that_does_not_open_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)

    def fail() -> Any:
        raise UserError("no runtime")

    with pytest.raises(UserError, match="no runtime"):
        ask(replace(make_subject(), open=fail), make_data(2), Path("new"), max_new_tokens=8, cache=VisionCache())
    assert not Path("new").exists()


# --- Other questions --------------------------------------------------------------------------------------------------


def test_answers_to_other_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)
    put(make_data(2), make_subject(weights="a"))
    content = FILE.read_bytes()
    for change in (
        {"subject": make_subject(weights="b")},
        {"max_new_tokens": 9},
        {"data": replace(make_data(2), name="other")},
    ):
        with pytest.raises(UserError, match=r"fake.jsonl holds answers of other settings: choose another --output, or"):
            put(**{"data": make_data(2), "subject": make_subject(weights="a"), **change})
    assert FILE.read_bytes() == content


def test_the_fact_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)
    put(make_data(2), make_subject(checkpoint={"config.json": "a" * 64}, keep=0.1))
    for subject, changes, says in (
        (make_subject(checkpoint={"config.json": "b" * 64}, keep=0.1), {}, r"\(checkpoint config.json differs\)$"),
        (make_subject(checkpoint={"config.json": "a" * 64}, keep=0.2), {}, r"\(keep was 0.1, is 0.2\)$"),
        (make_subject(checkpoint={"config.json": "a" * 64}, keep=0.1), {"max_new_tokens": 9}, "was 8, is 9"),
        (make_subject(checkpoint={}), {}, r"\(checkpoint config.json differs, keep differs\)$"),
    ):
        with pytest.raises(UserError, match=says):
            put(make_data(2), subject, **changes)


@pytest.mark.parametrize("change", [{"question": "Which is it?"}, {"digest": lambda: "edited"}])
def test_answers_to_another_question_are_refused(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    """Someone has edited the data set: line 2 is another question now, or its picture has been painted over."""
    answers_with(rule, monkeypatch.setattr)
    put(make_data(3))
    data = make_data(3)
    edited = [replace(one, **change) if one.id == "1" else one for one in data.examples]
    with pytest.raises(UserError, match=r"fake.jsonl holds an answer to another question '1': choose another --output"):
        put(replace(data, examples=edited))


def test_a_picture_under_another_name_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)
    put(make_data(3))
    data = make_data(3)
    answers_with(lambda *_: pytest.fail("asked again"), monkeypatch.setattr)
    put(replace(data, examples=[replace(one, image_id=f"moved-{one.image_id}") for one in data.examples]))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"no json\n", b'{"a": 1}', b'{"a": 1}\n{"id": "1"}\n', b'{"a": 1}\n3\n', b"\xff\n"]
)
def test_a_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    answers_with(rule, monkeypatch.setattr)
    FILE.write_bytes(content)
    with pytest.raises(UserError, match=r"fake.jsonl is damaged \(.*\): remove it to ask its questions again"):
        put(make_data(2))
    assert FILE.read_bytes() == content


# --- Visual tokens ----------------------------------------------------------------------------------------------------


def test_subjects_that_see_the_same_share_visual_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_with(rule, monkeypatch.setattr)
    session, cache = FakeSession(), VisionCache()
    for key in ("one", "two"):
        put(make_data(6), make_subject(key, session=session), cache=cache)
    assert session.seen == 3
    put(make_data(6), replace(make_subject("three", session=session), vision_key="other"), cache=cache)
    assert session.seen == 6


def test_one_name_for_two_pictures_is_not_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a parquet file whose rows name their picture and each hold one."""
    answers_with(rule, monkeypatch.setattr)
    data = make_data(4, a_picture=4)
    one, two, three, four = data.examples
    other = [replace(two, digest=lambda: "other"), replace(four, digest=lambda: "other")]
    session = FakeSession()
    put(replace(data, examples=[one, other[0], three, other[1]]), make_subject(session=session))
    assert session.seen == 2
    monkeypatch.setattr(run, "CACHE_BYTES", 0)
    FILE.unlink()
    put(replace(data, examples=[one, three, *other]), make_subject(session=session))
    assert session.seen == 4, "the last one is known even where the cache is full"


def test_the_cache_stays_below_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.zeros((16, 4), np.float32).nbytes
    monkeypatch.setattr(run, "CACHE_BYTES", 2 * one)
    monkeypatch.setattr(run, "to_pixels", lambda image, _spec: image)
    session, cache, data = FakeSession(), VisionCache(), make_data(4, a_picture=1)
    for example in (*data.examples, *data.examples):
        cache.seen(session, "fake", example, example.digest())  # type: ignore[arg-type]
    assert session.seen == 4 + 2
