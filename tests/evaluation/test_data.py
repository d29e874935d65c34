"""A user's file of questions: what is read, and how every kind of bad line is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from vlmp.evaluation.data import DATASETS, Example, grouped, open_dataset
from vlmp.runtimes.bundle.errors import UserError

GOOD: dict[str, Any] = {"image": "a.png", "question": "What?", "answers": ["cat", "kitten"]}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (8, 6), colour).save(name)
    (tmp_path / "folder").mkdir()


def write(*lines: object) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path("set.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return "set.jsonl"


def read(*lines: object, questions: int | None = None) -> list[Example]:
    return list(open_dataset(write(*lines), seed=0, questions=questions).examples)


def test_good_lines() -> None:
    examples = read(GOOD, "", {"image": "b.png", "question": "How?", "answers": "red", "type": "hue", "id": 7})
    assert [(one.id, one.image_id, one.question, one.answers, one.kind) for one in examples] == [
        ("1", "a.png", "What?", ("cat", "kitten"), "all"),
        ("7", "b.png", "How?", ("red",), "hue"),
    ]
    assert [one.open().getpixel((0, 0)) for one in examples] == [(255, 0, 0), (0, 0, 255)]
    data = open_dataset("set.jsonl", seed=0, questions=None)
    assert (data.name, data.metric) == ("set.jsonl", "exact")


def test_images_are_found_from_the_files_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(GOOD)
    monkeypatch.chdir("folder")
    assert open_dataset("../set.jsonl", seed=0, questions=None).examples[0].open().size == (8, 6)
    assert open_dataset(str(tmp_path / "set.jsonl"), seed=0, questions=None).examples[0].image_id == "a.png"


def test_what_a_file_may_hold() -> None:
    Path("set.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps(GOOD).encode())
    assert [one.id for one in open_dataset("set.jsonl", seed=0, questions=None).examples] == ["1", "3"]
    text = json.dumps(GOOD | {"question": "one\u2028two\x85"}, ensure_ascii=False)
    assert read(text)[0].question == "one\u2028two\x85"


def test_questions_about_one_picture_stand_together_and_the_first_ones_are_taken() -> None:
    lines = [GOOD | {"image": name, "id": f"{name}{number}"} for number in range(2) for name in ("b.png", "a.png")]
    assert [one.id for one in read(*lines)] == ["b.png0", "b.png1", "a.png0", "a.png1"]
    assert [one.id for one in read(*lines, questions=3)] == ["b.png0", "b.png1", "a.png0"]
    assert len(read(*lines, questions=99)) == 4
    assert grouped([]) == []


BAD: list[tuple[object, list[str]]] = [
    ("{", ["is no JSON"]),
    ("not json", ["is no JSON"]),
    ("[" * 100_000, ["is no JSON"]),
    ('{"id": ' + "9" * 5000 + "}", ["is no JSON"]),
    ([1], ["must be an object"]),
    ({**GOOD, "img": 1}, ["unknown field 'img'", "image, question, answers, type, id"]),
    ({"question": "?", "answers": "a"}, ['"image" must be a text']),
    ({**GOOD, "image": ""}, ['"image" must be a text that is not empty']),
    ({**GOOD, "image": ["a.png"]}, ['"image" must be a text']),
    ({**GOOD, "image": "no.png"}, ["image no.png does not exist"]),
    ({**GOOD, "image": "folder"}, ["image folder is not a file"]),
    ({**GOOD, "image": "a.png\0"}, ["does not exist"]),
    ({**GOOD, "question": " "}, ['"question" must be a text that is not empty']),
    ({**GOOD, "question": None}, ['"question" must be a text']),
    ({**GOOD, "question": "a\ud800b"}, ["is not valid UTF-8"]),
    ({"image": "a.png", "question": "?"}, ['"answers" must be a text or a list of texts']),
    ({**GOOD, "answers": []}, ['"answers" must be']),
    ({**GOOD, "answers": ["a", ""]}, ["none of them empty"]),
    ({**GOOD, "answers": [1]}, ['"answers" must be']),
    ({**GOOD, "answers": {"a": 1}}, ['"answers" must be']),
    ({**GOOD, "type": 3}, ['"type" must be a text']),
    ({**GOOD, "id": 1.5}, ['"id" must be a text']),
    ({**GOOD, "id": True}, ['"id" must be a text']),
    ({**GOOD, "id": "1"}, ["\"id\" '1' is that of line 1 already"]),
]


@pytest.mark.parametrize(("line", "says"), BAD, ids=[str(index) for index in range(len(BAD))])
def test_bad_lines_are_named(line: object, says: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(GOOD, line)
    text = str(error.value)
    assert text.startswith("set.jsonl line 2")
    assert "\n" not in text
    assert [part for part in says if part not in text] == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("missing.jsonl", "missing.jsonl does not exist"),
        ("folder", "must be FILE.jsonl, or one of scenes:..., pope:..."),
        ("set.json", "must be FILE.jsonl, or one of"),
        ("popes:folder", "must be FILE.jsonl, or one of"),
        ("scenes", "must be FILE.jsonl, or one of"),
        ("scenes:", "choose one of scenes:train, scenes:validation, scenes:test"),
        ("scenes:tset", "choose one of"),
    ],
)
def test_data_sets_that_are_none(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_dataset(spec, seed=0, questions=None)


def test_files_that_are_none() -> None:
    Path("set.jsonl").write_bytes(b'{"image": "\xff"}\n')
    with pytest.raises(UserError, match=r"set.jsonl is not UTF-8: invalid start byte at byte 11"):
        open_dataset("set.jsonl", seed=0, questions=None)
    Path("folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder.jsonl is not a file"):
        open_dataset("folder.jsonl", seed=0, questions=None)
    with pytest.raises(UserError, match=r"set.jsonl holds no questions"):
        read("", " ")


def test_numbers_out_of_range() -> None:
    with pytest.raises(UserError, match="--questions 0: must be at least 1"):
        read(GOOD, questions=0)
    with pytest.raises(UserError, match="--seed -1: must be at least 0"):
        open_dataset("scenes:test", seed=-1, questions=1)


def test_scenes_name_the_package_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmp.evaluation.scenes import drawing

    drawing.digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"scenes need sklearn.*: pip install 'vlmp\[eval\]'"):
        open_dataset("scenes:test", seed=0, questions=6)


def test_a_picture_that_cannot_be_read_is_named() -> None:
    Path("a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^set.jsonl line 1: image a.png is not in a format"):
        read(GOOD)[0].open()
    (example,) = read(GOOD)
    Path("a.png").unlink()
    with pytest.raises(UserError, match=r"^set.jsonl line 1: image a.png does not exist"):
        example.open()
    with pytest.raises(UserError, match=r"^set.jsonl line 1: image a.png cannot be read: No such file"):
        example.digest()


def test_a_picture_is_its_content() -> None:
    (before,) = read(GOOD)
    known = before.digest()
    Path("b.png").write_bytes(Path("a.png").read_bytes())
    assert read(GOOD | {"image": "b.png"})[0].digest() == known
    Image.new("RGB", (3, 3), "blue").save("a.png")
    assert read(GOOD)[0].digest() != known


def test_every_data_set_has_its_function() -> None:
    from importlib import import_module

    for place in DATASETS.values():
        module, function = place.split(":")
        assert callable(getattr(import_module(module), function))
