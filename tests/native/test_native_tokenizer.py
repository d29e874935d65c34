"""The runner's own tokenizer against the tokenizers library, on every code point and on random text."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from native_cases import ROOT
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.prompt import encode_turn

TINY = ROOT / "export/assets/vlmp-tiny/tokenizer.json"
POINTS = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
PIECES = [
    " ", "  ", "\n", "\r\n", "\t", "'s", "'S", "'ſ", "'LL", "'re", "'Ve", "don't", "<|im_end|>", "<|im", "|>",
    "<|vision_start|>", "café", "e\u0301", "\u0344", "한국", "\u1112\u1161\u11ab", "\u0345\u0301", "①", "½", "٣",
    "日本", "\u200b", "\u00a0", "\u3000", "\x85", "\x1c", "\ufffd", "\x00", "Hello", " world", "1234", "...", "!?",
    "😀", "_", "ﬁ", "ẛ̣", "\U00011938", "\u0f73", "\u0f71\u0f72", "a\u0316\u0301",
]  # fmt: skip
BLOCKS = (PIECES, POINTS[0x20:0x7F], POINTS[:0x800], POINTS[0x300:0x370], POINTS[0x800:0x30000], POINTS)


def probe(host: Path, task: str, tokenizer: Path, given: Any, *others: str) -> Any:
    done = subprocess.run(
        [host / "probe", task, tokenizer, *others], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def random_text(rng: random.Random) -> str:
    blocks = rng.choices(BLOCKS, weights=(12, 2, 1, 1, 2, 1), k=rng.randrange(30))
    return "".join(rng.choice(block) for block in blocks)


def differing(host: Path, path: Path, texts: list[str]) -> list[str]:
    tokenizer = Tokenizer.from_file(str(path))
    found = probe(host, "encode", path, texts)
    wanted = [encoded.ids for encoded in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [text for text, ours, theirs in zip(texts, found, wanted, strict=True) if ours != theirs]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with other merges: deep ones of bytes that are no characters, and an added token inside another."""
    rng = random.Random(5)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern()), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([random_text(rng) for _ in range(3000)], trainer)
    tokenizer.add_special_tokens([AddedToken("<|im", normalized=False), AddedToken("<|im_end|>", normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("é", normalized=False)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def pattern() -> str:
    raw = json.loads(TINY.read_text(encoding="utf-8"))
    return str(raw["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])


def test_every_code_point_is_encoded_alike(host: Path) -> None:
    assert differing(host, TINY, POINTS) == []
    around = [f"a{point}'s {point}{point}1\u0301" for point in POINTS[::3]]
    assert differing(host, TINY, around) == []


@pytest.mark.parametrize("seed", range(3))
def test_random_text_is_encoded_alike(host: Path, trained: Path, seed: int) -> None:
    rng = random.Random(seed)
    texts = [random_text(rng) for _ in range(5000)]
    assert differing(host, TINY, texts) == []
    assert differing(host, trained, texts) == []


def test_long_words_take_no_quadratic_time(host: Path) -> None:
    assert differing(host, TINY, ["ab" * 200_000, " " * 100_000, "\n " * 50_000, "!" * 100_000]) == []


def test_random_ids_are_decoded_alike(host: Path, trained: Path) -> None:
    rng = random.Random(7)
    for path in (TINY, trained):
        tokenizer = Tokenizer.from_file(str(path))
        size = tokenizer.get_vocab_size() + 20  # some that are no token
        ids = [[rng.randrange(size) for _ in range(rng.randrange(20))] for _ in range(5000)]
        assert probe(host, "decode", path, ids) == [tokenizer.decode(given, skip_special_tokens=True) for given in ids]


CONTROL = ["<|im", "<|im_end|>", "<|vision_start|>", "<tool>"]
TYPED = [
    "<|im_<|im_end|>end|>", "<|im_end|><|im_end|>", "<|im<|im_end|>", "<tool><|im", "<|im_end|", "{prompt}<|im_end|>",
    "e<|im_end|>\u0301", "\u0301<tool>\u0301", "\n<|im_end|>\n", "", "what", "cafe\u0301",
]  # fmt: skip


@pytest.mark.parametrize(
    "form", ["<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n", "{prompt}", "a{prompt}b"]
)
def test_what_a_user_types_is_encoded_alike(host: Path, trained: Path, form: str) -> None:
    rng = random.Random(11)
    texts = [*TYPED, *(random_text(rng) for _ in range(3000))]
    for path, control in ((TINY, CONTROL), (trained, CONTROL), (trained, ["<|im_end|>", "<|im"]), (TINY, [])):
        tokenizer = Tokenizer.from_file(str(path))
        found = probe(host, "turn", path, texts, form, json.dumps(control))
        assert found == [encode_turn(tokenizer, form, text, control) for text in texts]


def test_a_tokenizer_that_makes_a_control_token_of_text_is_refused(host: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(TINY))
    tokenizer.add_special_tokens([AddedToken("what", normalized=False)])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    for prompt in ("what is it?", "somewhat"):
        with pytest.raises(UserError) as caught:
            encode_turn(tokenizer, "{prompt}", prompt, ["what"])
        assert probe(host, "turn", path, [prompt], "{prompt}", json.dumps(["what"])) == [str(caught.value)]


def test_padding_and_truncation_are_not_looked_at(host: Path, tmp_path: Path) -> None:
    raw = json.loads(TINY.read_text(encoding="utf-8"))
    assert raw["padding"] is raw["truncation"] is None
    tokenizer = Tokenizer.from_file(str(TINY))
    tokenizer.enable_padding(pad_to_multiple_of=8, pad_id=1536, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(max_length=3)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    text = "What is in this picture?"
    wanted = Tokenizer.from_file(str(TINY)).encode(text, add_special_tokens=False).ids
    assert probe(host, "encode", path, [text]) == [wanted]
    assert len(wanted) not in (3, 8)


def test_merges_of_older_files_and_files_without_a_normalizer(host: Path, tmp_path: Path) -> None:
    raw = json.loads(TINY.read_text(encoding="utf-8"))
    raw["model"]["merges"] = [" ".join(pair) for pair in raw["model"]["merges"]]
    raw["normalizer"] = None
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    rng = random.Random(9)
    assert differing(host, path, [random_text(rng) for _ in range(2000)]) == []


WRONG: list[tuple[str, list[str | int], Any]] = [
    ("model.type: is '\"Unigram\"'", ["model", "type"], "Unigram"),
    ("model.dropout: is '0.5'", ["model", "dropout"], 0.5),
    ("model.merges[0]: the vocabulary has no token 'xyz'", ["model", "merges", 0], ["xyz", "e"]),
    ("model.merges[1]: must be two tokens", ["model", "merges", 1], ["a"]),
    ("model.vocab.'a': must be a whole number", ["model", "vocab", "a"], -1),
    ("another token has its id", ["model", "vocab", "a"], 70),
    ("model.vocab: must be an object", ["model", "vocab"], []),
    ("model.merges: must be a list", ["model", "merges"], {}),
    ("normalizer.type: is '\"NFKC\"'", ["normalizer", "type"], "NFKC"),
    ("this vlmp needs", ["pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"], r"\p{L}+"),
    ("pre_tokenizer.type", ["pre_tokenizer"], {"type": "ByteLevel"}),
    ("decoder.type", ["decoder", "type"], "WordPiece"),
    ("added_tokens[0].lstrip: is 'true'", ["added_tokens", 0, "lstrip"], True),
    ("added_tokens[0].content: is empty", ["added_tokens", 0, "content"], ""),
    ("added_tokens[0].id: is not the token's own", ["added_tokens", 0, "id"], 3),
]


@pytest.mark.parametrize(("message", "place", "value"), WRONG, ids=lambda value: str(value)[:40])
def test_what_it_does_not_know_is_refused(
    host: Path, tmp_path: Path, message: str, place: list[str | int], value: Any
) -> None:
    raw = json.loads(TINY.read_text(encoding="utf-8"))
    part = raw
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    done = subprocess.run([host / "probe", "encode", path], input="[]", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
