"""The tiny checkpoint in `export/assets`: complete, consistent, offline, and right about what it sees."""

from __future__ import annotations

import json
import socket
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2VLForConditionalGeneration
from vlmp.evaluation.scenes import sample

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "export/assets/vlmp-tiny"
SIZE_LIMIT_BYTES = 16_000_000
QUESTIONS = 60
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection fail, so that a loader which asks the hub for anything is noticed."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the tiny checkpoint must load without a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))


def encode(tokenizer: Any, question: str) -> dict[str, torch.Tensor]:
    """One question about a picture of 12 x 12 visual tokens."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * 144), return_tensors="pt")
    is_image = encoded["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return {**encoded, "mm_token_type_ids": is_image.long()}


def test_folder_is_small_and_holds_no_pickle() -> None:
    assert {path.name for path in FOLDER.iterdir()} == FILES
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= SIZE_LIMIT_BYTES


def test_weights_are_float16_in_the_hub_layout_with_a_tied_head(config: dict[str, Any]) -> None:
    with safe_open(FOLDER / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert {file.get_slice(name).get_dtype() for name in names} == {"F16"}
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in names
    assert {"model.embed_tokens.weight", "model.layers.5.self_attn.q_proj.bias", "model.norm.weight"} <= names
    assert {"visual.patch_embed.proj.weight", "visual.blocks.3.attn.qkv.weight", "visual.merger.mlp.2.bias"} <= names


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_tokenizer_round_trip(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
    assert all(0 <= index < len(tokenizer) for index in ids)


def test_everyday_english_costs_few_tokens(tokenizer: Any) -> None:
    assert len(tokenizer("What colour is the large circle on the left?")["input_ids"]) == 10


def test_special_ids_agree_with_config(tokenizer: Any, config: dict[str, Any]) -> None:
    text_config = config["text_config"]
    expected = {
        "<|endoftext|>": text_config["bos_token_id"],
        "<|im_end|>": text_config["eos_token_id"],
        "<|image_pad|>": config["image_token_id"],
        "<|video_pad|>": config["video_token_id"],
        "<|vision_start|>": config["vision_start_token_id"],
        "<|vision_end|>": config["vision_end_token_id"],
    }
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in expected} == expected
    assert tokenizer("".join(expected))["input_ids"] == list(expected.values())  # each stays one token inside a text
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert len(tokenizer) <= text_config["vocab_size"]
    generation = json.loads((FOLDER / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [expected["<|im_end|>"], expected["<|endoftext|>"]]


def test_chat_template_adds_a_system_turn_and_marks_the_image(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]
    user = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Hi<|im_end|>\n"
    default = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == default + user
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == default + user + "<|im_start|>assistant\n"
    messages = [{"role": "system", "content": "Be brief."}, *messages, {"role": "assistant", "content": "Yes."}]
    own = "<|im_start|>system\nBe brief.<|im_end|>\n"
    answer = "<|im_start|>assistant\nYes.<|im_end|>\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == own + user + answer


def test_held_out_questions_are_answered_right_from_the_image(tokenizer: Any) -> None:
    """By transformers' own model; without its picture a question cannot be answered nearly as often."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(FOLDER, backend="pil")
    right = {"seen": 0, "blank": 0}
    for _, scene, asked in sample("test", 11, QUESTIONS):
        pixels = processor(images=[scene.image], return_tensors="pt")
        assert pixels["image_grid_thw"].tolist() == [[1, 24, 24]]
        for question in asked:
            inputs = {**encode(tokenizer, question.text), **pixels}
            for name, values in (("seen", pixels["pixel_values"]), ("blank", torch.zeros_like(pixels["pixel_values"]))):
                ids = model.generate(**inputs | {"pixel_values": values}, max_new_tokens=6)
                said = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                right[name] += said == question.answer
    assert right["seen"] >= 0.8 * QUESTIONS
    assert right["blank"] <= 0.3 * QUESTIONS
