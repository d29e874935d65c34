"""A manifest with round figures of work, without any bundle."""

from __future__ import annotations

from typing import Any

from bundle_cases import smallest
from vlmp.runtimes.bundle.manifest import METHODS, Manifest, Region, WorkSpec

WORK: dict[Region, WorkSpec] = {
    "vision": WorkSpec(macs=4_000_000_000, weight_bytes=10**8, cache_bytes=0, activation_bytes=10**8),
    "before": WorkSpec(macs=2_000_000_000, weight_bytes=10**7, cache_bytes=10**6, activation_bytes=10**7),
    "pruner": WorkSpec(macs=100_000_000, weight_bytes=0, cache_bytes=0, activation_bytes=10**6),
    "after": WorkSpec(macs=6_000_000_000, weight_bytes=10**9, cache_bytes=10**6, activation_bytes=10**7),
    "decode": WorkSpec(macs=250_000_000, weight_bytes=10**9, cache_bytes=2 * 10**7, activation_bytes=0),
    "extend": WorkSpec(macs=1, weight_bytes=1, cache_bytes=1, activation_bytes=1),
}
TOWER: dict[Region, WorkSpec] = {
    "vision": WorkSpec(macs=3_100_000_000, weight_bytes=6 * 10**8, cache_bytes=0, activation_bytes=10**6),
    "vision_before": WorkSpec(macs=2_000_000_000, weight_bytes=10**8, cache_bytes=0, activation_bytes=0),
    "vision_pruner": WorkSpec(macs=100_000_000, weight_bytes=0, cache_bytes=0, activation_bytes=10**6),
    "vision_after": WorkSpec(macs=1_000_000_000, weight_bytes=5 * 10**8, cache_bytes=0, activation_bytes=0),
}
"""What `vision` is with a stage in the tower."""


def make_manifest(*, work: dict[Region, WorkSpec] = WORK, **facts: Any) -> Manifest:
    """What a bundle says of itself; `facts` take the place of the manifest's own fields."""
    regions: dict[str, tuple[Region, ...]] = {name: (name,) for name in METHODS if name != "prefill"}
    regions |= {"vision": tuple(TOWER), "prefill": ("before", "pruner", "after")}
    raw = smallest()
    for name in METHODS:
        raw["methods"][name]["work"] = {part: work[part].model_dump() for part in regions[name] if part in work}
    return Manifest.model_validate(raw | facts)
