"""The words of a turn become token ids. What a user types is text, whatever it looks like.

A control token (`<|im_end|>`) has its meaning where the chat template puts it. Typed by a user, it is encoded as the
characters that it is written with, as transformers does with `sanitize_control_tokens=True`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmp.runtimes.bundle.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARK = "{prompt}"
"""Stands for the user's words in a template."""


def control_tokens(tokenizer: "Tokenizer", listed: Sequence[str]) -> Sequence[str]:
    """The tokens that a user may not give: those that a manifest lists, in older bundles all special ones."""
    added = tokenizer.get_added_tokens_decoder().values()
    return listed or [token.content for token in added if token.special]


def encode_turn(tokenizer: "Tokenizer", template: str, prompt: str, control: Sequence[str] = ()) -> list[int]:
    """Token ids of a template with the user's words in it, of which those in `control` are encoded as text.

    Raises UserError when the tokenizer makes a control token of plain text.
    """
    return encode_between(tokenizer, template.split(MARK), prompt, control)


def encode_between(tokenizer: "Tokenizer", parts: Sequence[str], typed: str, control: Sequence[str] = ()) -> list[int]:
    """The same of a template that is cut where the typed words belong."""
    ids: list[int] = []
    for place, text in enumerate(_pieces(parts, typed, control)):
        ids += _encode_as_text(tokenizer, text) if place % 2 else _encode(tokenizer, text)
    meant = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.content in control}
    own = _encode(tokenizer, "".join(parts))
    if [index for index in ids if index in meant] != [index for index in own if index in meant]:
        raise UserError("the prompt is no plain text to this tokenizer, which makes a control token of it: reword it")
    return ids


def _pieces(parts: Sequence[str], typed: str, control: Sequence[str]) -> list[str]:
    """Text, control token, text, ..., text: the filled template, cut at the control tokens that the user gave."""
    longest_first = sorted(control, key=len, reverse=True)
    words = re.split(f"({'|'.join(map(re.escape, longest_first))})", typed) if control else [typed]
    before, *others = parts
    pieces = [before]
    for after in others:
        pieces[-1] += words[0]
        pieces += words[1:]
        pieces[-1] += after
    return pieces


def _encode(tokenizer: "Tokenizer", text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _encode_as_text(tokenizer: "Tokenizer", text: str) -> list[int]:
    """Ids of a text in which no added token is looked for."""
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    words = [text]
    if tokenizer.pre_tokenizer is not None:
        words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for word in words for token in tokenizer.model.tokenize(word)]
