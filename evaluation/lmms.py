"""Published data sets in the parquet files that lmms-eval reads, with its prompts and the papers' metrics.

| --dataset | on the Hugging Face hub | files below DIR |
|---|---|---|
| pope:DIR | lmms-lab/POPE | test-*.parquet |
| textvqa:DIR | lmms-lab/textvqa | validation-*.parquet |
| gqa:DIR | lmms-lab/GQA | testdev_balanced_instructions/testdev-*.parquet, testdev_balanced_images/testdev-*.parquet |
| scienceqa:DIR | lmms-lab/ScienceQA | ScienceQA-IMG/test-*.parquet |
| mme:DIR | lmms-lab/MME | test-*.parquet |
| ocrbench:DIR | echo840/OCRBench | test-*.parquet |

Pictures stand in the order of their first question. Only texts are read at once; pictures are read and decoded one row
group (as a rule 100 pictures) at a time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from vlmp.evaluation.data import DataSet, Example, Figures, grouped
from vlmp.evaluation.metrics import f1, normalize, yes_no
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.image import to_rgb

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
MME_PROMPT = "Please answer yes or no."
MME_COGNITION = {"commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"}
OCRBENCH_FORMULA = "Handwritten Mathematical Expression Recognition"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a column must hold, and how to say so."""

    holds: Callable[[Any], bool]
    says: str


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


TEXT = Rule(_is_text, "a text that is not empty")
TEXTS = Rule(
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value),
    "a list of texts",
)
YES_NO = Rule(lambda value: isinstance(value, str) and normalize(value) in ("yes", "no"), "yes or no")
INDEX = Rule(lambda value: isinstance(value, int) and value >= 0, "a number, 0 or more")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a parquet file: its number in the whole set, where to find it, and its columns but the image."""

    number: int
    file: Path
    row: int
    fields: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.file} row {self.row}"


def pope(rest: str, seed: int, questions: int | None) -> DataSet:
    """POPE (arXiv 2305.10355): is a thing in the picture? Accuracy and F1 of "yes", in percent."""
    rows = _rows("pope", rest, "test", {"question": TEXT, "answer": YES_NO, "image_source": TEXT, "category": TEXT})
    pictures = Pictures()
    examples = [
        _example(
            row,
            pictures.of(row),
            image_id=row.fields["image_source"],
            question=row.fields["question"].strip() + SHORT,
            answers=[row.fields["answer"]],
            kind=row.fields["category"],
        )
        for row in rows
    ]
    return _data_set("pope", "yes-no", examples, questions, figures=_pope_figures)


def textvqa(rest: str, seed: int, questions: int | None) -> DataSet:
    """TextVQA (arXiv 1904.08920), validation split: what is written in the picture? VQA accuracy over ten answers."""
    rows = _rows("textvqa", rest, "validation", {"question": TEXT, "answers": TEXTS, "image_id": TEXT})
    pictures = Pictures()
    examples = [
        _example(
            row,
            pictures.of(row),
            image_id=row.fields["image_id"],
            question=row.fields["question"].capitalize() + SHORT,  # lower case but for the first letter, as published
            answers=row.fields["answers"],
        )
        for row in rows
    ]
    return _data_set("textvqa", "vqa", examples, questions)


def gqa(rest: str, seed: int, questions: int | None) -> DataSet:
    """GQA (arXiv 1902.09506), testdev-balanced: questions and pictures lie in files of their own."""
    asked = {"question": TEXT, "answer": TEXT, "imageId": TEXT}
    folder = f"{rest}/testdev_balanced_instructions"
    rows = _rows("gqa", folder, "testdev", asked, image=False, may=["types"])
    shown = _rows("gqa", f"{rest}/testdev_balanced_images", "testdev", {"id": TEXT})
    of_id = {row.fields["id"]: row for row in shown}
    for row in rows:
        if row.fields["imageId"] not in of_id:
            raise UserError(f'{row}: no row of {shown[0].file.parent} has the "imageId" {row.fields["imageId"]!r}')
    pictures = Pictures()
    examples = [
        _example(
            row,
            pictures.of(of_id[row.fields["imageId"]]),
            image_id=row.fields["imageId"],
            question=row.fields["question"] + SHORT,
            answers=[row.fields["answer"]],
            kind=(row.fields.get("types") or {}).get("structural") or "all",
        )
        for row in rows
    ]
    return _data_set("gqa", "exact", examples, questions)


def scienceqa(rest: str, seed: int, questions: int | None) -> DataSet:
    """ScienceQA (arXiv 2209.09513), the test questions with a picture: which option is right?"""
    asked = {"question": TEXT, "choices": TEXTS, "answer": INDEX}
    part = Path(rest) / "ScienceQA-IMG"  # beside it may lie all questions, most of them without a picture
    rows = _rows("scienceqa", str(part) if part.is_dir() else rest, "test", asked, may=["hint", "subject"])
    pictures = Pictures()
    examples = []
    for row in rows:
        hint, choices, answer = row.fields.get("hint"), row.fields["choices"], row.fields["answer"]
        if answer >= len(choices):
            raise UserError(f'{row}: column "answer" is {answer}, but there are {len(choices)} choices, from 0 on')
        letters = [chr(ord("A") + index) for index in range(len(choices))]
        options = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, choices, strict=True))
        context = f"Context: {hint}\n" if hint else ""
        examples.append(
            _example(
                row,
                pictures.of(row),
                image_id=str(row.number),
                question=f"{context}{row.fields['question']}\n{options}{LETTER}",
                answers=[letters[answer]],
                kind=row.fields.get("subject") or "all",
            )
        )
    return _data_set("scienceqa", "choice", examples, questions)


def mme(rest: str, seed: int, questions: int | None) -> DataSet:
    """MME (arXiv 2306.13394): two questions a picture, to be answered with yes or no. Accuracy and MME's own score."""
    asked = {"question": TEXT, "answer": YES_NO, "question_id": TEXT, "category": TEXT}
    rows = _rows("mme", rest, "test", asked)
    pictures = Pictures()
    examples = [
        _example(
            row,
            pictures.of(row),
            image_id=f"{row.fields['category']}/{row.fields['question_id']}",
            question=row.fields["question"].replace(MME_PROMPT, "").strip() + SHORT,
            answers=[row.fields["answer"]],
            kind=row.fields["category"],
        )
        for row in rows
    ]
    return _data_set("mme", "yes-no", examples, questions, figures=_mme_figures)


def ocrbench(rest: str, seed: int, questions: int | None) -> DataSet:
    """OCRBench (arXiv 2305.07895): is the right text in the answer? Published figures allow 128 new tokens."""
    answer = Rule(lambda value: TEXT.holds(value) or TEXTS.holds(value), "a text or a list of texts")
    rows = _rows("ocrbench", rest, "test", {"question": TEXT, "answer": answer, "question_type": TEXT})
    pictures = Pictures()
    examples = [
        _example(
            row,
            pictures.of(row),
            image_id=str(row.number),
            question=row.fields["question"].strip(),
            answers=[row.fields["answer"]] if isinstance(row.fields["answer"], str) else row.fields["answer"],
            kind=row.fields["question_type"],
        )
        for row in rows
    ]
    return _data_set("ocrbench", "contains", examples, questions, kind_metrics={OCRBENCH_FORMULA: "formula"})


# --- Figures of the papers --------------------------------------------------------------------------------------------


def _pope_figures(examples: Sequence[Example], texts: Sequence[str]) -> dict[str, float]:
    pairs = [(text, example.answers[0]) for example, text in zip(examples, texts, strict=True)]
    return {"F1, %": 100 * f1(pairs)}


def _mme_figures(examples: Sequence[Example], texts: Sequence[str]) -> dict[str, float]:
    """For each category 100 * (accuracy + share of pictures with no wrong answer), added up: at most 2000 and 800."""
    scores: dict[str, dict[str, list[float]]] = {}
    for example, text in zip(examples, texts, strict=True):
        of_picture = scores.setdefault(example.kind, {}).setdefault(example.image_id, [])
        of_picture.append(yes_no(text, example.answers))
    totals = {"MME perception": 0.0, "MME cognition": 0.0}
    for category, pictures in scores.items():
        points = [100 * (sum(each) / len(each) + all(each)) for each in pictures.values()]
        totals[f"MME {'cognition' if category in MME_COGNITION else 'perception'}"] += sum(points) / len(points)
    return totals


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _example(
    row: Row, picture: "Picture", *, image_id: str, question: str, answers: list[str], kind: str = "all"
) -> Example:
    return Example(
        id=str(row.number),  # the published ids are not unique in every set
        image_id=image_id,
        where=str(row),
        digest=picture.digest,
        open=picture.open,
        question=question,
        answers=tuple(answers),
        kind=kind,
    )


def _data_set(
    name: str,
    metric: str,
    examples: list[Example],
    questions: int | None,
    *,
    figures: Figures | None = None,
    kind_metrics: Mapping[str, str] | None = None,
) -> DataSet:
    chosen = grouped(examples)[:questions]
    return DataSet(name=name, metric=metric, examples=chosen, figures=figures, kind_metrics=kind_metrics or {})


def _rows(
    name: str,
    rest: str,
    split: str,
    columns: Mapping[str, Rule],
    *,
    image: bool = True,
    may: Sequence[str] = (),
) -> list[Row]:
    """All rows of a split without their pictures. may: further columns, read where there are such.

    Raises UserError naming the folder, the file and column, or the row that is not as published.
    """
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise UserError(f"{name} needs {error.name}: pip install 'vlmp[eval]'") from error
    rows: list[Row] = []
    for file in _files(name, rest, split):
        try:
            with ParquetFile(file) as parquet:
                schema = parquet.schema_arrow
                for column in (*columns, *(["image"] if image else [])):
                    if column not in schema.names:
                        has = ", ".join(schema.names)
                        raise UserError(f'{file} has no column "{column}", which {name} needs; it has {has}')
                kind: Any = schema.field("image").type if image else None
                if image and not (types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
                    raise UserError(
                        f'{file}: column "image" must hold structs with the "bytes" of a picture, not {kind}'
                    )
                wanted = [*columns, *(column for column in may if column in schema.names)]
                table = parquet.read(columns=wanted).to_pylist()
        except (ArrowException, OSError) as error:
            raise UserError(f"{file} cannot be read as parquet: {one_line(error)}") from None
        rows += [Row(len(rows) + index, file, index, fields) for index, fields in enumerate(table)]
    for row in rows:
        for column, rule in columns.items():
            if not rule.holds(row.fields[column]):
                raise UserError(f'{row}: column "{column}" must be {rule.says}')
    return rows


def _files(name: str, rest: str, split: str) -> list[Path]:
    """The parquet files of a split, in order. Raises UserError when there are none, or not all of them."""
    folder = Path(rest)
    if not rest or not folder.is_dir():
        raise UserError(f"--dataset {name}: {rest or 'nothing'} is not a folder; it must hold {split}-*.parquet")
    found = sorted(folder.rglob(f"{split}-*.parquet"))
    if not found:
        raise UserError(f"--dataset {name}: no file {split}-*.parquet is in {folder}")
    if found[0].parent != found[-1].parent:
        raise UserError(
            f"--dataset {name}: {split}-*.parquet lie both in {found[0].parent} and in {found[-1].parent}, name one"
        )
    for file in found:
        total = re.search(r"-of-(\d+)", file.stem)
        if total and int(total[1]) != len(found):
            raise UserError(f"{file} is one of {int(total[1])} files, but {len(found)} are in its folder")
    return found


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of a row. Both raise UserError naming file and row."""

    digest: Callable[[], str]
    open: Callable[[], Image.Image]


class Pictures:
    """The pictures of a data set's parquet files, of which one row group is in memory at a time.

    A row group that is read is hashed as a whole: pictures are looked at in another order than they lie in.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._first = 0
        self._cells: Any = []
        self._digests: dict[tuple[Path, int], str] = {}
        self._read_first: dict[Path, tuple[int, int]] = {}

    def of(self, row: Row) -> Picture:
        """The picture of a row, read when it is asked for."""
        return Picture(digest=lambda: self._digest(row), open=lambda: self._open(row))

    def _digest(self, row: Row) -> str:
        if (row.file, row.row) not in self._digests:
            self._read(row)
        return self._digests[row.file, row.row]

    def _open(self, row: Row) -> Image.Image:
        if self._file != row.file or not 0 <= row.row - self._first < len(self._cells):
            self._read(row)
        content = _bytes(self._cells[row.row - self._first])
        if not content:
            raise UserError(f'{row}: column "image" holds no picture')
        try:
            with Image.open(BytesIO(content)) as image:
                return to_rgb(image)
        except Exception as error:  # Pillow's readers raise many kinds on damaged files
            raise UserError(f'{row}: column "image" cannot be read: {one_line(error)}') from None

    def _read(self, row: Row) -> None:
        """Read the row group that a row is in."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        self._cells = []  # before the next ones are read
        try:
            status = row.file.stat()
            with ParquetFile(row.file) as parquet:
                group, first = 0, 0
                while row.row >= first + parquet.metadata.row_group(group).num_rows:
                    first += parquet.metadata.row_group(group).num_rows
                    group += 1
                self._cells = parquet.read_row_group(group, columns=["image"]).column("image")
        except (ArrowException, OSError) as error:
            raise UserError(f"{row.file} cannot be read as parquet: {one_line(error)}") from None
        stamp = status.st_size, status.st_mtime_ns
        if self._read_first.setdefault(row.file, stamp) != stamp:
            raise UserError(f"{row.file} has been changed since the first of its pictures was read: run again")
        self._file, self._first = row.file, first
        for index, cell in enumerate(self._cells):
            if (row.file, first + index) not in self._digests:
                self._digests[row.file, first + index] = sha256(_bytes(cell)).hexdigest()


def _bytes(cell: Any) -> bytes:
    """What a cell of the column holds of a picture, nothing where it holds none."""
    value = cell.as_py()
    return (value and value["bytes"]) or b""
