"""Small tokenizers of each kind that models bring, as their own tokenizer.json has them; trained on our licence."""

from __future__ import annotations

import json
from typing import Any, Literal

from conformance_files import ROOT
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from vlmp.export.dummy_space import PREPENDED

THREE_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
"""Of Llama 3 and LFM2."""
OWN_WORDS = ["\u0120picture", "Stra\u00c3\u0141e", "123", "\u0120\u0120\u0120"]
"""Of `llama3_like`: in its vocabulary, and no merges lead to them."""
Form = Literal["prepend", "always", "first", "never"]


def llama_like(form: Form) -> Tokenizer:
    """As Llama's: BPE with a token for each byte, and U+2581 for a space.

    form: who puts a space before a text: the normalizer (`prepend`), as in older files, or `Metaspace` by its scheme.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="always", split=True)
    learned = _trained(learner, 500, [])
    named = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    more = [token for token, _ in sorted(learned["vocab"].items(), key=lambda pair: pair[1])]
    vocab = {token: index for index, token in enumerate([*named, *more])}
    merges = [(left, right) for left, right in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (*named[:3], "<image>", "<pad>")])
    raw = json.loads(tokenizer.to_str())
    if form == "prepend":
        raw["normalizer"] = PREPENDED
    else:
        raw["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": form, "split": False}
    raw["post_processor"] = _begins_with("<s>", 1)
    return Tokenizer.from_str(json.dumps(raw))


def smollm_like() -> Tokenizer:
    """As SmolLM2's: digits one by one, then GPT-2's words; nothing is normalized."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _trained(tokenizer, 600, pre_tokenizers.ByteLevel.alphabet())
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return tokenizer


def llama3_like() -> Tokenizer:
    """As those of Llama 3 and LFM2: digits by up to three, nothing is normalized; whole words are looked up first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(THREE_DIGITS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _trained(tokenizer, 600, pre_tokenizers.ByteLevel.alphabet())
    raw = json.loads(tokenizer.to_str())
    for word in OWN_WORDS:
        raw["model"]["vocab"].setdefault(word, len(raw["model"]["vocab"]))
    raw["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    special = ("<|startoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|image_start|>", "<|image_end|>")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    raw = json.loads(tokenizer.to_str())
    raw["post_processor"] = _begins_with(special[0], tokenizer.token_to_id(special[0]))
    return Tokenizer.from_str(json.dumps(raw))


def _trained(tokenizer: Tokenizer, size: int, alphabet: list[str]) -> dict[str, Any]:
    """Trains it, and returns its model as files have it."""
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False)
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    tokenizer.train_from_iterator([*text.splitlines(), *_OTHERS], trainer)
    return dict(json.loads(tokenizer.to_str())["model"])


_OTHERS = ["What is in this picture? Stra\u00dfe, \u00fcber, d\u00e9j\u00e0 vu, 2024 1999 100"] * 20


def _begins_with(token: str, index: int) -> dict[str, Any]:
    """A post-processor that writes a token before each text."""
    bos, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    more = [{"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, *more],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }  # fmt: skip
