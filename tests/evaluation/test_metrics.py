"""Scores against cases worked out by hand from the papers' definitions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vlmp.evaluation import metrics
from vlmp.evaluation.metrics import (
    METRICS,
    anls,
    choice,
    contains,
    exact,
    f1,
    formula,
    normalize,
    vqa,
    vqa_form,
    yes_no,
)

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
ANSWERS = st.text("abcde 0123456789", min_size=1, max_size=12).filter(str.strip)


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("Red", ["red"], 1), (" red.\n", ["red"], 1), ("'red'", ["red"], 1), ("red  car", ["Red car"], 1),
        ("dark red", ["red"], 0), ("", ["red"], 0), ("car", ["bus", "car"], 1),
        ("5", ["-5"], 0), ("20", ["20%"], 0), ("$3", ["3"], 0),
    ],
)  # fmt: skip
def test_exact(answer: str, right: list[str], score: float) -> None:
    assert exact(answer, right) == score


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Red Car", "red car"),
        ("100,978", "100978"),
        ("red,blue", "red blue"),
        ("3.5 kg.", "3.5 kg"),
        ("U.S.", "us"),
        (".5", ".5"),
        ("2:50 PM", "2:50 pm"),
        ("two dogs", "2 dogs"),
        ("None", "0"),
        ("dont", "don't"),
        ("Couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("he's", "he's"),
        ("hes", "he's"),
        ("girl's", "girl's"),
        ("were", "were"),
        ("its", "its"),
        ("t-shirt/top (red)!", "t shirt top red"),
        ("a\nb\tan c", "b c"),
    ],
)
def test_normal_form_of_the_vqa_evaluation(text: str, form: str) -> None:
    assert vqa_form(text) == form


@pytest.mark.parametrize(
    ("agreeing", "score"), [(0, 0), (1, 0.9 / 3), (2, (2 * 1 + 8 * 2) / 30), (3, (3 * 2 + 7 * 3) / 30), (4, 1), (10, 1)]
)
def test_vqa_accuracy_of_ten_people(agreeing: int, score: float) -> None:
    """Leaving out one who agrees leaves one fewer, each of the ten subsets counts alike."""
    people = ["the cat"] * agreeing + [f"dog {index}" for index in range(10 - agreeing)]
    assert vqa("Cat.", people) == pytest.approx(score)


def test_vqa_accuracy_of_a_single_answer_is_its_match() -> None:
    assert (vqa("two cats", ["2 cats"]), vqa("cats", ["2 cats"])) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("hello", ["hello"], 1),
        ("Hello  World", ["hello world"], 1),
        ("helo", ["hello"], 1 - 1 / 5),
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("abcd", ["abxy"], 0.5),
        ("abc", ["axyz"], 0),
        ("", ["x"], 0),
        ("abc", ["zzz", "abd", "abcd"], 0.75),
    ],
)
def test_anls(answer: str, right: list[str], score: float) -> None:
    assert anls(answer, right) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("Yes", "yes", 1), ("yes, there is", "Yes", 1), ("No.", "no", 1), ("No", "yes", 0), ("None", "no", 0),
        ("Yesterday", "yes", 0), ("", "no", 0), ("¡no!", "No.", 1), ("There is none", "no", 0),
    ],
)  # fmt: skip
def test_yes_no(answer: str, right: str, score: float) -> None:
    assert yes_no(answer, [right]) == score


def test_f1_of_yes() -> None:
    """3 hits, 1 false alarm, 2 misses, one of them an answer that is neither: precision 3/4, recall 3/5."""
    pairs = [("yes", "yes")] * 3 + [("Yes!", "no"), ("no", "yes"), ("maybe", "yes"), ("no", "no")]
    assert f1(pairs) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert f1([("no", "no")]) == 0
    assert f1([("no", "yes")]) == 0


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("B", 1), ("b", 1), ("B.", 1), ("(B)", 1), ("B) a cat", 1), ("B. a cat", 1), ("The answer is B.", 1),
        ("the answer is: (b)", 1), ("A", 0), ("Bat", 0), ("", 0), ("a b", 0), ("I think B", 0), ("42", 0),
    ],
)  # fmt: skip
def test_choice(answer: str, score: float) -> None:
    assert choice(answer, ["B"]) == score


def test_an_article_is_no_choice() -> None:
    assert choice("A cat", ["A"]) == 0
    assert choice("A: cat", ["A"]) == 1


def test_contains_and_formula() -> None:
    assert contains("It says CENTRE\nstreet.", ["centre street"]) == 1
    assert contains("cent re", ["centre"]) == 0
    assert contains("1906", ["1905", "1906"]) == 1
    assert formula(r"\frac{1}{2}", [r"\frac { 1 } { 2 }"]) == 1
    assert formula("$ x + Y $", ["x+Y"]) == 1
    assert formula("x + y", ["X + y"]) == 0


@pytest.mark.parametrize("name", METRICS)
@given(answer=WORDS, right=st.lists(ANSWERS, min_size=1, max_size=10))
@settings(max_examples=30, deadline=None)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_order(name: str, answer: str, right: list[str]) -> None:
    score = METRICS[name](answer, right)
    assert 0 <= score <= 1
    if name not in ("yes-no", "choice"):  # these have one right answer
        assert METRICS[name](answer, right[::-1]) == pytest.approx(score)


@pytest.mark.parametrize("name", ["exact", "vqa", "anls", "contains", "formula"])
@given(right=ANSWERS)
@settings(max_examples=30, deadline=None)
def test_the_right_answer_is_right(name: str, right: str) -> None:
    assert METRICS[name](f" {right}\n", [right]) == 1


@given(text=WORDS)
@settings(max_examples=50, deadline=None)
def test_normal_forms_are_their_own(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)
    once = vqa_form(text)
    assert vqa_form(once) == vqa_form(vqa_form(once))


@given(a=st.text("abc", max_size=6), b=st.text("abc", max_size=6), c=st.text("abc", max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_distance_is_one(a: str, b: str, c: str) -> None:
    def distance(one: str, other: str) -> int:
        return metrics._distance(one, other)

    assert distance(a, b) == plain_distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


def plain_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return plain_distance(a[1:], b[1:])
    return 1 + min(plain_distance(a[1:], b), plain_distance(a, b[1:]), plain_distance(a[1:], b[1:]))
