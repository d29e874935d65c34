"""A session whose graphs are a fake, and a chat on it.

Logits say the next token of a script, and a row tells which token at which place made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundle_cases import image_spec, shape_spec
from PIL import Image
from prompt_cases import filled
from tokenizers import Tokenizer
from vlmp.runtimes import Chat, Session
from vlmp.runtimes.bundle.manifest import (
    Manifest,
    MethodName,
    MethodSpec,
    ParitySpec,
    PromptSpec,
    TensorSpec,
)
from vlmp.runtimes.session import Array

TINY = Path(__file__).parents[2] / "export/assets/vlmp-tiny"
PREFIX, VISUAL, KEPT, BUCKET, ROOM, VOCAB = 3, 4, 2, 20, 12, 2048
LAYERS = 3
ONE, TWO, THREE = ((1, KEPT),), ((1, 3), (2, KEPT)), ((0, VISUAL), (1, 3), (2, KEPT))
"""Layer and kept tokens of each stage."""
START, END, STOP = 1537, 1538, 1536
FIRST = "<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
FOLLOWING = "\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
PHOTO = Image.new("RGB", (80, 40), (200, 100, 50))


def rows(layers_rows: Callable[[int], int], dtype: Any, suffix: str = "") -> list[TensorSpec]:
    return [
        TensorSpec(name=f"{part}{suffix}_{layer}", shape=[1, layers_rows(layer), 2], dtype=dtype)
        for layer in range(LAYERS)
        for part in ("key", "value")
    ]


def make_manifest(dtype: Any = "float32", room: int = ROOM, stages: Sequence[tuple[int, int]] = ONE) -> Manifest:
    (layer, left), *then = stages
    shape = shape_spec(
        image_spec(2, 2), kept=left, layer=layer, layers=LAYERS, text_room=BUCKET + room, prefix=PREFIX, dtype=dtype,
        then=then,
    )  # fmt: skip

    def base(layer: int) -> int:
        return shape.kv.layers[layer].base

    def whole(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name=name, shape=list(shape), dtype="int32")

    caches = rows(lambda layer: base(layer) + BUCKET + room, dtype, "_cache")
    visual = TensorSpec(name="visual", shape=[VISUAL, 5], dtype=dtype)
    logits = TensorSpec(name="logits", shape=[VOCAB], dtype=dtype)
    earlier = [whole(f"kept_{number}", left) for number, (_, left) in enumerate(stages[:-1])]
    kept = [*earlier, whole("kept", KEPT), whole("order", KEPT), whole("filled", 1)]
    inputs: dict[MethodName, list[TensorSpec]] = {
        "vision": [TensorSpec(name="image", shape=[1, 3, 56, 56], dtype=dtype)],
        "prefill": [whole("ids", 1, BUCKET), whole("text_len", 1), visual],
        "decode": [whole("ids", 1, 1), whole("past", 1), *caches],
        "extend": [whole("ids", 1, BUCKET), whole("text_len", 1), whole("past", 1), *caches],
    }
    outputs: dict[MethodName, list[TensorSpec]] = {
        "vision": [visual],
        "prefill": [logits, *kept, *rows(lambda layer: base(layer) + BUCKET, dtype)],
        "decode": [logits, *rows(lambda _: 1, dtype)],
        "extend": [logits, *rows(lambda _: BUCKET, dtype)],
    }
    return Manifest(
        model="m",
        checkpoint="c",
        target="fake",
        precision=dtype,
        quantization="none",
        vocab_size=VOCAB,
        shapes=[shape],
        prompt=PromptSpec(
            prefix_ids=[START, 1, 2], first=FIRST, following=FOLLOWING, text_len=BUCKET, max_new_tokens=room,
            end_ids=[STOP, END], end_text_id=END, pad_id=STOP, tokenizer_file="tokenizer.json",
        ),
        methods={name: MethodSpec(file="a", entry="", inputs=inputs[name], outputs=outputs[name]) for name in inputs},
        parity=ParitySpec(status="skipped", runtime=""),
        tools={},
    )  # fmt: skip


class FakeSession(Session):
    """Says the script token by token; checks what it is given against the manifest."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(manifest, folder)
        self.threads = threads
        self.script: Iterator[int] = iter(())
        self.calls: list[tuple[MethodName, list[int]]] = []
        self.pixels: Array | None = None

    @property
    def runtime(self) -> str:
        return "fake 1"

    def run(self, method: MethodName, inputs: Mapping[str, Array]) -> dict[str, Array]:
        spec = self.manifest.method(method)
        assert [(name.name, name.shape, name.dtype) for name in spec.inputs] == [
            (name.name, list(inputs[name.name].shape), str(inputs[name.name].dtype)) for name in spec.inputs
        ]
        outputs: dict[str, Array] = {output.name: np.zeros(output.shape, output.dtype) for output in spec.outputs}
        if method == "vision":
            self.pixels = inputs["image"]
            self.calls.append((method, []))
            return outputs
        ids = [int(token) for token in inputs["ids"][0]]
        length = int(inputs["text_len"][0]) if "text_len" in inputs else 1
        assert set(ids[length:]) <= {STOP}, "padding"
        past = int(inputs["past"][0]) if "past" in inputs else 0
        self.calls.append((method, ids[:length]))
        for layer in range(LAYERS):
            before = self.base(layer) if method == "prefill" else 0
            made = [[7000 + row, row] for row in range(before)]
            # A row of padding must never be stored.
            made += [[token if place < length else 9999, past + place] for place, token in enumerate(ids)]
            outputs[f"key_{layer}"][0] = made
            outputs[f"value_{layer}"][0] = -np.array(made)
        if method == "prefill":
            outputs.update(kept=np.array([1, 3], np.int32), order=np.array([3, 1], np.int32))
            for number, stage in enumerate(self.manifest.shape.stages[:-1]):
                outputs[f"kept_{number}"] = np.arange(VISUAL - stage.num_kept, VISUAL, dtype=np.int32)
        outputs["logits"][next(self.script)] = 1
        return outputs

    def stored(self, layer: int) -> list[list[int]]:
        """[token, position] of every text row in a layer's cache; keys and values must agree."""
        keys, values = self._caches[f"key_cache_{layer}"][0], self._caches[f"value_cache_{layer}"][0]
        np.testing.assert_array_equal(keys, -values)
        base = self.base(layer)
        assert keys[:base].tolist() == [[7000 + row, row] for row in range(base)]
        return keys[base:].astype(int).tolist()

    def base(self, layer: int) -> int:
        """Slot of the first text token after the image."""
        return self.manifest.shape.kv.layers[layer].base


class FakeChat(Chat):
    """A chat on such a session."""

    session: FakeSession

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer, kind: type[FakeSession] = FakeSession) -> None:
        super().__init__(kind(Path(), manifest), tokenizer)


def tokens(chat: Chat, text: str) -> list[int]:
    return chat.tokenizer.encode(text, add_special_tokens=False).ids


def first(chat: Chat, question: str) -> list[int]:
    return tokens(chat, filled(FIRST, question))


def following(chat: Chat, question: str) -> list[int]:
    return tokens(chat, filled(FOLLOWING, question))


def says(chat: FakeChat, *answers: Sequence[int]) -> None:
    chat.session.script = iter([token for answer in answers for token in answer])
