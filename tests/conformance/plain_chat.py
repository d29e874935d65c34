"""The host loop of docs/bundle.md, written once more: short, and apart from `runtimes/`, to check it by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer
from vlmp.runtimes.prompt import control_tokens, encode_turn


class Refused(Exception):
    """code: as the conformance files have it. facts: the numbers that the message tells."""

    def __init__(self, code: str, **facts: int) -> None:
        super().__init__(code)
        self.code, self.facts = code, facts


class Stopped(Exception):
    """A stop was asked for before a call, or while it ran."""


@dataclass
class Turn:
    """What one turn did. calls: method, past, the text ids that it was given."""

    calls: list[list[Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    stopped: bool = False


class PlainChat:
    """A conversation with a model that says the tokens of a script. held: the text ids whose rows the caches hold."""

    def __init__(self, manifest: dict[str, Any], tokenizer: Tokenizer) -> None:
        self.prompt = manifest["prompt"]
        self.tokenizer = tokenizer
        self.control = control_tokens(tokenizer, self.prompt["control_tokens"])
        self.held: list[int] = []
        self.unfed: list[int] = []
        self.turn = Turn()
        self.script: Iterator[int] = iter(())
        self.action: dict[str, Any] = {}

    @property
    def room(self) -> int:
        """Text tokens that still fit into the caches."""
        return int(self.prompt["text_len"] + self.prompt["max_new_tokens"]) - len(self.held)

    def ask(self, words: str, limit: int | None, meant: bool) -> Turn:
        ids = self.ids(self.prompt["first"], words, meant, reserved=0)
        limit = self.limit(limit)
        try:
            self.call("vision", None, [])
            self.reset()
            token = self.call("prefill", None, ids)
        except Stopped:
            self.reset()
            self.turn.stopped = True
            return self.turn
        return self.decode(token, limit)

    def reply(self, words: str, limit: int | None, meant: bool) -> Turn:
        if not self.held:
            raise Refused("no_image")
        ids = [self.prompt["end_text_id"], *self.ids(self.prompt["following"], words, meant, reserved=1)]
        limit = self.limit(limit)
        needed = len(self.unfed) + len(ids)
        if needed > self.room:
            raise Refused("full", needed=needed)
        before = list(self.held), list(self.unfed)
        try:
            for token in before[1]:
                self.call("decode", len(self.held), [token])
            token = self.call("extend", len(self.held), ids)
        except Stopped:
            self.held, self.unfed = before
            self.turn.stopped = True
            return self.turn
        except RuntimeError:
            self.held, self.unfed = before
            raise
        return self.decode(token, limit)

    def reset(self) -> None:
        self.held, self.unfed = [], []

    def decode(self, token: int, limit: int) -> Turn:
        """From the first token of the answer to its last one."""
        ends = self.prompt["end_ids"]
        shown = ""
        while True:
            tokens = self.turn.tokens
            tokens.append(token)
            self.unfed = [] if token in ends else [token]
            ended = token in ends or len(tokens) == limit or self.room == 0
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            if len(text) > len(shown) and (ended or not text.endswith("\ufffd")):
                self.turn.pieces.append(text[len(shown) :])
                shown = text
            if ended:
                return self.turn
            try:
                token = self.call("decode", len(self.held), [token])
            except Stopped:
                self.turn.stopped = True
                self.turn.pieces += [text[len(shown) :]] if text != shown else []
                return self.turn

    def call(self, method: str, past: int | None, ids: list[int]) -> int:
        """Run a method. Returns the token that its logits say; of vision there are none."""
        count = len(self.turn.calls)
        if len(self.turn.tokens) == self.action.get("stop_after", -1) or count == self.action.get("stop_in"):
            raise Stopped
        if count in (self.action.get("fails_at"), self.action.get("not_finite_at")):
            raise RuntimeError("the runtime failed")
        self.turn.calls.append([method, past, ids])
        self.held += ids
        self.unfed = []
        return -1 if method == "vision" else next(self.script)

    def ids(self, template: str, words: str, meant: bool, reserved: int) -> list[int]:
        around = len(encode_turn(self.tokenizer, template, ""))
        room = self.prompt["text_len"] - around - reserved
        ids = encode_turn(self.tokenizer, template, words, () if meant else self.control)
        if len(ids) - around > room:
            raise Refused("prompt_too_long", tokens=len(ids) - around, most=room)
        if not words.strip():
            raise Refused("empty_prompt")
        return ids

    def limit(self, limit: int | None) -> int:
        most = int(self.prompt["max_new_tokens"])
        if limit is not None and not 1 <= limit <= most:
            raise Refused("limit", most=most)
        return most if limit is None else limit


def outcome(chat: PlainChat, action: dict[str, Any]) -> dict[str, Any]:
    """What an action of the conformance files comes to."""
    chat.turn, chat.script, chat.action = Turn(), iter(action.get("script", [])), action
    turn: Callable[..., Turn] = chat.ask if action["do"] == "ask" else chat.reply
    found: dict[str, Any] = {}
    try:
        if action["do"] == "reset":
            chat.reset()
        else:
            turn(action["prompt"], action.get("limit"), action.get("control_tokens", False))
            found = {
                "tokens": chat.turn.tokens,
                "text": chat.tokenizer.decode(chat.turn.tokens, skip_special_tokens=True),
                "pieces": chat.turn.pieces,
                **({"stopped": True} if chat.turn.stopped else {}),
            }
    except Refused as error:
        found = {"refused": error.code, **error.facts}
    except RuntimeError:
        found = {"failed": True}
    return {**found, "calls": chat.turn.calls, "held": list(chat.held), "unfed": list(chat.unfed), "room": chat.room}
