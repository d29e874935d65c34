"""Put every question to every subject, keep each answer as it comes, and go on where an interruption left off."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmp.export.bundle import Manifest
from vlmp.export.errors import UserError
from vlmp.runtimes.generate import decode_greedily, prompt_ids
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.session import Array, Session

from .data import DataSet, Example, by_image
from .metrics import METRICS
from .subjects import Subject

CACHE_BYTES = 2**30
"""Visual tokens kept in memory for the next subject that sees the same ones."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to one question, and its score."""

    id: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Answered:
    """All answers of one subject, in the data set's order."""

    subject: Subject
    manifest: Manifest
    runtime: str
    answers: Sequence[Answer]


class VisionCache:
    """Visual tokens by subject group and picture, up to `CACHE_BYTES` in all."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Array] = {}
        self._bytes = 0

    def visual(self, session: Session, key: str, example: Example) -> Array:
        """Visual tokens [N, D] of the example's picture."""
        at = (key, example.image_id)
        if at in self._known:
            return self._known[at]
        visual = session.vision(to_pixels(example.open(), session.manifest.image))
        if self._bytes + visual.nbytes <= CACHE_BYTES:
            self._known[at] = visual
            self._bytes += visual.nbytes
        return visual


def ask(
    subject: Subject,
    data: DataSet,
    folder: Path,
    *,
    max_new_tokens: int,
    cache: VisionCache,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Answered:
    """Answers of one subject: those that its file in `folder` has, and the missing ones, which are added to it.

    on_answer gets the number of questions done. Raises UserError when the file belongs to other settings or questions,
    or when a question does not fit.
    """
    facts = {"subject": subject.facts, "data": data.name, "max_new_tokens": max_new_tokens}
    file = folder / f"{subject.key}.jsonl"
    texts = _known_answers(file, facts, data.examples)
    session = subject.open()
    limit = min(max_new_tokens, session.manifest.prompt.max_new_tokens)
    if not file.exists():
        _begin(file, facts)
    on_answer(len(texts))
    with file.open("a", encoding="utf-8") as out:
        for examples in by_image([example for example in data.examples if example.id not in texts]):
            visual = cache.visual(session, subject.vision_key, examples[0])
            for example in examples:
                texts[example.id] = answer(session, visual, example.question, limit)
                out.write(json.dumps({**_asked(example), "answer": texts[example.id]}) + "\n")
                out.flush()
                on_answer(len(texts))
    answers = [Answer(one.id, texts[one.id], score(data, one, texts[one.id])) for one in data.examples]
    return Answered(subject, session.manifest, session.runtime, answers)


def score(data: DataSet, example: Example, text: str) -> float:
    """The score of an answer by the data set's metric, or that of the kind of question."""
    return METRICS[data.kind_metrics.get(example.kind, data.metric)](text, example.answers)


def answer(session: Session, visual: Array, question: str, limit: int) -> str:
    """The greedy answer to a first question about a picture that has been seen."""
    ids = prompt_ids(session, session.manifest.prompt.first, question)
    tokens = decode_greedily(session, session.prefill(ids, visual).logits, limit, None)
    return session.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def _asked(example: Example) -> dict[str, str]:
    """What tells a question from another one that has its id in an edited data set."""
    return {"id": example.id, "image": example.image_id, "question": example.question}


def _begin(file: Path, facts: dict[str, Any]) -> None:
    """A file of answers whose first line says what is asked; it appears complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    part.replace(file)


def _known_answers(file: Path, facts: dict[str, Any], examples: Sequence[Example]) -> dict[str, str]:
    """Example id -> text, as far as the file has answers; a line cut off by an interruption is dropped from it."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    try:
        header, *lines = [json.loads(line) for line in content[:whole].splitlines()]
        found = {line["id"]: (line["image"], line["question"], str(line["answer"])) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): remove it to ask its questions again") from None
    way_out = "choose another --output, or --overwrite"
    if header != json.loads(json.dumps(facts)):
        raise UserError(f"{file} holds answers of other settings: {way_out}")
    known = {}
    for example in examples:
        if example.id in found:
            image, question, known[example.id] = found[example.id]
            if (image, question) != (example.image_id, example.question):
                raise UserError(f"{file} holds an answer to another question {example.id!r}: {way_out}")
    if whole < len(content):
        os.truncate(file, whole)
    return known
