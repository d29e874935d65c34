"""Tokenizers like SentencePiece's put a space before a text. A bundle's puts none: its templates have it written out.

So readers know one kind only, and a prompt that is encoded piece by piece gives what the whole text would give.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

LINE = "\u2581"
"""What stands for a space in the vocabulary."""
WRITTEN: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": LINE}
"""Of a bundle: the normalizer of this kind, which has no pre-tokenizer."""
PREPENDED: dict[str, Any] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": LINE}, WRITTEN]}
"""The same of a checkpoint in the older form. The newer one has a pre-tokenizer, `Metaspace`."""

Rule = Literal["none", "each", "each but after a space", "first but after a space"]
"""Which of the texts between added tokens get a space."""
Place = Literal["start", "token", "text"]
"""What a piece of a prompt comes after: nothing, an added token, or text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DummySpace:
    """A bundle's tokenizer, which puts no space before a text, and the rule by which the checkpoint's does."""

    tokenizer: Tokenizer
    rule: Rule

    def written(self, text: str, after: Place) -> str:
        """The text with the spaces that the checkpoint's tokenizer puts into it. A space within a mark stays alone."""
        if self.rule == "none" or not text:
            return text
        added = sorted((token.content for token in self.tokenizer.get_added_tokens_decoder().values()), key=len)
        pieces = re.split(f"({'|'.join(map(re.escape, reversed(added)))})", text) if added else [text]
        for place in range(0, len(pieces), 2):
            here = after if place == 0 else "token"
            if self._has_space(pieces[place], here):
                pieces[place] = f" {pieces[place]}"
        return "".join(pieces)

    def _has_space(self, piece: str, after: Place) -> bool:
        if not piece or after == "text":
            return False
        if self.rule == "each":
            return True
        return not piece.startswith((" ", LINE)) and (after == "start" or self.rule == "each but after a space")


def without_dummy_space(tokenizer: Tokenizer) -> DummySpace:
    """The same tokenizer for a bundle; one of another kind stays as it is."""
    raw = json.loads(tokenizer.to_str())
    rule = _rule(raw["normalizer"], raw["pre_tokenizer"])
    if rule is None:
        return DummySpace(tokenizer=tokenizer, rule="none")
    raw.update(normalizer=WRITTEN, pre_tokenizer=None)
    for token in raw["added_tokens"]:
        token["normalized"] = False  # the normalizer only writes spaces in another way
    return DummySpace(tokenizer=Tokenizer.from_str(json.dumps(raw)), rule=rule)


def _rule(normalizer: Any, splitter: Any) -> Rule | None:
    """None for tokenizers of another kind."""
    if normalizer == PREPENDED and splitter is None:
        return "each"
    if normalizer is not None or splitter is None or splitter["type"] != "Metaspace":
        return None
    if splitter["replacement"] != LINE or splitter["split"]:
        return None
    rules: dict[str, Rule] = {
        "always": "each but after a space", "first": "first but after a space", "never": "none",
    }  # fmt: skip
    return rules[splitter["prepend_scheme"]]
