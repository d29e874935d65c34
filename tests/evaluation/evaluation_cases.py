"""A data set and subjects that need no model: a fake session answers by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from bundle_cases import image_spec, shape_spec
from PIL import Image
from vlmp.evaluation import run
from vlmp.evaluation.data import DataSet, Example
from vlmp.evaluation.subjects import Subject
from vlmp.runtimes.bundle.manifest import WorkSpec
from vlmp.runtimes.session import Seen


def make_data(count: int, a_picture: int = 2, kinds: Sequence[str] = ("hue", "size")) -> DataSet:
    """`count` questions, some about one picture; the right answer to question 3 is "3"."""
    examples = [
        Example(
            id=str(index),
            image_id=f"picture {index // a_picture}",
            where=f"line {index}",
            digest=lambda index=index: f"content {index // a_picture}",  # type: ignore[misc]
            open=lambda: Image.new("RGB", (4, 4)),
            question=f"Which is {index}?",
            answers=(str(index),),
            kind=kinds[index % len(kinds)],
        )
        for index in range(count)
    ]
    return DataSet(name="numbers", metric="exact", examples=examples)


WORK = WorkSpec(macs=250_000_000, weight_bytes=0, cache_bytes=0, activation_bytes=0)


class FakeSession:
    """Sees pictures and counts them; `run.answer` is replaced by `answers`."""

    runtime = "fake 1"

    def __init__(self, kept: int = 5, name: str = "random") -> None:
        shape = shape_spec(
            image_spec(4, 4), kept=kept, layer=2, layers=3, text_room=9, pruner=name, settings={"seed": 0}
        )
        self.manifest: Any = SimpleNamespace(
            model="fake", precision="float32", quantization="none", shape=shape,
            prompt=SimpleNamespace(max_new_tokens=32),
            method={"prefill": SimpleNamespace(work={"before": WORK, "after": WORK})}.__getitem__,
        )  # fmt: skip
        self.seen = 0

    def see(self, _pixels: object) -> Seen:
        self.seen += 1
        return Seen(np.zeros((16, 4), np.float32))


def make_subject(key: str = "fake", *, group: str = "", session: FakeSession | None = None, **facts: Any) -> Subject:
    """A subject with a fake session, a new one each time unless one is given."""

    def chat() -> Any:
        return SimpleNamespace(session=session or FakeSession())

    return Subject(key=key, group=group or key, facts=facts, vision_key="fake", open=chat)


def answers_with(rule: Callable[[str], str], patch: Callable[[object, str, object], None]) -> list[str]:
    """Let sessions answer a question by `rule`. Returns the list of questions that are put from now on."""
    put: list[str] = []

    def answer(_chat: object, _visual: object, question: str, _limit: int) -> str:
        text = rule(question)
        put.append(question)
        return text

    patch(run, "answer", answer)
    patch(run, "to_pixels", lambda image, _spec: np.asarray(image))
    return put


def number_in(question: str) -> str:
    """The right answer."""
    return question.removeprefix("Which is ").removesuffix("?")
