"""Profiles as apps write them, and one that `vlmp-profile --import` refuses. The figures are made up."""

from __future__ import annotations

from pathlib import Path
from statistics import median, quantiles
from typing import Any

from conformance_files import write_json

MACHINES: dict[str, dict[str, Any]] = {
    "ios": {
        "name": "example iPhone", "os": "iOS 26.1", "cpu": "unknown", "cores": 6, "memory_mib": 7600,
        "runtimes": {"Core ML": "26.1"}, "facts": {"battery": "91 %", "low power mode": "off"},
    },
    "android": {
        "name": "example Android phone", "os": "Android 16", "cpu": "unknown", "cores": 8, "memory_mib": 11500,
        "runtimes": {"onnxruntime": "1.29.0"}, "facts": {"power save": "off"},
    },
    "browser": {
        "name": "example browser", "os": "Android", "cpu": "unknown", "cores": 8, "memory_mib": 0,
        "runtimes": {"onnxruntime-web": "1.30.0"}, "facts": {"threads": "2", "cross-origin isolated": "yes"},
    },
}  # fmt: skip
TARGETS = {"ios": "coreml", "android": "onnx", "browser": "onnx"}
THERMAL = {"ios": "nominal", "android": "none", "browser": None}
SAMPLES = {
    "load_warm": [61.0, 60.5, 63.0, 61.5, 62.0], "preprocess": [3.0, 3.0, 3.5, 3.0, 3.0],
    "vision": [40.0, 41.0, 40.5, 44.0, 40.0], "prefill": [25.0, 25.5, 25.0, 26.0, 25.5],
    "decode": [8.0, 8.0, 8.5, 8.0, 8.0], "first_token": [68.0, 69.5, 69.0, 73.0, 68.5],
}  # fmt: skip
SLOWER = 1.5
"""The unpruned bundle's prefill."""


def make_profiles(folder: Path) -> None:
    """The folder profile."""
    cases: list[dict[str, Any]] = []
    for kind in MACHINES:
        write_json(folder / f"profile/{kind}.json", **profile(kind))
        cases.append({"file": f"{kind}.json", "device": kind, "says": None})
    wrong = profile("android")
    wrong["bundles"][0]["phases"]["prefill"]["median_ms"] = 1.0
    write_json(folder / "profile/wrong-median.json", **wrong)
    says = "bundles.0.phases.prefill.median_ms is 1, but the median of its samples 38.25"
    cases.append({"file": "wrong-median.json", "device": "android", "says": f"wrong-median.json: {says}"})
    cases.append(
        {"file": "ios.json", "device": "browser",
         "says": "ios.json was measured on a machine of kind 'ios', not on browser"}
    )  # fmt: skip
    write_json(folder / "profile/cases.json", cases=cases)


def profile(kind: str) -> dict[str, Any]:
    """Two bundles, five runs each, in turns."""
    moment = {"thermal_status": THERMAL[kind]} if THERMAL[kind] else {}
    conditions = [
        {"round": run, "bundle": bundle, "waited_s": 2, "before": moment, "after": moment}
        for run in range(1, 6)
        for bundle in range(2)
    ]
    return {
        "schema_version": 1, "created": "2026-01-31T12:00:00Z", "command": "",
        "machine": {"kind": kind} | MACHINES[kind],
        "settings": {"runs": 5, "decode_tokens": 8, "threads": None, "prompt": "What is in this picture?",
                     "photo": "photo.jpg", "photo_size": [600, 400]},
        "warnings": ["these figures are made up, to show the form of such a file"],
        "conditions": conditions if moment else [],
        "bundles": [bundle(kind, pruned=False), bundle(kind, pruned=True)],
    }  # fmt: skip


def bundle(kind: str, *, pruned: bool) -> dict[str, Any]:
    """What an app tells of one bundle."""
    kept, pruner = (16, "vlm-pruner") if pruned else (144, "none")
    (version,) = MACHINES[kind]["runtimes"].items()
    phases = {}
    for name, samples_ms in SAMPLES.items():
        more = 12.75 if name == "first_token" else 0
        slow = samples_ms if pruned else [s * SLOWER if name == "prefill" else s + more for s in samples_ms]
        low_ms, _, high_ms = quantiles(slow, n=4, method="inclusive")
        phases[name] = {"median_ms": median(slow), "low_ms": low_ms, "high_ms": high_ms, "samples_ms": slow}
    return {
        "name": "pruned" if pruned else "unpruned",
        "manifest": {
            "model": "vlmp-tiny", "checkpoint": "bundled:vlmp-tiny", "target": TARGETS[kind], "precision": "float32",
            "quantization": "none", "image": [336, 336], "text_len": 64, "layers": 6, "pruner": pruner,
            "prune_layer": 2, "visual_tokens": 144, "kept_tokens": kept,
            "stages": [{"layer": 2, "pruner": pruner, "kept_tokens": kept}],
        },
        "runtime": " ".join(version), "size_mib": 27.5, "phases": phases,
        "prefill_split": "not split: the app asks for no operator's time", "cold_cached_share": None, "memory": None,
    }  # fmt: skip
