"""The runner's own tokenizer against the tokenizers library, for the kinds of other models than Qwen2."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from make_texts import random_text
from test_native_tokenizer import POINTS, differing, probe
from tokenizer_kinds import llama3_like, llama_like, smollm_like
from tokenizers import Tokenizer
from vlmp.export.dummy_space import without_dummy_space
from vlmp.runtimes.prompt import encode_turn

MERGES_FIRST = "llama3, merges first"
KINDS = ("llama", "smollm", "llama3", MERGES_FIRST)
CONTROL = {"llama": ["<s>", "</s>", "<image>"], "smollm": ["<|im_end|>", "<image>"]}


def of_kind(name: str) -> Any:
    """tokenizer.json as a bundle has it."""
    makers = {"llama": lambda: without_dummy_space(llama_like("prepend")).tokenizer, "smollm": smollm_like}
    raw = json.loads(makers.get(name, llama3_like)().to_str())
    if name == MERGES_FIRST:
        raw["model"]["ignore_merges"] = False
    return raw


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
    path.write_text(json.dumps(of_kind(request.param)), encoding="utf-8")
    return request.param, path


def texts_of(seed: int, count: int) -> list[str]:
    """Also with tokens of these kinds, and what only looks like them."""
    rng = random.Random(seed)
    others = ["<s>", "</s>", "<image>", "<0x41>", "<0xE2>", "\u2581", " \u2581 ", "\u0120", "  picture", "1234567"]
    return [random_text(rng, 16) + rng.choice(others) + random_text(rng, 8) for _ in range(count)]


def test_every_code_point_is_encoded_alike(host: Path, kind: tuple[str, Path]) -> None:
    name, path = kind
    if name == MERGES_FIRST:
        return
    around = [f"{point} {point}1{point}\u0301" for point in POINTS]
    texts = ["a".join(around[first : first + 6]) for first in range(0, len(around), 6)]
    assert differing(host, path, [*texts, *POINTS[::29]]) == []


def test_random_text_is_encoded_alike(host: Path, kind: tuple[str, Path]) -> None:
    texts = texts_of(1, 8000)
    assert differing(host, kind[1], texts) == []
    tokenizer = Tokenizer.from_file(str(kind[1]))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert probe(host, "decode", kind[1], ids) == [tokenizer.decode(one) for one in ids]


def test_random_ids_are_decoded_alike(host: Path, kind: tuple[str, Path]) -> None:
    rng = random.Random(2)
    tokenizer = Tokenizer.from_file(str(kind[1]))
    size = tokenizer.get_vocab_size() + 20  # some that are no token
    ids = [[rng.randrange(size) for _ in range(rng.randrange(20))] for _ in range(8000)]
    assert probe(host, "decode", kind[1], ids) == [tokenizer.decode(given, skip_special_tokens=True) for given in ids]


def test_what_a_user_types_is_encoded_alike(host: Path, kind: tuple[str, Path]) -> None:
    name, path = kind
    tokenizer, texts, control = Tokenizer.from_file(str(path)), texts_of(3, 1500), CONTROL.get(name, [])
    for form in ("<image>\n{prompt} ASSISTANT:", "{prompt}"):
        found = probe(host, "turn", path, texts, form, json.dumps(control))
        assert found == [encode_turn(tokenizer, form, text, control) for text in texts]


def test_pieces_of_an_answer_are_its_text(host: Path, kind: tuple[str, Path]) -> None:
    """Whatever a model says: what was handed out is not taken back, and no character comes in parts."""
    rng = random.Random(4)
    tokenizer = Tokenizer.from_file(str(kind[1]))
    size = tokenizer.get_vocab_size()
    ids = [[rng.randrange(size) for _ in range(rng.randrange(1, 14))] for _ in range(1000)]
    ids += [tokenizer.encode(text, add_special_tokens=False).ids for text in texts_of(5, 1000)]
    for given, chunks in zip(ids, probe(host, "stream", kind[1], ids), strict=True):
        assert "".join(chunks) == tokenizer.decode(given)
    emoji = tokenizer.encode("a🙂b", add_special_tokens=False).ids
    (chunks,) = probe(host, "stream", kind[1], [emoji])
    assert any("🙂" in chunk for chunk in chunks)


def test_long_words_take_no_quadratic_time(host: Path, kind: tuple[str, Path]) -> None:
    long = ["ab" * 200_000, " " * 100_000, "\n " * 50_000, "!" * 100_000, "1" * 100_000, "\U0001f642" * 20_000]
    assert differing(host, kind[1], long) == []


WRONG: list[tuple[str, str, list[str | int], Any]] = [
    ("llama", "normalizer: is an object", ["normalizer"], {"type": "Prepend", "prepend": "\u2581"}),
    ("llama", "normalizer", ["normalizer", "content"], "_"),
    ("llama", "pre_tokenizer: must be null", ["pre_tokenizer"], {"type": "Metaspace", "replacement": "\u2581"}),
    ("llama", "decoder.decoders[0]: is", ["decoder", "decoders", 0, "content"], "_"),
    ("llama", "decoder.decoders[3]: is", ["decoder", "decoders", 3, "start"], 2),
    ("llama", "decoder: must have three or four steps", ["decoder", "decoders"], []),
    ("llama", "decoder.type: is", ["decoder", "type"], "ByteFallback"),
    ("llama", "model.ignore_merges: is 'true'", ["model", "ignore_merges"], True),
    ("llama", "model.byte_fallback: must be true or false", ["model", "byte_fallback"], "yes"),
    ("llama", "added_tokens[0].normalized: is 'true'", ["added_tokens", 0, "normalized"], True),
    ("smollm", "individual_digits: is", ["pre_tokenizer", "pretokenizers", 0, "individual_digits"], False),
    ("smollm", "use_regex: is", ["pre_tokenizer", "pretokenizers", 1, "use_regex"], False),
    ("smollm", "normalizer.type: is", ["normalizer"], {"type": "Lowercase"}),
    ("llama3", "use_regex: is", ["pre_tokenizer", "pretokenizers", 1, "use_regex"], True),
    ("llama3", "pattern: is", ["pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"], r"\p{N}{1,4}"),
    ("llama3", "ignore_merges: must be true or false", ["model", "ignore_merges"], 1),
]


@pytest.mark.parametrize(("name", "message", "place", "value"), WRONG, ids=lambda value: str(value)[:40])
def test_what_it_does_not_know_is_refused(
    host: Path, tmp_path: Path, name: str, message: str, place: list[str | int], value: Any
) -> None:
    raw = of_kind(name)
    part = raw
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    refused(host, tmp_path, raw, message)


def test_a_vocabulary_without_a_token_for_each_byte(host: Path, tmp_path: Path) -> None:
    raw = of_kind("llama")
    raw["model"]["vocab"]["<0xff>"] = raw["model"]["vocab"].pop("<0xFF>")
    refused(host, tmp_path, raw, "model.vocab: has no token for byte 255")


def refused(host: Path, folder: Path, raw: Any, message: str) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    done = subprocess.run([host / "probe", "encode", path], input="[]", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
