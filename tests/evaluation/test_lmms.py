"""The published sets, from small parquet files with the columns of their repositories."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from vlmp.evaluation import lmms
from vlmp.evaluation.data import DataSet, open_dataset
from vlmp.evaluation.run import score
from vlmp.runtimes.bundle.errors import UserError

SHORT = "\nAnswer the question using a single word or phrase."
Table = list[dict[str, Any]]


def picture(shade: int, kind: str = "PNG") -> dict[str, Any]:
    """A cell of an image column."""
    stream = BytesIO()
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(stream, kind)
    return {"bytes": stream.getvalue(), "path": f"{shade}.png"}


def write(file: str, rows: Table, group: int = 2) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=group)


def shade(data: DataSet, index: int) -> int:
    return int(data.examples[index].open().getpixel((0, 0))[0])


def read(spec: str, questions: int | None = None) -> DataSet:
    return open_dataset(spec, seed=0, questions=questions)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pope_row(number: int, source: int, answer: str = "yes", category: str = "random") -> dict[str, Any]:
    return {
        "id": str(number % 3), "question_id": "1", "question": f"Is there a dog {number} in the image?",
        "answer": answer, "image_source": f"COCO_{source}", "image": picture(source), "category": category,
    }  # fmt: skip


# --- The sets ---------------------------------------------------------------------------------------------------------


def test_pope() -> None:
    rows = [pope_row(number, source) for number, source in enumerate([10, 20, 10, 30, 20])]
    rows[4] |= {"category": "popular", "answer": "no"}
    write("p/data/test-00000-of-00002.parquet", rows[:3])
    write("p/data/test-00001-of-00002.parquet", rows[3:])
    write("p/Full/random-00000-of-00001.parquet", rows)  # the repository has all questions twice
    data = read("pope:p")
    assert (data.name, data.metric) == ("pope", "yes-no")
    assert [(one.id, one.image_id, one.kind) for one in data.examples] == [
        ("0", "COCO_10", "random"), ("2", "COCO_10", "random"), ("1", "COCO_20", "random"),
        ("4", "COCO_20", "popular"), ("3", "COCO_30", "random"),
    ]  # fmt: skip
    assert data.examples[0].question == "Is there a dog 0 in the image?" + SHORT
    assert [shade(data, index) for index in (4, 0, 1, 3, 2)] == [30, 10, 10, 20, 20]
    assert data.figures is not None
    assert data.figures(data.examples, ["yes", "no", "Yes.", "yes", "no"]) == {"F1, %": pytest.approx(100 * 4 / 7)}
    assert [one.id for one in read("pope:p", 3).examples] == ["0", "2", "1"]


def test_textvqa() -> None:
    people = ["nokia"] * 3 + ["Nokia phone"] * 7
    row = {
        "image_id": "a", "question_id": 34602, "question": "what BRAND is it?", "question_tokens": ["what"],
        "image": picture(40, "JPEG"), "image_width": 6, "image_height": 4, "answers": people, "set_name": "val",
    }  # fmt: skip
    write("t/data/validation-00000-of-00001.parquet", [row, row | {"image_id": "b"}])
    write("t/data/test-00000-of-00001.parquet", [row])
    data = read("textvqa:t")
    assert (data.metric, len(data.examples)) == ("vqa", 2)
    assert data.examples[0].question == "What brand is it?" + SHORT
    assert data.examples[0].answers == tuple(people)
    assert score(data, data.examples[0], "Nokia.") == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert data.examples[1].open().size == (6, 4)


def test_gqa() -> None:
    rows = [
        {"id": str(number), "imageId": image, "question": f"Is it {number}?", "answer": "no", "fullAnswer": "No.",
         "types": {"structural": "verify", "semantic": "obj", "detailed": "existC"}}
        for number, image in enumerate(["n1", "n2", "n1"])
    ]  # fmt: skip
    write("g/testdev_balanced_instructions/testdev-00000-of-00001.parquet", rows)
    shown = [{"id": "n2", "image": picture(20)}, {"id": "n9", "image": picture(90)}, {"id": "n1", "image": picture(10)}]
    write("g/testdev_balanced_images/testdev-00000-of-00001.parquet", shown)
    write("g/testdev_all_images/testdev-00000-of-00001.parquet", shown)
    data = read("gqa:g")
    assert [(one.id, one.image_id, one.kind) for one in data.examples] == [
        ("0", "n1", "verify"), ("2", "n1", "verify"), ("1", "n2", "verify"),
    ]  # fmt: skip
    assert [shade(data, index) for index in range(3)] == [10, 10, 20]
    assert (data.metric, data.examples[2].question) == ("exact", "Is it 1?" + SHORT)
    assert score(data, data.examples[0], "No") == 1
    write("g/testdev_balanced_images/testdev-00000-of-00001.parquet", shown[:2])
    with pytest.raises(UserError, match=r"testdev-.* row 0: no row of .*balanced_images has the \"imageId\" 'n1'"):
        read("gqa:g")


def science_row(hint: str, answer: int) -> dict[str, Any]:
    return {
        "image": picture(10), "question": "Which is it?", "choices": ["a cat", "a dog"], "answer": answer,
        "hint": hint, "subject": "natural science", "lecture": "", "solution": "",
    }  # fmt: skip


def test_scienceqa() -> None:
    write("s/ScienceQA-IMG/test-00000-of-00001.parquet", [science_row("Look.", 1), science_row("", 0)])
    write("s/ScienceQA-FULL/test-00000-of-00001.parquet", [science_row("", 0)] * 5)
    data = read("scienceqa:s")
    post = "\nAnswer with the option's letter from the given choices directly."
    assert [one.question for one in data.examples] == [
        "Context: Look.\nWhich is it?\nA. a cat\nB. a dog" + post,
        "Which is it?\nA. a cat\nB. a dog" + post,
    ]
    assert [one.answers for one in data.examples] == [("B",), ("A",)]
    assert {one.kind for one in data.examples} == {"natural science"}
    assert score(data, data.examples[0], "B") == 1
    assert len(read("scienceqa:s/ScienceQA-FULL").examples) == 5
    write("x/test-0.parquet", [science_row("", 2)])
    with pytest.raises(UserError, match='row 0: column "answer" is 2, but there are 2 choices'):
        read("scienceqa:x")


def mme_row(name: str, answer: str, category: str) -> dict[str, Any]:
    question = "Is it a cat? Please answer yes or no."
    return {"question_id": name, "image": picture(9), "question": question, "answer": answer, "category": category}


def test_mme() -> None:
    rows = [
        mme_row(f"{category}/{number}.png", answer, category)
        for category in ("count", "code_reasoning")
        for number in range(2)
        for answer in ("Yes", "No")
    ]
    write("m/data/test-00000-of-00001-a25dbe3b44c4fda6.parquet", rows)
    data = read("mme:m")
    assert data.examples[0].question == "Is it a cat?" + SHORT
    assert data.examples[0].image_id == data.examples[1].image_id != data.examples[2].image_id
    assert data.figures is not None
    # count: 3 of 4 right, 1 of 2 pictures whole; code: 2 of 4 right, no picture whole
    said = ["yes", "no", "yes", "yes", "yes", "yes", "no", "no"]
    assert data.figures(data.examples, said) == {"MME perception": 75 + 50, "MME cognition": 50}
    best = ["yes", "no"] * 4
    assert data.figures(data.examples, best) == {"MME perception": 200, "MME cognition": 200}


def test_ocrbench() -> None:
    row = {"dataset": "IIIT5K", "question": "what is written?\n", "answer": ["CENTRE"], "image": picture(1)}
    rows = [
        row | {"question_type": "Regular Text Recognition"},
        row | {"question_type": lmms.OCRBENCH_FORMULA, "answer": [r"\frac { 1 } { 2 }"]},
    ]
    write("o/data/test-00000-of-00001.parquet", rows)
    data = read("ocrbench:o")
    assert [one.question for one in data.examples] == ["what is written?"] * 2
    assert score(data, data.examples[0], "It says centre.") == 1
    assert score(data, data.examples[1], r"\frac{1}{2}") == 1
    assert score(data, data.examples[0], "cen tre") == 0


# --- Memory -----------------------------------------------------------------------------------------------------------


def test_one_row_group_of_pictures_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    write("p/test-0.parquet", [pope_row(number, number) for number in range(7)], group=3)
    read_groups: list[int] = []
    original = pq.ParquetFile.read_row_group

    def count(self: Any, group: int, **options: Any) -> Any:
        read_groups.append(group)
        assert options == {"columns": ["image"]}
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    data = read("pope:p")
    assert read_groups == []
    assert [shade(data, index) for index in range(7)] == list(range(7))
    assert read_groups == [0, 1, 2]
    assert [shade(data, index) for index in (0, 6, 2)] == [0, 6, 2]


def test_a_row_group_is_hashed_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    write("p/test-0.parquet", [pope_row(number, number // 2) for number in range(6)], group=3)
    groups: list[int] = []
    original = pq.ParquetFile.read_row_group

    def count(self: Any, group: int, **options: Any) -> Any:
        groups.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    data = read("pope:p")
    opened = [(example.digest(), int(example.open().getpixel((0, 0))[0])) for example in data.examples]
    assert groups == [0, 1]
    assert len(set(opened)) == 3
    assert opened[0] == (sha256(picture(0)["bytes"]).hexdigest(), 0)
    assert [example.digest() for example in data.examples] == [digest for digest, _ in opened]
    assert groups == [0, 1]


def test_rows_that_name_one_picture_and_hold_two() -> None:
    """Nothing promises that the rows of a name hold the same bytes."""
    write("p/test-0.parquet", [pope_row(0, 10), pope_row(1, 10) | {"image": picture(99)}])
    first, second = read("pope:p").examples
    assert first.image_id == second.image_id
    assert first.digest() != second.digest()


def test_an_edited_picture_is_another_one() -> None:
    write("p/test-0.parquet", [pope_row(0, 10), pope_row(1, 20)])
    before = [example.digest() for example in read("pope:p").examples]
    write("p/test-0.parquet", [pope_row(0, 10), pope_row(1, 20) | {"image": picture(99)}])
    after = [example.digest() for example in read("pope:p").examples]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_a_file_that_is_changed_meanwhile_ends_the_run() -> None:
    write("p/test-0.parquet", [pope_row(number, number) for number in range(4)])
    data = read("pope:p")
    assert shade(data, 0) == 0
    write("p/test-0.parquet", [pope_row(number, number + 100) for number in range(4)])
    with pytest.raises(UserError, match=r"p/test-0\.parquet has been changed since .*: run again"):
        data.examples[3].open()


# --- What can be wrong ------------------------------------------------------------------------------------------------


def cut(file: str) -> None:
    content = Path(file).read_bytes()
    Path(file).write_bytes(content[:-20])


def without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


ROW = pope_row(0, 1)
WRONG: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: None, ["pope: p is not a folder"]),
    (lambda: Path("p").touch(), ["pope: p is not a folder"]),
    (lambda: Path("p").mkdir(), ["no file test-*.parquet is in p"]),
    (lambda: write("p/train-0.parquet", [ROW]), ["no file test-*.parquet is in p"]),
    (lambda: write("p/test-00001-of-00003.parquet", [ROW]), ["is one of 3 files, but 1 are in its folder"]),
    (
        lambda: [write(f"p/{name}/test-0.parquet", [ROW]) for name in "ab"],
        ["lie both in p/a and in p/b", "name one"],
    ),
    (lambda: [write("p/test-0.parquet", [ROW]), cut("p/test-0.parquet")], ["p/test-0.parquet cannot be read"]),
    (lambda: write("p/test-0.parquet", []), ['has no column "question"']),
    (lambda: write("p/test-0.parquet", [without(ROW, "answer")]), ['has no column "answer", which pope needs']),
    (lambda: write("p/test-0.parquet", [without(ROW, "image")]), ['has no column "image"', "it has id, question_id"]),
    (lambda: write("p/test-0.parquet", [ROW | {"image": "a.png"}]), ['"image" must hold structs', "not string"]),
    (lambda: write("p/test-0.parquet", [ROW, ROW | {"answer": "maybe"}]), ['row 1: column "answer" must be yes or no']),
    (lambda: write("p/test-0.parquet", [ROW | {"question": None}]), ['row 0: column "question" must be a text']),
    (lambda: write("p/test-0.parquet", [ROW | {"image_source": 3}]), ['column "image_source" must be a text']),
]


@pytest.mark.parametrize(("make", "says"), WRONG, ids=[says[0][:40] for _, says in WRONG])
def test_files_that_are_not_as_published(make: Callable[[], object], says: list[str]) -> None:
    make()
    with pytest.raises(UserError) as error:
        read("pope:p")
    assert [part for part in says if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["pope:", "mme:", "gqa:", "gqa:p", "ocrbench:nowhere"])
def test_folders_that_are_none(spec: str) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        read(spec)


def test_a_set_without_rows_holds_no_questions() -> None:
    write("p/test-0.parquet", [ROW])
    pq.write_table(pq.read_table("p/test-0.parquet").slice(0, 0), "p/test-0.parquet")
    with pytest.raises(UserError, match="pope:p holds no questions"):
        read("pope:p")


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ({"bytes": b"no picture", "path": "x"}, 'test-0.parquet row 1: column "image" cannot be read: '),
        ({"bytes": picture(1)["bytes"][:40], "path": "x"}, 'row 1: column "image" cannot be read: '),
        ({"bytes": None, "path": "x.png"}, 'row 1: column "image" holds no picture'),
        (None, 'row 1: column "image" holds no picture'),
    ],
)
def test_a_picture_that_is_none(cell: dict[str, Any] | None, says: str) -> None:
    write("p/test-0.parquet", [ROW, pope_row(1, 2) | {"image": cell}])
    data = read("pope:p")
    assert shade(data, 0) == 1
    with pytest.raises(UserError, match=says):
        data.examples[1].open()


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pope needs pyarrow: pip install 'vlmp\[eval\]'"):
        read("pope:p")
