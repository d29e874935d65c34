"""Python's tokenizer, prompts and streaming against the conformance files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conformance_files import FOLDER, read
from conformance_readers import changed, code_points
from make_dialogs import small_manifest
from PIL import Image
from scripted import ScriptedSession
from tokenizers import Tokenizer
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.prompt import control_tokens, encode_turn, load_tokenizer

PHOTO = Image.new("RGB", (8, 8))


def tokenizer_of(name: str) -> Tokenizer:
    """As a bundle's is opened."""
    return load_tokenizer(FOLDER / f"tokenizer/{name}", Manifest.model_validate(small_manifest("rows")))


KINDS = ("tiny", "trained", "older", "llama", "smollm", "llama3")


@pytest.mark.parametrize("name", KINDS)
def test_tokenizers(name: str) -> None:
    cases, tokenizer = read(f"tokenizer/{name}/cases.json"), tokenizer_of(name)
    for text, ids, *decoded in cases["encode"]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text
        assert tokenizer.decode(ids, skip_special_tokens=True) == (decoded[0] if decoded else text)
    for text, ids in cases["as_text"]:
        brackets = [one.content for one in tokenizer.get_added_tokens_decoder().values() if one.content[0] == "<"]
        assert encode_turn(tokenizer, "{prompt}", text, brackets) == ids
    for ids, text in cases["decode"]:
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    points = code_points(name)
    assert len(points) == (48351 if name in ("tiny", "trained") else 0)
    for point, ids in points:
        assert tokenizer.encode(point, add_special_tokens=False).ids == ids


@pytest.mark.parametrize(
    "case", [case for case in read("tokenizer/refused.json")["cases"] if case["class"] == "damaged"], ids=str
)
def test_damaged_tokenizers(tmp_path: Path, case: dict[str, Any]) -> None:
    """What is refused because ids would be others is no matter for the library, which knows how to make them."""
    raw = json.loads((FOLDER / "tokenizer/tiny/tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(raw, case)), encoding="utf-8")
    with pytest.raises(UserError, match="is no tokenizer"):
        load_tokenizer(tmp_path, Manifest.model_validate(small_manifest("rows")))


def test_prompts() -> None:
    tokenizers = {name: tokenizer_of(name) for name in KINDS}
    refused = 0
    for case in read("prompt/cases.json")["cases"]:
        tokenizer = tokenizers[case["tokenizer"]]
        control = () if case["meant"] else control_tokens(tokenizer, case["control_tokens"])
        if "refused" in case:
            refused += 1
            with pytest.raises(UserError, match="makes a control token of it"):
                encode_turn(tokenizer, case["template"], case["prompt"], control)
        else:
            assert encode_turn(tokenizer, case["template"], case["prompt"], control) == case["ids"], case
    assert refused > 1


@pytest.mark.parametrize("name", ["tiny", "trained", "llama"])
def test_streams(name: str) -> None:
    """The ids are a model's answer; the limit ends it."""
    raw: Any = small_manifest("rows")
    raw["prompt"]["end_ids"] = []  # those that are not special are text here
    raw["vocab_size"] = 2**16
    raw["prompt"]["first"] = "{prompt}"  # the manifest's own is many tokens to some
    chat = Chat(ScriptedSession(Manifest.model_validate(raw)), tokenizer_of(name))
    session = chat.session
    assert isinstance(session, ScriptedSession)
    for case in read("stream/cases.json")["cases"]:
        if case["tokenizer"] != name:
            continue
        pieces: list[str] = []
        session.reset()
        session.script = iter(case["ids"])
        answer = chat.ask(PHOTO, "Why?", len(case["ids"]), pieces.append)
        assert pieces == [chunk for chunk in case["chunks"] if chunk]
        assert answer.text == "".join(case["chunks"])
