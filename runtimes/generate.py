"""The one host loop: photo and words in, greedy answer out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from vlmp.runtimes.bundle.errors import UserError, check_text
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.prompt import control_tokens, encode_turn
from vlmp.runtimes.session import Array, Progress, Session

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Where the time of one answer went, in milliseconds. Phases that did not happen are 0."""

    load_ms: float
    preprocess_ms: float = 0.0
    vision_ms: float = 0.0
    prefill_ms: float
    decode_ms: float
    decoded_tokens: int

    @property
    def first_token_ms(self) -> float:
        """TTFT: from the photo to the first token, without loading."""
        return self.preprocess_ms + self.vision_ms + self.prefill_ms

    @property
    def decode_tok_s(self) -> float:
        """Decode rate in tokens per second, 0 when nothing was decoded."""
        return self.decoded_tokens / self.decode_ms * 1e3 if self.decode_ms > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One turn. kept and order int32 [S]: kept visual tokens ascending, and in the order of selection.

    stages: int32, kept of each stage; the last is `kept`. Later turns have none of the three.
    """

    text: str
    token_ids: list[int]
    timings: Timings
    kept: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    order: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    stages: list[Array] = field(default_factory=list)


def first_turn(
    session: Session,
    image: "Image | Path | str",
    prompt: str,
    max_new_tokens: int | None,
    on_text: Callable[[str], None] | None,
    *,
    typed_control: bool,
) -> Answer:
    """Vision, prefill, decode."""
    ids = prompt_ids(session, session.manifest.prompt.first, prompt, typed_control=typed_control)
    limit = _limit(session, max_new_tokens)
    start = perf_counter()
    pixels = to_pixels(open_image(image), session.manifest.shape.image)
    seen = perf_counter()
    visual = session.vision(pixels)
    encoded = perf_counter()
    prefilled = session.prefill(ids, visual)
    filled = perf_counter()
    tokens = decode_greedily(session, prefilled.logits, limit, on_text)
    done = perf_counter()
    timings = Timings(
        load_ms=session.load_ms,
        preprocess_ms=(seen - start) * 1e3,
        vision_ms=(encoded - seen) * 1e3,
        prefill_ms=(filled - encoded) * 1e3,
        decode_ms=(done - filled) * 1e3,
        decoded_tokens=len(tokens) - 1,
    )
    text = session.tokenizer.decode(tokens, skip_special_tokens=True)
    return Answer(
        text=text, token_ids=tokens, timings=timings, kept=prefilled.kept, order=prefilled.order,
        stages=prefilled.stages,
    )  # fmt: skip


def next_turn(
    session: Session,
    prompt: str,
    max_new_tokens: int | None,
    on_text: Callable[[str], None] | None,
    *,
    typed_control: bool,
) -> Answer:
    """Extend, decode. The last answer's final token is not in the caches yet and goes first."""
    if session.past == 0:
        raise UserError("no image yet: generate() starts a conversation, reply() continues it")
    spec = session.manifest.prompt
    ids = prompt_ids(session, spec.following, prompt, reserved=1, typed_control=typed_control)
    ids = [spec.end_text_id, *ids]
    limit = _limit(session, max_new_tokens)
    # Before anything is fed: a refused turn must leave the conversation as it was.
    session.check_room(len(session.unfed) + len(ids))
    start = perf_counter()
    before = session.progress
    try:
        for token in session.unfed:
            session.decode(token)
        logits = session.extend(ids)
    except BaseException:  # also an interruption: the conversation is as it was, and the turn can be tried again
        session.progress = before
        raise
    filled = perf_counter()
    tokens = decode_greedily(session, logits, limit, on_text)
    done = perf_counter()
    timings = Timings(
        load_ms=session.load_ms,
        prefill_ms=(filled - start) * 1e3,
        decode_ms=(done - filled) * 1e3,
        decoded_tokens=len(tokens) - 1,
    )
    return Answer(text=session.tokenizer.decode(tokens, skip_special_tokens=True), token_ids=tokens, timings=timings)


def prompt_ids(
    session: Session, template: str, prompt: str, *, reserved: int = 0, typed_control: bool = False
) -> list[int]:
    """Token ids of a turn, leaving `reserved` places of the bucket free.

    typed_control: control tokens in the prompt are control tokens, not text. Raises UserError when the prompt is empty,
    or too long: then it says how many tokens a prompt may have; and as `encode_turn`.
    """
    check_text("the prompt", prompt)
    spec, tokenizer = session.manifest.prompt, session.tokenizer
    control = () if typed_control else control_tokens(tokenizer, spec.control_tokens)
    around = len(encode_turn(tokenizer, template, ""))
    room = spec.text_len - around - reserved
    ids = encode_turn(tokenizer, template, prompt, control)
    if len(ids) - around > room:
        raise UserError(
            f"the prompt has {len(ids) - around} tokens, the bundle takes up to {room}: export with a larger --text-len"
        )
    if not prompt.strip():
        raise UserError("the prompt is empty: ask something about the image")
    return ids


def decode_greedily(session: Session, logits: Array, limit: int, on_text: Callable[[str], None] | None) -> list[int]:
    """Greedy tokens up to an end token, which is included, or the limit.

    Raises UserError when logits are not finite: no token is the most likely one then.
    """
    tokens: list[int] = []
    shown = ""
    end_ids = set(session.manifest.prompt.end_ids)
    while True:
        if not np.isfinite(logits).all():
            raise UserError("the model returned logits that are not finite: its weights or its graph are broken")
        token = int(np.argmax(logits))
        tokens.append(token)
        session.progress = Progress(session.past, () if token in end_ids else (token,))
        ended = token in end_ids or len(tokens) == limit or session.room == 0
        if on_text is not None:
            shown = _stream(session, tokens, shown, on_text, ended=ended)
        if ended:
            return tokens
        logits = session.decode(token)


def _stream(session: Session, tokens: list[int], shown: str, on_text: Callable[[str], None], *, ended: bool) -> str:
    """Hand out what is new, but no character of which bytes are still to come, unless the answer has ended."""
    text = session.tokenizer.decode(tokens, skip_special_tokens=True)
    if (text.endswith("\ufffd") and not ended) or len(text) <= len(shown):
        return shown
    session.tell(on_text, text[len(shown) :])
    return text


def _limit(session: Session, max_new_tokens: int | None) -> int:
    most = session.manifest.prompt.max_new_tokens
    if max_new_tokens is None:
        return most
    if not 1 <= max_new_tokens <= most:
        raise UserError(f"max_new_tokens={max_new_tokens}: this bundle allows 1 to {most}")
    return max_new_tokens
