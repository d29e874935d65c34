"""A profile of two bundles with everything in it, no bundle having been run."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from bundle_cases import image_spec
from estimate_cases import TOWER, WORK, make_manifest
from PIL import Image
from vlmp.runtimes.bundle.manifest import WorkSpec
from vlmp.runtimes.draw import draw_kept
from vlmp.runtimes.profile.phones import estimate, find_phone
from vlmp.runtimes.profile.roofline import rooflines
from vlmp.runtimes.profile.schema import BundleProfile, Peaks, Phase, PhaseName, Profile

PEAKS = Peaks(gop_s={"float32": 210}, gb_s=18.4, how="measured on this machine with threads=2: a product and a copy")
PRUNED = WORK | {
    "after": WORK["after"].model_copy(update={"macs": 1_700_000_000, "weight_bytes": 10**8}),
    "pruner": WORK["pruner"].model_copy(update={"macs": 20_000_000}),
}
UNPRUNED = WORK | {
    "after": WORK["after"].model_copy(update={"weight_bytes": 10**8}),
    "pruner": WorkSpec(macs=0, weight_bytes=0, cache_bytes=0, activation_bytes=0),
}
WORKS = (UNPRUNED, PRUNED)
TIMES: dict[PhaseName, tuple[float, float]] = {
    "load_cold": (210, 214), "load_warm": (61, 63), "preprocess": (3.1, 3.0), "vision": (61.7, 62.1),
    "prefill": (128.2, 68.4), "prefill_before": (41.9, 42.3), "prefill_pruner": (0.4, 8.3),
    "prefill_after": (85.9, 17.8), "decode": (68.3, 64.1), "first_token": (193.0, 133.5),
}  # fmt: skip


def make_phase(median_ms: float) -> Phase:
    return Phase(
        median_ms=median_ms, low_ms=0.96 * median_ms, high_ms=1.05 * median_ms, samples_ms=[median_ms, median_ms]
    )


def kept_picture() -> str:
    """A small one in base64."""
    spec = image_spec(4, 4, pad_rgb=(0, 0, 0))
    photo = Image.open(Path(str(files("vlmp.runtimes"))) / "assets" / "photo.jpg").convert("RGB")
    packed = io.BytesIO()
    draw_kept(photo, spec, np.array([3, 8, 5, 14])).save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()


def make_bundle(index: int, name: str, **facts: Any) -> dict[str, Any]:
    phases = {phase: make_phase(both[index]) for phase, both in TIMES.items()}
    kept = (576, 64)[index]
    operators = [
        {"method": "prefill", "region": region, "op": op, "calls": calls, "ms": ms}
        for region, op, calls, ms in [
            ("before", "MatMul", 14, 38.1), ("after", "MatMul", 182, (80.2, 14.1)[index]),
            ("pruner", "Loop", 1, (0.1, 6.2)[index]), ("after", "Softmax", 26, 2.2), ("before", "Softmax", 2, 1.1),
        ]
    ]  # fmt: skip
    operators += [
        {"method": "decode", "region": None, "op": f"Kind{kind}", "calls": 1, "ms": 0.01 * kind} for kind in range(30)
    ]
    memory = {
        "libraries_pss_mib": 61.0, "libraries_rss_mib": 80.0, "loaded_pss_mib": 92.5, "loaded_rss_mib": 130.0,
        "ran_pss_mib": 118.3, "ran_rss_mib": 160.0, "peak_rss_mib": 171.9,
    }  # fmt: skip
    return {
        "name": name,
        "manifest": {
            "model": "vlmp-tiny", "checkpoint": "vlmp-tiny", "target": "onnx", "precision": "float32",
            "quantization": "none", "image": (336, 336), "text_len": 64, "layers": 28,
            "pruner": ("none", "vlm-pruner")[index], "prune_layer": 2, "visual_tokens": 576, "kept_tokens": kept,
        } | facts,
        "runtime": "onnxruntime 1.31.0", "size_mib": 26.2, "phases": phases,
        "prefill_split": "split by ONNX Runtime's profiler: its shares of the prefill timed without it",
        "cold_cached_share": 0.02, "memory": memory, "operators": operators,
        "operators_ms": {"prefill": TIMES["prefill"][index], "decode": 5.0},
        "roofline": rooflines(make_manifest(work=WORKS[index]), phases, PEAKS),
        "kept_picture": kept_picture() if index else None,
    }  # fmt: skip


def with_tower(profile: Profile) -> Profile:
    """The same with a stage in the second one's vision tower."""
    first, second = profile.bundles
    parts: dict[PhaseName, float] = {"vision_before": 30.0, "vision_pruner": 2.1, "vision_after": 30.0}
    stages = [
        {"place": "vision", "layer": 2, "pruner": "local", "kept_tokens": 288},
        {"layer": 2, "pruner": "vlm-pruner", "kept_tokens": 64},
    ]
    operator = {"method": "vision", "region": "vision_pruner", "op": "TopK", "calls": 3, "ms": 1.9}
    phases = second.phases | {name: make_phase(ms) for name, ms in parts.items()}
    raw = second.model_dump() | {"phases": phases}
    raw["manifest"] |= {"pruner": "local+vlm-pruner", "stages": stages}
    raw |= {"vision_split": "split by somebody", "operators": [*raw["operators"], operator]}
    raw["operators_ms"]["vision"] = 62.1
    raw["roofline"] = rooflines(make_manifest(work=PRUNED | TOWER), phases, PEAKS)
    return profile.model_copy(update={"bundles": [first, BundleProfile.model_validate(raw)]})


def make_profile(*, names: tuple[str, str] = ("onnx-none", "onnx-vlm-pruner"), **facts: Any) -> Profile:
    """An unpruned and a pruned bundle. `facts` take the place of what the second says of itself."""
    phones = [find_phone("pixel-8"), find_phone("iphone-16-pro")]
    return Profile.model_validate(
        {
            "created": "2026-11-24T22:00:00Z",
            "command": "vlmp-profile bundles/onnx-none --compare bundles/onnx-vlm-pruner",
            "machine": {
                "kind": "host", "name": "Some CPU at 2.6 GHz", "os": "Linux 6.1", "cpu": "Some CPU at 2.6 GHz",
                "cores": 2, "flags": ["avx2", "avx512f"], "memory_mib": 16000, "runtimes": {"onnxruntime": "1.31.0"},
                "facts": {"governor": "performance"},
            },
            "settings": {"runs": 9, "decode_tokens": 16, "threads": 2, "prompt": "What is in this picture?",
                         "photo": "photo.jpg", "photo_size": (640, 480)},
            "bundles": [make_bundle(0, names[0]), make_bundle(1, names[1], **facts)],
            "explanation": [
                "Pruning leaves vision, preprocessing and layers before K as they are: of 193 ms to the first token it "
                "can touch 86 ms, so that even free layers behind it would give 1.80x. It made them 4.83x faster and "
                "took 8 ms itself: 1.45x in all.",
            ],
            "peaks": PEAKS,
            "estimates": [
                estimate(name, make_manifest(work=work), phone)
                for phone in phones
                for name, work in zip(names, WORKS, strict=True)
            ],
        }
    )  # fmt: skip
