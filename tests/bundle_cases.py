"""Parts of manifests for tests that need no real bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmp.runtimes.bundle.manifest import (
    METHODS,
    ImageSpec,
    KvLayerSpec,
    KvSpec,
    Manifest,
    SegmentSpec,
    ShapeSpec,
    StageSpec,
)
from vlmp.runtimes.bundle.tensors import expected_tensors


def image_spec(
    rows: int,
    columns: int,
    side: int = 28,
    *,
    fit: Any = "pad",
    pad_rgb: tuple[int, int, int] = (1, 2, 3),
    **others: Any,
) -> ImageSpec:
    """A picture of rows x columns visual tokens of `side` pixels; `others` take the place of what follows from them."""
    fields: dict[str, Any] = {
        "height": rows * side, "width": columns * side, "fit": fit, "pad_rgb": pad_rgb, "resample": "bicubic",
        "visual_tokens": rows * columns,
    }  # fmt: skip
    fields |= others
    whole = SegmentSpec(
        rows=rows, columns=columns, first=0, stride=columns, box=(0, 0, fields["width"], fields["height"])
    )
    return ImageSpec(**{"segments": [whole], **fields})


def shape_spec(
    image: ImageSpec, *, kept: int, layer: int, layers: int, text_room: int, prefix: int = 0,
    pruner: str = "vlm-pruner", kv_heads: int = 1, head_dim: int = 2, dtype: Any = "float32", update: Any = "rows",
    settings: Any = None, then: Sequence[tuple[int, int]] = (),
) -> ShapeSpec:  # fmt: skip
    """A shape with a stage before decoder layer `layer` of `layers`. then: layer and kept tokens of stages after it."""
    stages: list[StageSpec] = []
    left, bases = image.visual_tokens, [prefix + image.visual_tokens] * layers
    for index, num_kept in [(layer, kept), *then]:
        stages.append(
            StageSpec(
                place="layer", index=index, pruner=pruner, tokens=left, num_kept=num_kept, settings=settings or {},
                loop="while", exact=True,
            )
        )  # fmt: skip
        left = num_kept
        bases[index:] = [prefix + left] * (layers - index)
    caches = [KvLayerSpec(kv_heads=kv_heads, head_dim=head_dim, base=base, slots=base + text_room) for base in bases]
    kv = KvSpec(update=update, dtype=dtype, layers=caches)
    return ShapeSpec(image=image, stages=stages, kv=kv, methods={name: name for name in METHODS})


def smallest() -> dict[str, Any]:
    """A manifest of one visual token and two layers, without files, as JSON has it."""
    return with_tensors(_smallest())


def with_tensors(raw: dict[str, Any]) -> dict[str, Any]:
    """Each method with the inputs and outputs that follow from the sizes."""
    manifest = Manifest.model_validate(raw)
    for name in METHODS:
        for side, tensors in zip(("inputs", "outputs"), expected_tensors(manifest, name), strict=True):
            raw["methods"][name][side] = [
                {"name": tensor, "shape": shape, "dtype": dtype} for tensor, (shape, dtype) in tensors.items()
            ]
    return raw


def _smallest() -> dict[str, Any]:
    shape = shape_spec(image_spec(1, 1), kept=1, layer=1, layers=2, text_room=2, pruner="none")
    return {
        "model": "m", "checkpoint": "c", "target": "onnx", "precision": "float32", "quantization": "none",
        "vocab_size": 1, "tools": {}, "shapes": [shape.model_dump(mode="json")],
        "prompt": {"prefix_ids": [], "first": "{prompt}", "following": "{prompt}", "text_len": 1,
                   "max_new_tokens": 1, "end_ids": [], "end_text_id": 0, "pad_id": 0, "tokenizer_file": "a"},
        "methods": {name: {"file": "a", "entry": "", "inputs": [], "outputs": []} for name in METHODS},
        "parity": {"status": "skipped", "runtime": ""},
    }  # fmt: skip
