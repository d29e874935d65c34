"""A manifest with round figures of work, without any bundle."""

from __future__ import annotations

from typing import Any

from vlmp.runtimes.bundle.manifest import METHODS, Manifest, Region, WorkSpec

WORK: dict[Region, WorkSpec] = {
    "vision": WorkSpec(macs=4_000_000_000, weight_bytes=10**8, cache_bytes=0, activation_bytes=10**8),
    "before": WorkSpec(macs=2_000_000_000, weight_bytes=10**7, cache_bytes=10**6, activation_bytes=10**7),
    "pruner": WorkSpec(macs=100_000_000, weight_bytes=0, cache_bytes=0, activation_bytes=10**6),
    "after": WorkSpec(macs=6_000_000_000, weight_bytes=10**9, cache_bytes=10**6, activation_bytes=10**7),
    "decode": WorkSpec(macs=250_000_000, weight_bytes=10**9, cache_bytes=2 * 10**7, activation_bytes=0),
    "extend": WorkSpec(macs=1, weight_bytes=1, cache_bytes=1, activation_bytes=1),
}


def make_manifest(*, work: dict[Region, WorkSpec] = WORK, **facts: Any) -> Manifest:
    """What a bundle says of itself; `facts` take the place of the manifest's own fields."""
    regions = {name: (name,) for name in METHODS} | {"prefill": ("before", "pruner", "after")}
    raw: dict[str, Any] = {
        "model": "m", "family": "f", "checkpoint": "c", "target": "onnx", "precision": "float32",
        "quantization": "none", "vocab_size": 1, "tools": {},
        "image": {"height": 28, "width": 28, "grid": [1, 1], "fit": "pad", "pad_rgb": [0, 0, 0], "resample": "bicubic"},
        "pruner": {"name": "none", "layer": 1, "visual_tokens": 1, "kept_tokens": 1, "settings": {}, "loop": "while",
                   "exact": True},
        "kv": {"layers": 2, "kv_heads": 1, "head_dim": 2, "dtype": "float32", "early_layers": 1, "early_base": 1,
               "early_slots": 2, "late_base": 1, "late_slots": 2},
        "prompt": {"prefix_ids": [], "first": "", "following": "", "text_len": 1, "max_new_tokens": 1, "end_ids": [],
                   "end_text_id": 0, "pad_id": 0, "special_tokens": {}, "tokenizer_file": "a"},
        "rope": {"theta": 1.0, "mrope_section": [1], "text_start": 1},
        "methods": {
            name: {"file": "a", "entry": "", "inputs": [], "outputs": [],
                   "work": {region: work[region].model_dump() for region in regions[name] if region in work}}
            for name in METHODS
        },
        "parity": {"status": "skipped", "runtime": ""},
    }  # fmt: skip
    return Manifest.model_validate(raw | facts)
