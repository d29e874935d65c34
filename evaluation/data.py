"""Questions with right answers: our own scenes, a user's file, or a published set."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmp.runtimes.bundle.errors import UserError, check_text
from vlmp.runtimes.console.streams import is_url

if TYPE_CHECKING:
    from PIL import Image

from vlmp.evaluation.identity import file_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question. `id` is unique in its data set, `image_id` shared by questions about one picture.

    `where` tells people where it stands. `digest` is that of the picture's content, `open` returns it as upright RGB;
    both raise UserError naming that place.
    """

    id: str
    image_id: str
    where: str
    digest: Callable[[], str]
    open: "Callable[[], Image.Image]"
    question: str
    answers: tuple[str, ...]
    kind: str


Figures = Callable[[Sequence[Example], Sequence[str]], dict[str, float]]
"""Takes the examples and what was answered to each, and returns figures on their papers' own scales."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Examples in a fixed order, those about one picture together, and how answers to them are scored."""

    name: str
    metric: str
    examples: Sequence[Example]
    kind_metrics: Mapping[str, str] = field(default_factory=dict)
    """Metrics of the kinds of question that have their own."""
    figures: Figures | None = None
    """What the paper reports beside accuracy."""


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
SCENE_QUESTIONS = 2000
JSONL_FIELDS = ("image", "question", "answers", "type", "id")


def open_dataset(spec: str, *, seed: int, questions: int | None) -> DataSet:
    """`scenes:SPLIT`, `pope:DIR` and the like, or a JSONL file.

    questions: the first so many in the data set's order, None for all; of scenes, so many are generated. seed: of the
    scenes. Raises UserError on an unknown name, a file that is missing, or a line that cannot be used, naming it.
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
    if split not in SPLITS:
        raise UserError(f"--dataset scenes:{split}: choose one of {', '.join(f'scenes:{name}' for name in SPLITS)}")
    from vlmp.evaluation.scenes import make_scene, sample

    examples: list[Example] = []
    try:  # the digits come with scikit-learn, which is imported when the first one is drawn
        for index, scene, asked in sample(split, seed, questions or SCENE_QUESTIONS):  # type: ignore[arg-type]
            # Of the generator, its photos and its digits, nothing but the pixels has a say in an answer.
            digest = hashlib.sha256(scene.image.tobytes()).hexdigest()
            examples += [
                Example(
                    id=f"{index}-{one.kind}",
                    image_id=str(index),
                    where=f"scene {index}",
                    digest=lambda digest=digest: digest,  # type: ignore[misc]
                    open=lambda index=index: make_scene(split, seed, index).image,  # type: ignore[misc, arg-type]
                    question=one.text,
                    answers=(one.answer,),
                    kind=one.kind,
                )
                for one in asked
            ]
    except ModuleNotFoundError as error:
        raise UserError(f"scenes need {error.name}: pip install 'vlmp[eval]'") from error
    return DataSet(name=f"scenes:{split} seed {seed}", metric="exact", examples=examples)


def jsonl(path: Path, questions: int | None) -> DataSet:
    """Lines of {"image": path from the file's folder, "question", "answers": text or list, "type"?, "id"?}.

    An answer is right when it is one of `answers`. Raises UserError naming the line, what is wrong with it and what
    would be right.
    """
    if not path.is_file():
        raise UserError(f"--dataset {path} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines() would cut inside JSON's texts
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    examples: list[Example] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        example = _example(line, f"{path} line {number}", path.parent, number)
        if example.id in seen:
            raise UserError(f'{path} line {number}: "id" {example.id!r} is that of line {seen[example.id]} already')
        seen[example.id] = number
        examples.append(example)
    return DataSet(name=path.name, metric="exact", examples=grouped(examples)[:questions])


def _example(line: str, where: str, folder: Path, number: int) -> Example:
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise UserError(f"{where} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f'{where}: must be an object like {{"image": ..., "question": ..., "answers": [...]}}')
    if unknown := sorted(fields.keys() - set(JSONL_FIELDS)):
        raise UserError(f"{where}: unknown field {unknown[0]!r}, known are {', '.join(JSONL_FIELDS)}")
    fields = {"type": "all", "id": str(number)} | fields
    fields["id"] = str(fields["id"]) if type(fields["id"]) is int else fields["id"]
    for name in ("image", "question", "type", "id"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise UserError(f'{where}: "{name}" must be a text that is not empty')
    answers = fields.get("answers")
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise UserError(f'{where}: "answers" must be a text or a list of texts, none of them empty')
    check_text(f"{where}:", "".join([fields["image"], fields["question"], fields["type"], fields["id"], *answers]))
    if is_url(fields["image"]):
        raise UserError(f"{where}: image {fields['image']} is a URL: download it first")
    path = folder / fields["image"]
    if not path.is_file():
        raise UserError(f"{where}: image {path} {'is not a file' if path.exists() else 'does not exist'}")
    return Example(
        id=fields["id"],
        image_id=fields["image"],
        where=where,
        digest=lambda: _file_digest(path, where),
        open=lambda: _open(path, where),
        question=fields["question"],
        answers=tuple(answers),
        kind=fields["type"],
    )


def _open(path: Path, where: str) -> "Image.Image":
    from vlmp.runtimes.image import open_image  # and with it numpy

    with named(where):
        return open_image(path)


def _file_digest(path: Path, where: str) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise UserError(f"{where}: image {path} cannot be read: {error.strerror}") from None


@contextmanager
def named(where: str) -> Iterator[None]:
    """Let a UserError say which question it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def grouped(examples: Sequence[Example]) -> list[Example]:
    """The same examples, those about one picture moved up to the first of them: it is looked at only once."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.image_id, []).append(example)
    return [example for group in groups.values() for example in group]
