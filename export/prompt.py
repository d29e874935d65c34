"""The chat template around image and text, rendered at export so that an app only inserts the user's words."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from tokenizers import Tokenizer
from vlmp.export.checkpoint import read_json
from vlmp.export.dummy_space import without_dummy_space
from vlmp.export.models.spec import PromptSpec
from vlmp.runtimes.bundle import manifest
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.prompt import MARK, encode_between, encode_turn

MOST_IDS = 2**31
"""Of a vocabulary: readers keep ids in 32 bits."""
TEMPLATES = "additional_chat_templates"
"""Folder of a checkpoint's further templates."""
CHANGING: dict[str, tuple[object, ...]] = {
    "repetition_penalty": (1,), "encoder_repetition_penalty": (1,), "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,), "bad_words_ids": (), "min_length": (0,), "min_new_tokens": (0,),
    "forced_bos_token_id": (), "forced_eos_token_id": (), "suppress_tokens": (), "begin_suppress_tokens": (),
    "sequence_bias": (), "exponential_decay_length_penalty": (), "guidance_scale": (1,), "stop_strings": (),
    "watermarking_config": (), "num_beams": (1,), "num_beam_groups": (1,), "diversity_penalty": (0,),
    "penalty_alpha": (0,), "constraints": (), "force_words_ids": (), "dola_layers": (), "token_healing": (False,),
}  # fmt: skip
"""Settings of `generate` that make another answer of the same logits, and the values with which they do not."""

_MARK = "\ue000prompt\ue000"
_ANSWER = "\ue000answer\ue000"
_SAMPLES = ("What is in this picture?", " 12 \u65e5", "a\n", "\u2581x")
"""Words of a turn whose ids are compared with those of the whole prompt."""
_WORDS = " \ue000 aB\n<&'\" \ue000 \n"
_SYSTEM = "\ue000system\ue000"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """Template of one export and the tokenizer that goes with it."""

    prefix_ids: list[int]
    first: str
    following: str
    end_ids: list[int]
    end_text_id: int
    pad_id: int
    template_file: str
    notes: list[str]
    """What a user should know of what the checkpoint asks for, a sentence each."""
    control_tokens: list[str]
    tokenizer: Tokenizer

    def spec(self, *, text_len: int, max_new_tokens: int, tokenizer_file: str) -> manifest.PromptSpec:
        """The manifest's view."""
        return manifest.PromptSpec(
            prefix_ids=self.prefix_ids,
            first=self.first,
            following=self.following,
            text_len=text_len,
            max_new_tokens=max_new_tokens,
            end_ids=self.end_ids,
            end_text_id=self.end_text_id,
            pad_id=self.pad_id,
            template_file=self.template_file,
            control_tokens=self.control_tokens,
            tokenizer_file=tokenizer_file,
        )


def read_prompt(folder: Path, spec: PromptSpec, system_prompt: str | None) -> ChatPrompt:
    """Render the checkpoint's chat template once with marks in place of the words.

    spec: what the model's family adds to its files. Raises UserError when tokenizer or template are missing, or the
    template does not hold image and text once each.
    """
    image_token = spec.image_token
    tokenizer = _load_tokenizer(folder)
    template, template_file = _find_template(folder, tokenizer)
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _MARK}]}
    again = {"role": "user", "content": [{"type": "text", "text": _MARK + _MARK}]}

    def render(messages: list[dict[str, Any]]) -> str:
        try:
            return tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        except TypeError as error:  # as of adding a list to a text
            raise UserError(
                f"{folder}: its chat template ({template_file}) cannot be rendered with a picture: {one_line(error)}"
            ) from error
        except Exception as error:  # a template may raise anything
            raise UserError(
                f"{folder}: its chat template ({template_file}) cannot be rendered: {one_line(error)}"
            ) from error

    def renders(answer: dict[str, Any]) -> bool:
        try:
            return _ANSWER in render([user, answer, again])
        except UserError:
            return False

    # Some templates, as LLaVA's, take nothing but a list of parts, and leave plain text out without a word.
    in_parts = not renders(_said("assistant", _ANSWER)) and renders(_said("assistant", _ANSWER, parts=True))

    def with_system(text: str) -> list[dict[str, Any]]:
        return [] if system_prompt is None else [_said("system", text, parts=in_parts)]

    def later_turn(system: list[dict[str, Any]]) -> str:
        return render([*system, user, _said("assistant", _ANSWER, parts=in_parts), again]).partition(_ANSWER)[2]

    system, own = with_system(_SYSTEM), with_system(system_prompt or "")
    whole = render([*system, user])
    control = _control_tokens(tokenizer, template)
    as_given = whole.replace(_SYSTEM, system_prompt or "") == render([*own, user])
    if not as_given or _SYSTEM in whole.partition(image_token)[2] + later_turn(system):
        typed = next((token for token in control if token in (system_prompt or "")), None)
        if typed:
            raise UserError(f"--system-prompt holds {typed}, and the chat template ({template_file}) makes more of it")
        system = own
        whole = render([*system, user])
    if whole.count(image_token) != 1 or whole.count(_MARK) != 1 or whole.index(image_token) > whole.index(_MARK):
        raise UserError(
            f"{folder}: its chat template ({template_file}) does not hold one {image_token} before the user's text as "
            "it was typed"
        )
    typed_words = render([*system, _with_text(user, _WORDS)])
    changed = _changed_words(f"{folder}: its chat template ({template_file})", whole, typed_words)
    prefix, first = whole.split(image_token)
    prefix, first = prefix + spec.open, (spec.close + first).replace(_MARK, MARK)
    following = later_turn(system).replace(_MARK + _MARK, MARK)
    if first.count(MARK) != 1:
        raise UserError(f"{folder}: its chat template ({template_file}) holds {MARK}, which stands for the user's text")
    if following.count(MARK) != 1:
        raise UserError(
            f"{folder}: its chat template ({template_file}) does not hold an answer before the next question"
        )

    backend = tokenizer.backend_tokenizer
    ours = without_dummy_space(backend)
    end_text_id = backend.encode(following, add_special_tokens=False).ids[0]
    if end_text_id in backend.get_added_tokens_decoder():
        following = ours.written(following[len(backend.id_to_token(end_text_id)) :], "token")
    else:
        end_text_id = _end_of_answer(f"{folder}: its chat template ({template_file})", tokenizer, spec.end_token)
        following = ours.written(following, "text")
    first = ours.written(first, "token")
    before = _added_before(folder, tokenizer, prefix)
    typed_system = system_prompt or ""
    parts = ours.written(prefix, "start").split(_SYSTEM)
    checked = not any(token in typed_system for token in control)  # transformers would not take them for text
    if checked:
        parts = [ours.written(prefix.replace(_SYSTEM, typed_system), "start")]
    prefix_ids = [*before, *encode_between(ours.tokenizer, parts, typed_system, control)]
    if checked:
        around = whole.replace(_SYSTEM, typed_system).replace(image_token, f"{spec.open}{image_token}{spec.close}")
        image = backend.token_to_id(image_token)
        _check_ids(
            folder,
            lambda words: backend.encode(around.replace(_MARK, words), add_special_tokens=bool(before)).ids,
            lambda words: [*prefix_ids, image, *encode_turn(ours.tokenizer, first, words)],
        )
    generation = _generation_settings(folder)
    return ChatPrompt(
        prefix_ids=prefix_ids,
        first=first,
        following=following,
        end_ids=sorted({end_text_id, *_eos_ids(*generation)}),
        end_text_id=end_text_id,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_text_id,
        template_file=template_file,
        notes=[*_unserved(*generation), *changed],
        control_tokens=control,
        tokenizer=ours.tokenizer,
    )


def _check_ids(folder: Path, whole: Callable[[str], list[int]], parts: Callable[[str], list[int]]) -> None:
    """Raises UserError where the ids of a prompt's parts are not those of the whole prompt, with the same words."""
    for words in _SAMPLES:
        if whole(words) != parts(words):
            raise UserError(
                f"{folder}: its tokenizer makes other ids of a whole prompt than of its parts (here with {words!r}), "
                "which is not served"
            )


def _end_of_answer(where: str, tokenizer: Any, named: str | None) -> int:
    """What ends an answer where the template does not say it: the token that the family names, or eos."""
    token = named or tokenizer.eos_token
    if token is None:
        raise UserError(f"{where} does not end an answer with a special token, and its tokenizer has no eos_token")
    found = tokenizer.backend_tokenizer.token_to_id(token)
    if found is None:
        raise UserError(f"{where}: the tokenizer has no {token}, which ends an answer of this model")
    return int(found)


def _said(role: str, text: str, *, parts: bool = False) -> dict[str, Any]:
    """A message without a picture, as plain text or as a list of parts."""
    return {"role": role, "content": [{"type": "text", "text": text}] if parts else text}


def _with_text(user: dict[str, Any], text: str) -> dict[str, Any]:
    """The same turn with other words."""
    picture, _ = user["content"]
    return {**user, "content": [picture, {"type": "text", "text": text}]}


def _changed_words(where: str, marked: str, rendered: str) -> list[str]:
    """A sentence where a template trims the user's words, which readers do not.

    marked, rendered: the same turn with a mark and with _WORDS. Raises UserError where it makes anything else of them.
    """
    if marked.replace(_MARK, _WORDS) == rendered:
        return []
    if marked.replace(_MARK, _WORDS.strip()) == rendered:
        return ["the chat template trims what a user types; here it is taken as it is"]
    raise UserError(f"{where} changes the user's text, which is not served")


def _added_before(folder: Path, tokenizer: Any, prefix: str) -> list[int]:
    """Tokens that the tokenizer itself puts before a text, unless the template has written that one.

    Raises UserError where it adds others.
    """
    backend = tokenizer.backend_tokenizer
    bare, full = (backend.encode(prefix, add_special_tokens=special).ids for special in (False, True))
    more = len(full) - len(bare)
    if full[more:] != bare:
        raise UserError(f"{folder}: its tokenizer adds special tokens after a text, which are not served")
    written = tokenizer.bos_token is not None and prefix.startswith(tokenizer.bos_token)
    return [] if written else full[:more]


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(f"checkpoint folder {folder} has no tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # many kinds, all meaning that the files do not fit
        raise UserError(f"{folder}: its tokenizer cannot be read: {one_line(error)}") from error
    # What its training padded and cut, transformers does not where it is not asked to.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def _find_template(folder: Path, tokenizer: Any) -> tuple[str, str]:
    """The chat template and the file that it is from, where transformers' processors look, in their order."""
    extra = sorted((folder / TEMPLATES).glob("*.jinja"))
    for name in ("processor_config.json", "chat_template.json"):
        path = folder / name
        template = read_json(path).get("chat_template") if path.is_file() else None
        if name == "chat_template.json" and path.is_file() and extra:
            raise UserError(f"{folder} has {name} and {TEMPLATES}/{extra[0].name}: only one of the two can be meant")
        if template is not None:
            return _default_of(path, template), name
    path = folder / "chat_template.jinja"
    if path.is_file():  # also before a default among the others, which transformers' tokenizers would take
        return _read_text(path), path.name
    name = f"{TEMPLATES}/default.jinja" if extra else "tokenizer_config.json"
    if not tokenizer.chat_template:
        raise UserError(
            f"{folder} has no chat template (chat_template.jinja, chat_template.json, or in processor_config.json or "
            "tokenizer_config.json)"
        )
    return _default_of(folder / name, tokenizer.chat_template), name


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _default_of(path: Path, template: Any) -> str:
    """The template itself, or the one called `default` of several. Raises UserError where there is none."""
    found = template.get("default") if isinstance(template, dict) else template
    if not isinstance(found, str):
        raise UserError(f"{path}: its chat template must be a text, or several with one called default")
    return found


def _control_tokens(tokenizer: Any, template: str) -> list[str]:
    """Added tokens that are special, or that the chat template writes; spaces and line breaks are only text there."""
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    named = getattr(tokenizer, "chat_control_tokens", None)  # of newer versions: the checkpoint's own list
    if named is None:
        parts = Environment().lex(template)
        written = "\0".join(text for _, kind, text in parts if kind in ("data", "string"))
        named = [token.content for token in added if token.content in written and not token.content.isspace()]
    return [token.content for token in added if token.special or token.content in named]


# --- Generation -------------------------------------------------------------------------------------------------------


def _generation_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """What `generate` goes by: generation_config.json; where it is missing config.json, and then its text model's."""
    path = folder / "generation_config.json"
    if path.is_file():
        return path, read_json(path)
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    text = config.get("text_config")
    layers = [text if isinstance(text, dict) else {}, config]
    return path, {name: value for layer in layers for name, value in layer.items() if value is not None}


def _eos_ids(path: Path, settings: dict[str, Any]) -> list[int]:
    eos = settings.get("eos_token_id")
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in ids):
        raise UserError(f"{path}: eos_token_id is {eos!r}, it must be a token id or a list of them")
    return [index for index in ids if 0 <= index < MOST_IDS]  # -1 is written for none


def _unserved(path: Path, settings: dict[str, Any]) -> list[str]:
    """A sentence on the settings that would make a greedy answer another one: our answers are greedy without them."""
    asked = [name for name, neutral in CHANGING.items() if settings.get(name) not in (*neutral, None, [], {})]
    return [f"{path.name} asks for {', '.join(asked)}: answers are greedy without"] if asked else []
