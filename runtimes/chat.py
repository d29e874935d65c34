"""A conversation in words about a picture: a session's tensors with the bundle's tokenizer around them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.prompt import first_ids, following_ids, is_byte, load_tokenizer
from vlmp.runtimes.session import Array, Session, Stop
from vlmp.runtimes.turn import Timings, Turn, first_turn, next_turn

if TYPE_CHECKING:
    from PIL.Image import Image
    from tokenizers import Tokenizer

OnText = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One turn. kept and order int32 [S]: kept visual tokens ascending, and in the order of selection.

    stages: int32, kept of each stage; the last is `kept`. Later turns have none of the three. stopped: whether `stop`
    ended it, before an end token or the limit; an answer without tokens was stopped before its first one.
    """

    text: str
    token_ids: list[int]
    timings: Timings
    kept: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    order: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    stages: list[Array] = field(default_factory=list)
    stopped: bool = False


class _Transcript(NamedTuple):
    """The text of the session's conversation of this number, end tokens left out. The caches hold the first of it."""

    number: int
    ids: tuple[int, ...]


class _Stream:
    """An answer that is on its way: the chat learns each token of it at once, and `on_text` its text."""

    def __init__(self, chat: "Chat", before: Sequence[int], on_text: OnText | None) -> None:
        self._chat, self._before, self._on_text = chat, before, on_text
        self._shown = ""

    def __call__(self, tokens: Sequence[int]) -> None:
        """As the turn calls it, with all tokens so far."""
        session = self._chat.session
        said = tokens[:-1] if tokens[-1] in session.manifest.prompt.end_ids else tokens
        self._chat._transcript = _Transcript(session.progress.number, (*self._before, *said))
        if self._on_text is not None:
            text = self._text(tokens)
            if not self._chat.awaits_bytes(tokens, text):
                self._show(text, self._on_text)

    def answer(self, turn: Turn) -> Answer:
        """What came of the turn, all of which has been shown then."""
        text = self._text(turn.tokens)
        if self._on_text is not None:
            self._show(text, self._on_text)
        timings = replace(turn.timings, load_ms=self._chat.load_ms)
        answer = Answer(text=text, token_ids=turn.tokens, timings=timings, stopped=turn.stopped)
        first = turn.prefilled
        return answer if first is None else replace(answer, kept=first.kept, order=first.order, stages=first.stages)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._chat.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _show(self, text: str, on_text: OnText) -> None:
        new = text[len(self._shown) :]
        if new:
            self._shown = text
            with self._chat.session.calling_back():
                on_text(new)


class Chat:
    """Questions about a picture, and greedy answers. It runs one turn at a time; other threads wait for it.

    A session holds one conversation: another chat on it begins another one.
    """

    def __init__(self, session: Session, tokenizer: "Tokenizer | None" = None) -> None:
        """tokenizer: the bundle's own unless given. Raises UserError when there is none, or it cannot be read."""
        started = perf_counter()
        if tokenizer is None:
            if session.folder is None:
                raise UserError("a session without a bundle has no tokenizer: give one")
            tokenizer = load_tokenizer(session.folder, session.manifest)
        self.session = session
        self.tokenizer = tokenizer
        self._byte_tokens = bool(getattr(tokenizer.model, "byte_fallback", False))
        self._left_out = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self.load_ms = session.load_ms + (perf_counter() - started) * 1e3
        self._transcript: _Transcript | None = None
        self._stop: Stop | None = None

    def ask(
        self,
        image: "Image | Path | str",
        prompt: str,
        max_new_tokens: int | None = None,
        on_text: OnText | None = None,
        *,
        control_tokens: bool = False,
    ) -> Answer:
        """Answer a question about an image, which starts a conversation. `on_text` gets the answer piece by piece.

        control_tokens: such tokens in the prompt (`<|im_end|>`) are taken as what they are to the model; otherwise all
        of the prompt is text. Stopped before its first token, it leaves no image.
        Raises UserError on an unreadable image or a prompt that does not fit, and where on_text calls it.
        """
        with self._turn():
            spec = self.session.manifest.prompt
            ids = first_ids(self.tokenizer, spec, prompt, typed_control=control_tokens)
            limit = self._limit(max_new_tokens)
            stream = _Stream(self, ids, on_text)
            turn = first_turn(self.session, image, ids, limit, end_ids=spec.end_ids, on_token=stream)
            return stream.answer(turn)

    def reply(
        self,
        prompt: str,
        max_new_tokens: int | None = None,
        on_text: OnText | None = None,
        *,
        control_tokens: bool = False,
    ) -> Answer:
        """Answer a further question about the same image, through `extend`. control_tokens: as `ask` has it.

        Stopped before its first token, it leaves the conversation as it was. Raises UserError before the first turn, or
        when the prompt does not fit.
        """
        with self._turn():
            transcript = self._transcript
            if transcript is None or transcript.number != self.session.progress.number or self.session.past == 0:
                raise UserError("no image yet: ask() starts a conversation, reply() continues it")
            spec = self.session.manifest.prompt
            ids = following_ids(self.tokenizer, spec, prompt, typed_control=control_tokens)
            limit = self._limit(max_new_tokens)
            stream = _Stream(self, [*transcript.ids, *ids], on_text)
            turn = next_turn(self.session, self.unfed, ids, limit, end_ids=spec.end_ids, on_token=stream)
            return stream.answer(turn)

    def stop(self) -> None:
        """End the turn that runs, within one token: it returns what it has so far. Does nothing when none runs.

        Any thread may call it at any time, and so may on_text. It takes no lock and waits for nothing.
        """
        stop = self._stop  # read once: the turn may end at any moment
        if stop is not None:
            stop.ask()

    def reset(self) -> None:
        """Forget the conversation, after the turn that runs. Raises UserError where on_text calls it."""
        self.session.reset()

    def awaits_bytes(self, tokens: Sequence[int], text: str) -> bool:
        """Whether what comes next may change the text of these tokens: bytes of its last character are still to come.

        Where tokens that are bytes (`<0xE2>`) follow one another, each may yet make all of them broken characters.
        """
        if text.endswith("\ufffd"):
            return True
        if not self._byte_tokens:
            return False
        last = next((index for index in reversed(tokens) if index not in self._left_out), None)
        return last is not None and is_byte(self.tokenizer.id_to_token(last))

    @property
    def unfed(self) -> list[int]:
        """Tokens of the last answer that the caches do not hold yet."""
        transcript = self._transcript
        if transcript is None or transcript.number != self.session.progress.number:
            return []
        return list(transcript.ids[self.session.past :])

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self.session.turn() as self._stop:
            try:
                yield
            finally:
                self._stop = None

    def _limit(self, max_new_tokens: int | None) -> int:
        most = self.session.manifest.prompt.max_new_tokens
        if max_new_tokens is None:
            return most
        if not 1 <= max_new_tokens <= most:
            raise UserError(f"max_new_tokens={max_new_tokens}: this bundle allows 1 to {most}")
        return max_new_tokens
