"""Manifests of schema version 1: one picture size, one pruner, two kinds of caches. They are read as version 2."""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator
from vlmp.runtimes.bundle.manifest import METHODS, SCHEMA_VERSION, Count, Manifest, from_json


class _Image(BaseModel):
    height: Count
    width: Count
    grid: tuple[Count, Count]
    fit: Literal["pad", "stretch"]
    pad_rgb: tuple[int, int, int]
    resample: Literal["bicubic"]


class _Pruner(BaseModel):
    name: str
    layer: int
    visual_tokens: Count
    kept_tokens: int
    settings: dict[str, float | int]
    loop: Literal["while", "unroll", "scan"]
    by_prompt: bool = False
    exact: bool


class _Kv(BaseModel):
    update: Literal["rows", "in_place"] = "rows"
    layers: int = Field(ge=1, le=1024)
    kv_heads: Count
    head_dim: Count
    dtype: Literal["float32", "float16"]
    early_layers: int = Field(ge=0)
    early_base: Count
    early_slots: Count
    late_base: Count
    late_slots: Count

    @model_validator(mode="after")
    def _split(self) -> Self:
        if self.early_layers > self.layers:
            raise ValueError(f"early_layers is {self.early_layers}, more than all {self.layers} layers")
        return self


class _Parts(BaseModel):
    """What has moved since."""

    image: _Image
    pruner: _Pruner
    kv: _Kv
    methods: dict[str, Any]


def upgraded(raw: dict[str, Any]) -> Manifest:
    """A manifest of version 1 as one of today's. Raises pydantic's ValidationError where a field does not fit."""
    parts = _Parts.model_validate_json(json.dumps(raw), strict=True)
    image, pruner, kv = parts.image, parts.pruner, parts.kv
    rows, columns = image.grid
    shape = {
        "image": {
            **image.model_dump(exclude={"grid"}),
            "visual_tokens": pruner.visual_tokens,
            "segments": [
                {"rows": rows, "columns": columns, "first": 0, "stride": columns,
                 "box": (0, 0, image.width, image.height)}
            ],
        },
        "stages": [
            {**pruner.model_dump(include={"settings", "loop", "by_prompt", "exact"}), "place": "layer",
             "index": pruner.layer, "pruner": pruner.name, "tokens": pruner.visual_tokens,
             "num_kept": pruner.kept_tokens}
        ],
        "kv": {
            "update": kv.update,
            "dtype": kv.dtype,
            "layers": [
                {"kv_heads": kv.kv_heads, "head_dim": kv.head_dim,
                 "base": kv.early_base if layer < kv.early_layers else kv.late_base,
                 "slots": kv.early_slots if layer < kv.early_layers else kv.late_slots}
                for layer in range(kv.layers)
            ],
        },
        "methods": {name: name for name in METHODS if name in parts.methods},
    }  # fmt: skip
    cost = raw.get("cost")
    if isinstance(cost, dict):
        cost = {**cost, "steps": cost.get("stages", [])}
    return from_json({**raw, "schema_version": SCHEMA_VERSION, "shapes": [shape], "cost": cost})
