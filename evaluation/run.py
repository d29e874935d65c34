"""Put every question to every subject, keep each answer as it comes, and go on where an interruption left off."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmp.evaluation.data import DataSet, Example, named
from vlmp.evaluation.metrics import METRICS
from vlmp.evaluation.subjects import Subject
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.bundle.writing import told_if_full, write_whole
from vlmp.runtimes.chat import Chat
from vlmp.runtimes.image import to_pixels
from vlmp.runtimes.prompt import first_ids
from vlmp.runtimes.session import Seen, Session
from vlmp.runtimes.turn import greedy_tokens

CACHE_BYTES = 2**30
"""Visual tokens kept in memory for the next subject that sees the same ones."""
LONGEST_FACT = 40
"""Characters of a value that is shown to people."""


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
    """Visual tokens by subject group and picture, up to `CACHE_BYTES` in all, and those of the last picture."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Seen] = {}
        self._bytes = 0
        self._last: tuple[tuple[str, str], Seen] | None = None

    def seen(self, session: Session, key: str, example: Example, digest: str) -> Seen:
        """What vision tells of the example's picture, whose content has this digest."""
        at = (key, digest)
        if at in self._known:
            return self._known[at]
        if self._last is not None and self._last[0] == at:
            return self._last[1]
        image = example.open()
        with named(example.where):
            pixels = to_pixels(image, session.manifest.shape.image)
        seen = session.see(pixels)
        self._last = (at, seen)
        size = sum(each.nbytes for each in seen if each is not None)
        if self._bytes + size <= CACHE_BYTES:
            self._known[at] = seen
            self._bytes += size
        return seen


def ask(
    subject: Subject,
    data: DataSet,
    folder: Path,
    *,
    max_new_tokens: int,
    cache: VisionCache,
    overwrite: bool = False,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Answered:
    """Answers of one subject: those that its file in `folder` has, and the missing ones, which are added to it.

    Nobody else may write to the folder meanwhile. overwrite: ask everything again. on_answer gets the number of
    questions done. Raises UserError when the file belongs to other settings, questions or pictures, or when a question
    does not fit.
    """
    file = folder / f"{subject.key}.jsonl"
    texts = {} if overwrite else known_answers(subject, data, folder, max_new_tokens=max_new_tokens)
    chat = subject.open()
    session = chat.session
    limit = min(max_new_tokens, session.manifest.prompt.max_new_tokens)
    if overwrite or not file.exists():
        _begin(file, _facts(subject, data, max_new_tokens))
    on_answer(len(texts))
    for example in data.examples:
        if example.id in texts:
            continue
        digest = example.digest()
        seen = cache.seen(session, subject.vision_key, example, digest)
        with named(example.where):
            texts[example.id] = answer(chat, seen, example.question, limit)
        _add(file, {**_asked(example), "picture": digest, "answer": texts[example.id]})
        on_answer(len(texts))
    answers = [Answer(one.id, texts[one.id], score(data, one, texts[one.id])) for one in data.examples]
    return Answered(subject, session.manifest, session.runtime, answers)


def score(data: DataSet, example: Example, text: str) -> float:
    """The score of an answer by the data set's metric, or that of the kind of question."""
    return METRICS[data.kind_metrics.get(example.kind, data.metric)](text, example.answers)


def answer(chat: Chat, seen: Seen, question: str, limit: int) -> str:
    """The greedy answer to a first question about a picture that has been seen."""
    session, spec = chat.session, chat.session.manifest.prompt
    first = session.prefill(first_ids(chat.tokenizer, spec, question), seen)
    tokens = list(greedy_tokens(session, first.logits, limit, spec.end_ids))
    return chat.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def _asked(example: Example) -> dict[str, str]:
    """What tells a question from another one that has its id in an edited data set."""
    return {"id": example.id, "image": example.image_id, "question": example.question}


def _facts(subject: Subject, data: DataSet, max_new_tokens: int) -> dict[str, Any]:
    """What all answers of a file have in common, as JSON gives it back."""
    facts = {"subject": subject.facts, "data": data.name, "max_new_tokens": max_new_tokens}
    return dict(json.loads(json.dumps(facts)))


def _begin(file: Path, facts: dict[str, Any]) -> None:
    """A file of answers whose first line says what is asked; it appears complete."""
    with told_if_full(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(facts) + "\n")


def _add(file: Path, line: dict[str, str]) -> None:
    """Append an answer; should the disk be full, what was written of it is dropped the next time."""
    with told_if_full(file), file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def known_answers(subject: Subject, data: DataSet, folder: Path, *, max_new_tokens: int) -> dict[str, str]:
    """Example id -> text, as far as the subject's file has answers; a line cut off by an interruption is dropped.

    Raises UserError when the file is damaged, or belongs to other settings, questions or pictures.
    """
    file = folder / f"{subject.key}.jsonl"
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    try:
        header, *lines = [json.loads(line) for line in content[:whole].splitlines()]
        found = {line["id"]: line for line in lines}
        texts = {name: str(line["answer"]) for name, line in found.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): remove it to ask its questions again") from None
    way_out = "choose another --output, or --overwrite"
    if other := differences(header, _facts(subject, data, max_new_tokens)):
        raise UserError(f"{file} holds answers of other settings: {way_out} ({', '.join(other[:3])})")
    known = {}
    for example in data.examples:
        if example.id in found:
            now = {"question": example.question, "picture": example.digest()}  # wherever the picture lies
            if other := [name for name, value in now.items() if found[example.id].get(name) != value]:
                raise UserError(
                    f"{file} holds an answer to another question {example.id!r}: {way_out} ({other[0]} differs)"
                )
            known[example.id] = texts[example.id]
    if whole < len(content):
        os.truncate(file, whole)
    return known


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Which facts differ, in words: both values where a person can read them."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = list(dict.fromkeys([*before, *now]))
        return [
            text
            for each in names
            for text in differences(before.get(each), now.get(each), f"{name} {each}".removeprefix("subject ").strip())
        ]
    values = [before, now]
    readable = all(isinstance(value, int | float | str) and len(str(value)) < LONGEST_FACT for value in values)
    return [f"{name} was {before}, is {now}" if readable else f"{name} differs"]
