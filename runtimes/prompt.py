"""The words of a turn become token ids. What a user types is text, whatever it looks like.

A control token (`<|im_end|>`) has its meaning where the chat template puts it. Typed by a user, it is encoded as the
characters that it is written with, as transformers does with `sanitize_control_tokens=True`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmp.runtimes.bundle.errors import UserError, check_text
from vlmp.runtimes.bundle.folder import inside
from vlmp.runtimes.bundle.manifest import Manifest, PromptSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARK = "{prompt}"
"""Stands for the user's words in a template."""


def load_tokenizer(folder: Path, manifest: Manifest) -> "Tokenizer":
    """The bundle's tokenizer, without the padding and cutting that its file may ask for.

    Raises UserError when it cannot be read.
    """
    from tokenizers import Tokenizer

    path = inside(folder, manifest.prompt.tokenizer_file)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path} is no tokenizer: {error}") from error
    # transformers leaves both in the file of a tokenizer that has been used with them.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def first_ids(tokenizer: "Tokenizer", spec: PromptSpec, prompt: str, *, typed_control: bool = False) -> list[int]:
    """What a first turn feeds after the image.

    typed_control: control tokens in the prompt are control tokens, not text. Raises UserError when the prompt is empty,
    or too long: then it says how many tokens a prompt may have; and as `encode_turn`.
    """
    return _fitting(tokenizer, spec, spec.first, prompt, spec.text_len, typed_control)


def following_ids(tokenizer: "Tokenizer", spec: PromptSpec, prompt: str, *, typed_control: bool = False) -> list[int]:
    """What a later turn feeds, from the token that closes the answer on. The rest is as `first_ids` has it."""
    return [
        spec.end_text_id,
        *_fitting(tokenizer, spec, spec.following, prompt, spec.text_len - 1, typed_control),
    ]


def is_byte(token: str | None) -> bool:
    """Whether a token of the vocabulary stands for a byte, where there are such."""
    return token is not None and re.fullmatch("<0x[0-9A-Fa-f]{2}>", token) is not None


def _fitting(
    tokenizer: "Tokenizer", spec: PromptSpec, template: str, prompt: str, most: int, typed_control: bool
) -> list[int]:
    check_text("the prompt", prompt)
    control = () if typed_control else control_tokens(tokenizer, spec.control_tokens)
    around = len(encode_turn(tokenizer, template, ""))
    ids = encode_turn(tokenizer, template, prompt, control)
    if len(ids) > most:
        raise UserError(
            f"the prompt has {len(ids) - around} tokens, the bundle takes up to {most - around}: "
            "export with a larger --text-len"
        )
    if not prompt.strip():
        raise UserError("the prompt is empty: ask something about the image")
    return ids


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
