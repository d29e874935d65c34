"""The chat template is rendered once, and the pieces give the same tokens as the whole chat."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_cases import filled
from transformers import AutoTokenizer
from vlmp.export.models.spec import PromptSpec
from vlmp.export.prompt import ChatPrompt, read_prompt
from vlmp.runtimes.bundle.errors import UserError

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
IMAGE = "<|image_pad|>"
PROMPT = PromptSpec(image_token=IMAGE)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def prompt() -> ChatPrompt:
    return read_prompt(TINY, PROMPT, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of vlmp-tiny without its weights."""
    shutil.copytree(TINY, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "copy"


def encode(prompt: ChatPrompt, text: str) -> list[int]:
    return prompt.tokenizer.encode(text, add_special_tokens=False).ids


def turns(*words: str, system: str | None = None) -> list[dict[str, Any]]:
    """Question with an image, answer, question, ..."""
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for index, text in enumerate(words):
        if index % 2:
            messages.append({"role": "assistant", "content": text})
        else:
            image = [{"type": "image"}] if index == 0 else []
            messages.append({"role": "user", "content": [*image, {"type": "text", "text": text}]})
    return messages


# Without marks of the template in the words; the template itself trims nothing.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<|>{}"), min_size=1, max_size=30)


@given(question=words, answer=words, again=words, system=st.none() | words)
@settings(deadline=None, max_examples=50)
def test_pieces_are_the_chat(tokenizer: Any, question: str, answer: str, again: str, system: str | None) -> None:
    prompt = read_prompt(TINY, PROMPT, system)
    whole = tokenizer.apply_chat_template(
        turns(question, answer, again, system=system), tokenize=False, add_generation_prompt=True
    )
    head, _, tail = whole.partition(IMAGE)
    assert prompt.prefix_ids == encode(prompt, head)
    first = filled(prompt.first, question)
    following = filled(prompt.following, again)
    end = prompt.tokenizer.id_to_token(prompt.end_text_id)
    assert first + answer + end + following == tail
    first_ids, following_ids = encode(prompt, first), encode(prompt, following)
    assert [*first_ids, *encode(prompt, answer), prompt.end_text_id, *following_ids] == encode(prompt, tail)


def test_a_question_that_holds_the_mark_of_a_template(tokenizer: Any, prompt: ChatPrompt) -> None:
    question = "What does {prompt} mean in {braces}?"
    whole = tokenizer.apply_chat_template(turns(question), tokenize=False, add_generation_prompt=True)
    assert filled(prompt.first, question) == whole.partition(IMAGE)[2]


def test_ids(tokenizer: Any, prompt: ChatPrompt) -> None:
    assert prompt.end_text_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prompt.end_ids == sorted(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    assert prompt.pad_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert prompt.prefix_ids[-1] == tokenizer.convert_tokens_to_ids("<|vision_start|>")


def test_the_system_prompt_is_baked_in(prompt: ChatPrompt) -> None:
    own = read_prompt(TINY, PROMPT, "Be brief.")
    assert "Be brief." in own.tokenizer.decode(own.prefix_ids)
    assert "helpful assistant" in prompt.tokenizer.decode(prompt.prefix_ids)
    assert own.prefix_ids != prompt.prefix_ids
    assert (own.first, own.following, own.end_ids) == (prompt.first, prompt.following, prompt.end_ids)
    empty = read_prompt(TINY, PROMPT, "")
    assert "helpful" not in empty.tokenizer.decode(empty.prefix_ids)


@pytest.mark.parametrize(
    "system",
    [f"See {IMAGE} and <|im_end|>\n<|im_start|>user", "<|video_pad|>", " a <|im_<|im_end|>end|> b ", "{prompt}"],
)
def test_control_tokens_in_the_system_prompt_are_text(tokenizer: Any, prompt: ChatPrompt, system: str) -> None:
    own = read_prompt(TINY, PROMPT, system)
    chat = tokenizer.apply_chat_template(
        turns("Why?", system=system), add_generation_prompt=True, sanitize_control_tokens=True, return_dict=False
    )
    image = prompt.tokenizer.token_to_id(IMAGE)
    assert own.prefix_ids == chat[: chat.index(image)]
    assert chat.count(image) == 1
    assert (own.first, own.following, own.end_ids) == (prompt.first, prompt.following, prompt.end_ids)


def test_a_template_that_makes_something_of_the_system_prompt(folder: Path) -> None:
    """Trimmed, it is not found again; without a control token in it that does not matter."""
    path = folder / "chat_template.jinja"
    changed = "{{ message['content'] | trim | upper if message['role'] == 'system' else message['content'] }}"
    path.write_text(path.read_text().replace("{{ message['content'] }}", changed))
    own = read_prompt(folder, PROMPT, " Be brief. ")
    assert "system\nBE BRIEF.<" in own.tokenizer.decode(own.prefix_ids, skip_special_tokens=False)
    with pytest.raises(UserError, match=r"--system-prompt holds <\|im_end\|>, and the chat template"):
        read_prompt(folder, PROMPT, "Be <|im_end|> brief.")


def test_a_template_that_writes_the_system_prompt_after_the_image(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text().replace("{{ part['text'] }}", "{{ messages[0]['content'] }} {{ part['text'] }}")
    path.write_text(text)
    own = read_prompt(folder, PROMPT, "Be brief.")
    assert own.first.startswith("<|vision_end|>Be brief. {prompt}<|im_end|>")
    assert "\nBe brief. {prompt}<|im_end|>" in own.following
    with pytest.raises(UserError, match="--system-prompt holds"):
        read_prompt(folder, PROMPT, "Be <|im_end|> brief.")
    with pytest.raises(UserError, match=r"holds {prompt}, which stands for the user's text"):
        read_prompt(folder, PROMPT, "Say {prompt}.")


def test_a_template_with_our_mark_in_its_own_text(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    original = path.read_text()
    path.write_text(original.replace("a helpful", "a {prompt} helpful"))
    prompt = read_prompt(folder, PROMPT, None)
    assert "You are a {prompt} helpful assistant" in prompt.tokenizer.decode(prompt.prefix_ids)
    path.write_text(original.replace("{{ part['text'] }}", "{{ '{prompt}' }}{{ part['text'] }}"))
    with pytest.raises(UserError, match=r"holds {prompt}, which stands for the user's text"):
        read_prompt(folder, PROMPT, None)


def test_what_a_processor_writes_around_the_image(prompt: ChatPrompt) -> None:
    spec = replace(PROMPT, open="<|object_ref_start|>photo:", close="<|object_ref_end|>\n")
    found = read_prompt(TINY, spec, None)
    assert found.prefix_ids == [*prompt.prefix_ids, *encode(prompt, spec.open)]
    assert found.first == spec.close + prompt.first
    assert found.following == prompt.following


def test_an_answer_that_the_template_does_not_end(folder: Path, prompt: ChatPrompt) -> None:
    path = folder / "chat_template.jinja"
    template = path.read_text()
    assert template.count("<|im_end|>") > 1
    path.write_text(template.replace("<|im_end|>", "."))
    for spec in (PROMPT, replace(PROMPT, end_token="<|im_end|>")):
        found = read_prompt(folder, spec, None)
        assert found.end_text_id == prompt.end_text_id  # the tokenizer's eos, or the family's
        assert found.following == "." + prompt.following.replace("<|im_end|>", ".")
    named = read_prompt(folder, replace(PROMPT, end_token="<|endoftext|>"), None)
    assert named.end_text_id == prompt.tokenizer.token_to_id("<|endoftext|>") != prompt.end_text_id
    with pytest.raises(UserError, match="the tokenizer has no </s>, which ends an answer of this model"):
        read_prompt(folder, replace(PROMPT, end_token="</s>"), None)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": None}))
    with pytest.raises(UserError, match="special token, and its tokenizer has no eos_token"):
        read_prompt(folder, PROMPT, None)
    assert read_prompt(TINY, replace(PROMPT, end_token="</s>"), None).following == prompt.following


@pytest.mark.parametrize("text", ["{{ 'abc", "{% for", "{{ x | nofilter }}"])
def test_a_template_that_is_none(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text)
    with pytest.raises(UserError, match="cannot be rendered"):
        read_prompt(folder, PROMPT, None)


def test_spec(prompt: ChatPrompt) -> None:
    spec = prompt.spec(text_len=32, max_new_tokens=8, tokenizer_file="t.json")
    assert (spec.text_len, spec.max_new_tokens, spec.tokenizer_file) == (32, 8, "t.json")
    for name in ("prefix_ids", "first", "following", "end_ids", "end_text_id", "pad_id"):
        assert getattr(spec, name) == getattr(prompt, name)
    assert spec.first.count("{prompt}") == spec.following.count("{prompt}") == 1


def same(found: ChatPrompt, wanted: ChatPrompt) -> bool:
    names = ("prefix_ids", "first", "following", "end_ids", "end_text_id", "pad_id")
    return all(getattr(found, name) == getattr(wanted, name) for name in names)


def test_the_template_may_be_in_the_tokenizer_config(folder: Path, prompt: ChatPrompt) -> None:
    path = folder / "tokenizer_config.json"
    template = (folder / "chat_template.jinja").read_text()
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    (folder / "chat_template.jinja").unlink()
    assert same(read_prompt(folder, PROMPT, None), prompt)


def test_a_tokenizer_of_vocabulary_and_merges(folder: Path, prompt: ChatPrompt) -> None:
    """As the hub keeps it: without tokenizer.json, the added tokens in tokenizer_config.json."""
    raw = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(raw["model"]["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer.json").unlink()
    path = folder / "tokenizer_config.json"
    added = {str(token.pop("id")): token for token in raw["added_tokens"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens_decoder": added}))
    found = read_prompt(folder, PROMPT, None)
    assert same(found, prompt)
    text = "Wie spät ist es? 🙂 <|im_end|>\n"
    assert encode(found, text) == encode(prompt, text)


def test_the_end_of_an_answer_comes_from_the_template_where_nothing_else_says_it(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    prompt = read_prompt(folder, PROMPT, None)
    assert prompt.end_ids == [prompt.end_text_id]
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert read_prompt(folder, PROMPT, None).end_ids == [7, prompt.end_text_id]
    (folder / "generation_config.json").write_text('{"eos_token_id": null}')
    assert read_prompt(folder, PROMPT, None).end_ids == [prompt.end_text_id]


@pytest.mark.parametrize("eos", ['"x"', "[1, null]", "1.5", "{}"])
def test_end_ids_that_are_none(folder: Path, eos: str) -> None:
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {eos}}}')
    with pytest.raises(UserError, match="it must be a token id or a list of them"):
        read_prompt(folder, PROMPT, None)
