"""Put every question to every subject, keep each answer as it comes, and go on where an interruption left off."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlmp.export.bundle import Manifest
from vlmp.export.errors import UserError
from vlmp.runtimes.generate import decode_greedily, prompt_ids
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.session import Array, Session

from .data import DataSet, Example, by_image
from .metrics import metric
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
    metric_name: str,
    max_new_tokens: int,
    cache: VisionCache,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Answered:
    """Answers of one subject, the ones that its file in `folder` has and then the missing ones.

    on_answer gets the number of questions done. Raises UserError when the file belongs to other settings, or when a
    question does not fit.
    """
    facts = {"subject": subject.facts, "data": data.name, "metric": metric_name, "max_new_tokens": max_new_tokens}
    file = folder / f"{subject.key}.jsonl"
    known = _open_answers(file, facts)
    score = metric(metric_name)
    session = subject.open()
    limit = min(max_new_tokens, session.manifest.prompt.max_new_tokens)
    on_answer(len(known))
    with file.open("a", encoding="utf-8") as out:
        for examples in by_image([example for example in data.examples if example.id not in known]):
            visual = cache.visual(session, subject.vision_key, examples[0])
            for example in examples:
                text = answer(session, visual, example.question, limit)
                known[example.id] = Answer(example.id, text, score(text, example.answers))
                out.write(json.dumps(asdict(known[example.id])) + "\n")
                out.flush()
                on_answer(len(known))
    answers = [known[example.id] for example in data.examples]
    return Answered(subject, session.manifest, session.runtime, answers)


def answer(session: Session, visual: Array, question: str, limit: int) -> str:
    """The greedy answer to a first question about a picture that has been seen."""
    ids = prompt_ids(session, session.manifest.prompt.first, question)
    tokens = decode_greedily(session, session.prefill(ids, visual).logits, limit, None)
    return session.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def _open_answers(file: Path, facts: dict[str, Any]) -> dict[str, Answer]:
    """The answers in a file, which is begun where there is none; a line cut off by an interruption is dropped."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        part.replace(file)
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        header, *lines = [json.loads(line) for line in whole.decode().splitlines()]
        known = {line["id"]: Answer(line["id"], line["text"], line["score"]) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): remove it to ask its questions again") from None
    if header != json.loads(json.dumps(facts)):
        raise UserError(f"{file} holds answers of other settings: choose another --output, or --overwrite")
    if len(whole) < len(content):
        file.write_bytes(whole)
    return known
