"""One turn on tensors: token ids in, greedy tokens out, and where the time went. A chat and a profile run the same."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.session import Array, Prefilled, Session, Stopped

if TYPE_CHECKING:
    from PIL.Image import Image

Clock = Callable[[], float]
"""Seconds, as perf_counter."""
Listener = Callable[[Sequence[int]], None]
"""Gets the tokens so far, with each new one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Where the time of one answer went, in milliseconds. Phases that did not happen are 0."""

    load_ms: float
    preprocess_ms: float = 0.0
    vision_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    decoded_tokens: int = 0

    @property
    def first_token_ms(self) -> float:
        """TTFT: from the photo to the first token, without loading."""
        return self.preprocess_ms + self.vision_ms + self.prefill_ms

    @property
    def decode_tok_s(self) -> float:
        """Decode rate in tokens per second, 0 when nothing was decoded."""
        return self.decoded_tokens / self.decode_ms * 1e3 if self.decode_ms > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a turn came to. prefilled: of a first turn with at least one token."""

    tokens: list[int]
    prefilled: Prefilled | None
    timings: Timings
    stopped: bool


class _Laps:
    """Milliseconds of each phase so far."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: Literal["preprocess", "vision", "prefill", "decode"]) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        finally:
            self._ms[f"{phase}_ms"] = (self._clock() - start) * 1e3

    def timings(self, session: Session, tokens: Sequence[int]) -> Timings:
        return Timings(load_ms=session.load_ms, **self._ms, decoded_tokens=max(0, len(tokens) - 1))


def first_turn(
    session: Session,
    image: "Image | Path | str",
    ids: list[int],
    limit: int,
    *,
    end_ids: Collection[int] = (),
    on_token: Listener = lambda _: None,
    clock: Clock = perf_counter,
) -> Turn:
    """See, prefill, decode: from the photo to an end token, or to `limit` tokens.

    Stopped before its first token, it leaves no image; so does a prefill that fails. Raises UserError on an unreadable
    image or logits that are not finite.
    """
    laps, tokens, prefilled, stopped = _Laps(clock), list[int](), None, False
    try:
        with laps("preprocess"):
            pixels = to_pixels(open_image(image), session.manifest.shape.image)
        with laps("vision"):
            seen = session.see(pixels)
        with laps("prefill"):
            prefilled = session.prefill(ids, seen)
        with laps("decode"):
            for token in greedy_tokens(session, prefilled.logits, limit, end_ids):
                tokens.append(token)
                on_token(tokens)
    except BaseException as reason:
        stopped = isinstance(reason, Stopped)
        if not tokens and (stopped or prefilled is not None):
            session.reset()
        if not stopped:
            raise
    return Turn(tokens=tokens, prefilled=prefilled, timings=laps.timings(session, tokens), stopped=stopped)


def next_turn(
    session: Session,
    unfed: Sequence[int],
    ids: list[int],
    limit: int,
    *,
    end_ids: Collection[int] = (),
    on_token: Listener = lambda _: None,
    clock: Clock = perf_counter,
) -> Turn:
    """Decode what the last answer left, extend, decode.

    Whatever ends it before its first token leaves the conversation as it was. Raises UserError when `ids` have no room,
    or logits are not finite.
    """
    session.check_room(len(unfed) + len(ids))
    laps, tokens, stopped = _Laps(clock), list[int](), False
    before = session.progress
    try:
        with laps("prefill"):
            for token in unfed:
                decode_token(session, token)
            logits = session.extend(ids)
        with laps("decode"):
            for token in greedy_tokens(session, logits, limit, end_ids):
                tokens.append(token)
                on_token(tokens)
    except BaseException as reason:
        if not tokens:
            session.rewind(before)
        if not isinstance(reason, Stopped):
            raise
        stopped = True
    return Turn(tokens=tokens, prefilled=None, timings=laps.timings(session, tokens), stopped=stopped)


def greedy_tokens(session: Session, logits: Array, limit: int, end_ids: Collection[int] = ()) -> Iterator[int]:
    """The most likely tokens, one after the other: up to an end token, which is included, the limit, or the last room.

    Raises UserError when logits are not finite: no token is the most likely one then.
    """
    _check_finite(logits)
    for count in range(1, limit + 1):
        token = int(np.argmax(logits))
        yield token
        if token in end_ids or count == limit or session.room == 0:
            return
        logits = decode_token(session, token)


def decode_token(session: Session, token: int) -> Array:
    """Logits [V] after one more token. Raises UserError when they are not finite: then the caches do not hold it."""
    before = session.progress
    logits = session.decode(token)
    try:
        _check_finite(logits)
    except UserError:
        session.rewind(before)
        raise
    return logits


def _check_finite(logits: Array) -> None:
    if not np.isfinite(logits).all():
        raise UserError("the model returned logits that are not finite: its weights or its graph are broken")
