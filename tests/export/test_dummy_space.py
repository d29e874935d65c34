"""Prompts of models whose tokenizers put spaces and begin tokens of their own before a text."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from make_texts import random_text
from prompt_cases import filled
from tokenizer_kinds import Form, llama3_like, llama_like, smollm_like
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from vlmp.export.dummy_space import without_dummy_space
from vlmp.export.models.spec import PromptSpec
from vlmp.export.prompt import ChatPrompt, read_prompt
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.prompt import encode_turn

LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {% for part in "
    "message['content'] %}{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SMOL = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize + ':' }}{% if message['content'] is "
    "string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}{{ '<image>' if part['type'] == "
    "'image' else part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}Assistant:"
)
LFM = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}{% if message['content'] is "
    "string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}{{ '<image>' if part['type'] == "
    "'image' else part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
IMAGE = PromptSpec(image_token="<image>")
FORMS: list[Form] = ["prepend", "always", "first", "never"]


def checkpoint(folder: Path, tokenizer: Tokenizer, template: str, bos: str | None, eos: str) -> Path:
    """A folder with a tokenizer as the hub has it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "TokenizersBackend", "bos_token": bos, "eos_token": eos, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def chat(folder: Path, spec: PromptSpec, *words: str, system: str | None = None) -> list[int]:
    """Ids as a processor of transformers makes them: it writes what it has around the image, then all is encoded."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for index, text in enumerate(words):
        image = [{"type": "image"}] if index == 0 else []
        part = {"type": "text", "text": text}
        messages.append(
            {"role": "assistant", "content": text} if index % 2 else {"role": "user", "content": [*image, part]}
        )
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    text = text.replace("<image>", f"{spec.open}<image>{spec.close}")
    begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=not begun)["input_ids"])


def asked(prompt: ChatPrompt, words: str) -> list[int]:
    image = prompt.tokenizer.token_to_id("<image>")
    return [*prompt.prefix_ids, image, *encode_turn(prompt.tokenizer, prompt.first, words, prompt.control_tokens)]


def questions(seed: int, prompt: ChatPrompt) -> list[str]:
    rng = random.Random(seed)
    texts = ["What is in this picture?", " a", "  a ", "\u2581a", "\n", "12345"]
    texts += [random_text(rng, 8) for _ in range(60)]
    return [text for text in texts if text and not any(token in text for token in prompt.control_tokens)]


@pytest.mark.parametrize("system", [None, "Be brief.", " Be\u2581brief"])
@pytest.mark.parametrize("form", FORMS)
def test_llava(tmp_path: Path, form: Form, system: str | None) -> None:
    folder = checkpoint(tmp_path, llama_like(form), LLAVA, "<s>", "</s>")
    prompt = read_prompt(folder, IMAGE, system)
    assert prompt.prefix_ids[0] == 1
    assert prompt.prefix_ids.count(1) == 1
    assert prompt.end_text_id == 2
    assert prompt.end_ids == [2]
    for words in questions(3, prompt):
        assert asked(prompt, words) == chat(folder, IMAGE, words, system=system), words
    # A later turn goes on with the text of the answer, after the end token that the template does not write.
    later = encode_turn(prompt.tokenizer, prompt.following, "Why?")
    assert chat(folder, IMAGE, "What?", "A dog.", "Why?", system=system)[-len(later) :] == later


@pytest.mark.parametrize("form", FORMS)
def test_a_template_that_writes_begin_and_end(tmp_path: Path, form: Form) -> None:
    folder = checkpoint(tmp_path, llama_like(form), MISTRAL, "<s>", "</s>")
    prompt = read_prompt(folder, IMAGE, None)
    assert prompt.prefix_ids.count(1) == 1
    for words in questions(4, prompt):
        assert asked(prompt, words) == chat(folder, IMAGE, words), words
        later = [prompt.end_text_id, *encode_turn(prompt.tokenizer, prompt.following, words)]
        assert chat(folder, IMAGE, "What?", "A dog.", words)[-len(later) :] == later, words


@pytest.mark.parametrize("form", ["prepend", "first", "never"])
def test_words_right_after_the_image(tmp_path: Path, form: Form) -> None:
    folder = checkpoint(tmp_path, llama_like(form), LLAVA.replace("<image>\n", "<image>"), "<s>", "</s>")
    prompt = read_prompt(folder, IMAGE, None)
    for words in questions(5, prompt):
        assert asked(prompt, words) == chat(folder, IMAGE, words), words


def test_words_that_may_begin_with_the_space_themselves(tmp_path: Path) -> None:
    """`always` puts none before a word that has one, and a template cannot know."""
    folder = checkpoint(tmp_path, llama_like("always"), LLAVA.replace("<image>\n", "<image>"), "<s>", "</s>")
    with pytest.raises(UserError, match=r"other ids of a whole prompt than of its parts \(here with ' 12"):
        read_prompt(folder, IMAGE, None)


def test_a_tokenizer_of_pieces_that_are_split(tmp_path: Path) -> None:
    """A kind that is left as it is, and whose spaces nobody has written."""
    tokenizer = llama_like("always")
    raw = json.loads(tokenizer.to_str())
    raw["pre_tokenizer"]["split"] = True
    raw["pre_tokenizer"]["prepend_scheme"] = "first"
    folder = checkpoint(tmp_path, Tokenizer.from_str(json.dumps(raw)), LLAVA, "<s>", "</s>")
    with pytest.raises(UserError, match="other ids of a whole prompt than of its parts"):
        read_prompt(folder, IMAGE, None)


@pytest.mark.parametrize(
    ("spec", "make", "template", "bos"),
    [
        (
            PromptSpec(image_token="<image>", open="<fake_token_around_image><global-img>",
                       close="<fake_token_around_image>"),
            smollm_like, SMOL, None,
        ),
        (
            PromptSpec(image_token="<image>", open="<|image_start|>", close="<|image_end|>"),
            llama3_like, LFM, "<|startoftext|>",
        ),
    ],
    ids=["smolvlm", "lfm2"],
)  # fmt: skip
def test_byte_level_kinds(tmp_path: Path, spec: PromptSpec, make: Any, template: str, bos: str | None) -> None:
    folder = checkpoint(tmp_path, make(), template, bos, "<|im_end|>")
    prompt = read_prompt(folder, spec, "Be brief.")
    assert prompt.tokenizer.decode(prompt.prefix_ids, skip_special_tokens=False).endswith(spec.open)
    assert prompt.first.startswith(spec.close)
    for words in questions(6, prompt):
        assert asked(prompt, words) == chat(folder, spec, words, system="Be brief."), words
        later = [prompt.end_text_id, *encode_turn(prompt.tokenizer, prompt.following, words)]
        assert chat(folder, spec, "What?", "A dog.", words, system="Be brief.")[-len(later) :] == later, words
    if bos is not None:
        assert prompt.prefix_ids.count(prompt.tokenizer.token_to_id(bos)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_bundles_tokenizer_is_the_checkpoints_with_the_spaces_written(form: Form) -> None:
    rng = random.Random(8)
    original = llama_like(form)
    own = without_dummy_space(original)
    for text in (random_text(rng, 12).replace("<|im", "</s>") for _ in range(1000)):
        wanted = original.encode(text, add_special_tokens=False).ids
        assert own.tokenizer.encode(own.written(text, "start"), add_special_tokens=False).ids == wanted, text
        assert own.tokenizer.decode(wanted) == original.decode(wanted)
    assert filled(own.written("a{prompt}", "text"), "x") == "ax"


def test_others_stay_as_they_are() -> None:
    for tokenizer in (smollm_like(), llama3_like()):
        own = without_dummy_space(tokenizer)
        assert own.tokenizer is tokenizer
        assert own.written("a<image>b", "start") == "a<image>b"
