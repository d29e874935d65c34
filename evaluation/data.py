"""Questions with right answers: our own scenes, a user's file, or a published set."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from vlmp.export.errors import UserError
from vlmp.runtimes.image import open_image


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question. `id` is unique in its data set, `image_id` shared by questions about one picture."""

    id: str
    image_id: str
    open: Callable[[], Image.Image]
    question: str
    answers: tuple[str, ...]
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Examples in a fixed order, those about one picture together, and how answers to them are scored."""

    name: str
    metric: str
    examples: Sequence[Example]


DATASETS: dict[str, str] = {
    "scenes": "vlmp.evaluation.data:scenes",
    "pope": "vlmp.evaluation.lmms:pope",
    "textvqa": "vlmp.evaluation.lmms:textvqa",
    "gqa": "vlmp.evaluation.lmms:gqa",
    "scienceqa": "vlmp.evaluation.lmms:scienceqa",
    "mme": "vlmp.evaluation.lmms:mme",
    "ocrbench": "vlmp.evaluation.lmms:ocrbench",
}
"""What stands before the colon of --dataset -> "module:function" of the rest, the seed and the number of questions."""

SPLITS = ("train", "validation", "test")
JSONL_FIELDS = {"image", "question", "answers", "type", "id"}


def open_dataset(spec: str, *, seed: int, questions: int | None) -> DataSet:
    """`scenes:SPLIT`, `pope:DIR` and the like, or a JSONL file. questions: at most so many, None for all.

    Raises UserError on an unknown name, a file that is missing, or a line that cannot be used, naming it.
    """
    if questions is not None and questions < 1:
        raise UserError(f"--questions {questions}: must be at least 1")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be at least 0")
    name, colon, rest = spec.partition(":")
    if colon and name in DATASETS:
        module, attribute = DATASETS[name].split(":")
        data: DataSet = getattr(import_module(module), attribute)(rest, seed, questions)
    elif Path(spec).suffix == ".jsonl":
        data = jsonl(Path(spec), questions)
    else:
        raise UserError(f"--dataset {spec}: must be FILE.jsonl, or one of {', '.join(f'{n}:...' for n in DATASETS)}")
    if not data.examples:
        raise UserError(f"--dataset {spec} holds no questions")
    return data


def scenes(split: str, seed: int, questions: int | None) -> DataSet:
    """Generated scenes, as many questions of each kind; another seed gives other scenes."""
    try:
        from vlmp.benchmarks.scenes import make_scene, sample
    except ModuleNotFoundError as error:
        raise UserError(f"the scenes need {error.name}: pip install 'vlmp[eval]'") from error

    if split not in SPLITS:
        raise UserError(f"--dataset scenes:{split}: choose one of {', '.join(f'scenes:{name}' for name in SPLITS)}")
    examples = [
        Example(
            id=f"{index}-{asked.kind}",
            image_id=str(index),
            open=lambda index=index: make_scene(split, seed, index).image,  # type: ignore[misc]
            question=asked.text,
            answers=(asked.answer,),
            kind=asked.kind,
        )
        for index, _, all_asked in sample(split, seed, questions or 2000)  # type: ignore[arg-type]
        for asked in all_asked
    ]
    return DataSet(name=f"scenes:{split} seed {seed}", metric="exact", examples=examples)


def jsonl(path: Path, questions: int | None) -> DataSet:
    """Lines of {"image": path from the file's folder, "question", "answers": text or list, "type"?, "id"?}.

    Raises UserError naming the line, what is wrong with it and what would be right.
    """
    if not path.is_file():
        raise UserError(f"--dataset {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    examples: list[Example] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        example = _example(line, f"{path} line {number}", path.parent, str(number))
        if example.id in seen:
            raise UserError(f'{path} line {number}: "id" {example.id!r} stands in an earlier line too')
        seen.add(example.id)
        examples.append(example)
    return DataSet(name=path.name, metric="vqa", examples=examples[:questions])


def _example(line: str, where: str, folder: Path, number: str) -> Example:
    try:
        fields: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f'{where}: must be an object like {{"image": ..., "question": ..., "answers": [...]}}')
    if unknown := sorted(fields.keys() - JSONL_FIELDS):
        raise UserError(f"{where}: unknown field {unknown[0]!r}, known are {', '.join(sorted(JSONL_FIELDS))}")
    for name in ("image", "question"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise UserError(f'{where}: "{name}" must be a text that is not empty')
    answers = fields.get("answers")
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise UserError(f'{where}: "answers" must be a text or a list of texts, none of them empty')
    path = folder / fields["image"]
    if not path.is_file():
        raise UserError(f"{where}: image {path} does not exist")
    return Example(
        id=str(fields.get("id", number)),
        image_id=str(path),
        open=lambda: open_image(path),
        question=fields["question"],
        answers=tuple(answers),
        kind=str(fields.get("type", "all")),
    )


def by_image(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Neighbouring examples about one picture."""
    group: list[Example] = []
    for example in examples:
        if group and group[0].image_id != example.image_id:
            yield group
            group = []
        group.append(example)
    if group:
        yield group
