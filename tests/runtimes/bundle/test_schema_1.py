"""Bundles of schema version 1 run as they did; the two here were made by the last vlmp that wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vlmp.runtimes import Chat, load
from vlmp.runtimes.bundle.folder import read_manifest
from vlmp.runtimes.verify import verify_bundle

FOLDER = Path(__file__).parent / "schema_1"
PHOTO = Path(__file__).parents[3] / "runtimes/assets/photo.jpg"
TARGETS = ("onnx", "executorch")


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_read_as_todays(target: str) -> None:
    raw = json.loads((FOLDER / target / "manifest.json").read_text(encoding="utf-8"))
    assert raw["schema_version"] == 1
    manifest = read_manifest(FOLDER / target)
    shape = manifest.shape
    assert (shape.image.height, shape.image.width, shape.image.visual_tokens, shape.image.fit) == (112, 112, 16, "pad")
    assert [segment.model_dump() for segment in shape.image.segments] == [
        {"rows": 4, "columns": 4, "first": 0, "stride": 4, "box": (0, 0, 112, 112)}
    ]
    (stage,) = shape.stages
    assert (stage.place, stage.index, stage.pruner, stage.tokens, stage.num_kept) == ("layer", 2, "vlm-pruner", 16, 8)
    assert stage.settings == raw["pruner"]["settings"]
    assert [(layer.base, layer.slots) for layer in shape.kv.layers] == [(31, 63), (31, 63), (23, 55)]
    assert {(layer.kv_heads, layer.head_dim) for layer in shape.kv.layers} == {(1, 32)}
    assert shape.kv.update == {"onnx": "in_place", "executorch": "rows"}[target]
    assert [step.name for step in manifest.cost.steps] == [step["name"] for step in raw["cost"]["stages"]]
    for name in ("model", "target", "vocab_size", "tools", "files", "parity", "notes"):
        assert manifest.model_dump(mode="json")[name] == raw[name]


@pytest.mark.parametrize("target", TARGETS)
def test_it_verifies_and_answers_as_it_did(target: str) -> None:
    session = load(FOLDER / target)
    assert verify_bundle(FOLDER / target, session).status == "passed"
    chat = Chat(session)
    answer = chat.ask(PHOTO, "What is in this picture?")
    assert answer.token_ids == [438, 766, *[1487] * 6]
    assert answer.order.tolist() == [4, 12, 13, 11, 1, 3, 2, 0]
    assert chat.reply("Why?").token_ids == [696]
