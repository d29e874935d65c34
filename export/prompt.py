"""The chat template around image and text, rendered at export so that an app only inserts the user's words."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from tokenizers import Tokenizer
from vlmp.export.bundle import PromptSpec
from vlmp.export.checkpoint import read_json
from vlmp.export.errors import UserError, one_line

_MARK = "\ue000prompt\ue000"
_ANSWER = "\ue000answer\ue000"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """Template of one export and the tokenizer that goes with it."""

    prefix_ids: list[int]
    first: str
    following: str
    end_ids: list[int]
    end_text_id: int
    pad_id: int
    special_tokens: dict[str, int]
    control_tokens: list[str]
    tokenizer: Tokenizer

    def spec(self, *, text_len: int, max_new_tokens: int, tokenizer_file: str) -> PromptSpec:
        """The manifest's view."""
        return PromptSpec(
            prefix_ids=self.prefix_ids,
            first=self.first,
            following=self.following,
            text_len=text_len,
            max_new_tokens=max_new_tokens,
            end_ids=self.end_ids,
            end_text_id=self.end_text_id,
            pad_id=self.pad_id,
            special_tokens=self.special_tokens,
            control_tokens=self.control_tokens,
            tokenizer_file=tokenizer_file,
        )


def read_prompt(folder: Path, image_token: str, system_prompt: str | None) -> ChatPrompt:
    """Render the checkpoint's chat template once with marks in place of the words.

    Raises UserError when tokenizer or template are missing, or the template does not hold image and text once each.
    """
    tokenizer = _load_tokenizer(folder)
    if not tokenizer.chat_template:
        raise UserError(f"{folder} has no chat template (chat_template.jinja or in tokenizer_config.json)")
    if image_token in (system_prompt or ""):
        raise UserError(f"--system-prompt holds {image_token}, which stands for the image")
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _MARK}]}
    again = {"role": "user", "content": [{"type": "text", "text": _MARK + _MARK}]}

    def render(messages: list[dict[str, Any]]) -> str:
        try:
            return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template may raise anything
            raise UserError(f"{folder}: its chat template cannot be rendered: {one_line(error)}") from error

    whole = render([*system, user])
    if whole.count(image_token) != 1 or whole.count(_MARK) != 1 or whole.index(image_token) > whole.index(_MARK):
        raise UserError(f"{folder}: its chat template does not hold one {image_token} before the user's text")
    prefix, first = whole.split(image_token)
    longer = render([*system, user, {"role": "assistant", "content": _ANSWER}, again])
    following = longer.partition(_ANSWER)[2].replace(_MARK + _MARK, "{prompt}")
    if following.count("{prompt}") != 1:
        raise UserError(f"{folder}: its chat template does not hold an answer before the next question")

    backend = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder()
    end_text_id = backend.encode(following, add_special_tokens=False).ids[0]
    if end_text_id not in added:
        raise UserError(f"{folder}: its chat template does not end an answer with a special token")
    config_ids = _eos_ids(folder)
    return ChatPrompt(
        prefix_ids=backend.encode(prefix, add_special_tokens=False).ids,
        first=first.replace(_MARK, "{prompt}"),
        following=following[len(backend.id_to_token(end_text_id)) :],
        end_ids=sorted({end_text_id, *config_ids}),
        end_text_id=end_text_id,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_text_id,
        special_tokens={token.content: index for index, token in sorted(added.items())},
        control_tokens=_control_tokens(tokenizer),
        tokenizer=backend,
    )


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(f"checkpoint folder {folder} has no tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # many kinds, all meaning that the files do not fit
        raise UserError(f"{folder}: its tokenizer cannot be read: {one_line(error)}") from error


def _control_tokens(tokenizer: Any) -> list[str]:
    """Added tokens that are special, or that the chat template writes; spaces and line breaks are only text there."""
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    named = getattr(tokenizer, "chat_control_tokens", None)  # of newer versions: the checkpoint's own list
    if named is None:
        parts = Environment().lex(tokenizer.get_chat_template())
        written = "\0".join(text for _, kind, text in parts if kind in ("data", "string"))
        named = [token.content for token in added if token.content in written and not token.content.isspace()]
    return [token.content for token in added if token.special or token.content in named]


def _eos_ids(folder: Path) -> list[int]:
    """End ids that the checkpoint's generation config names."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return []
    eos = read_json(path).get("eos_token_id")
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(index, int) for index in ids):
        raise UserError(f"{path}: eos_token_id is {eos!r}, it must be a token id or a list of them")
    return ids
