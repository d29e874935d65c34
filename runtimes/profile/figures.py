"""Figures that the terminal's tables and the HTML report have in common."""

from collections.abc import Sequence
from typing import NamedTuple

from vlmp.runtimes.profile.schema import BundleProfile, Condition, Memory, Operator, PhaseName, Profile

LABELS: dict[PhaseName, str] = {
    "load_cold": "load, cold",
    "load_warm": "load, warm",
    "preprocess": "preprocess",
    "vision": "vision",
    "vision_before": "vision: before the stage",
    "vision_pruner": "vision: the stage",
    "vision_after": "vision: after the stage",
    "prefill": "prefill",
    "prefill_before": "prefill: before the pruner",
    "prefill_pruner": "prefill: the pruner",
    "prefill_after": "prefill: after the pruner",
    "first_token": "to the first token",
    "first_token_cold": "to the first token, cold load",
    "decode": "decode, per token",
}
"""What a reader sees of each phase, in the order of the tables."""


class Used(NamedTuple):
    """Memory of a bundle's process in MiB: runtime imported, session loaded, all methods run."""

    libraries: float
    loaded: float
    ran: float


def used_memory(bundles: Sequence[BundleProfile]) -> tuple[str, list[Used | None]]:
    """("Pss", one a bundle), or ("resident", ...) where the system does not tell it, as macOS; None: not measured.

    The same for all bundles: they are compared.
    """
    pss = [_pss(bundle.memory) for bundle in bundles]
    if any(one is None and bundle.memory for one, bundle in zip(pss, bundles, strict=True)):
        return "resident", [_rss(bundle.memory) for bundle in bundles]
    return "Pss", pss


def _pss(memory: Memory | None) -> Used | None:
    if (
        memory is None
        or memory.libraries_pss_mib is None
        or memory.loaded_pss_mib is None
        or memory.ran_pss_mib is None
    ):
        return None
    return Used(memory.libraries_pss_mib, memory.loaded_pss_mib, memory.ran_pss_mib)


def _rss(memory: Memory | None) -> Used | None:
    return Used(memory.libraries_rss_mib, memory.loaded_rss_mib, memory.ran_rss_mib) if memory else None


def why_not_cold(profile: Profile, bundle: BundleProfile) -> str:
    """Why a bundle has no cold load; empty where it has one, and on devices, where none is tried."""
    if profile.machine.kind != "host" or "load_cold" in bundle.phases:
        return ""
    if bundle.cold_cached_share is None:
        return "this system drops no files from its cache, or does not tell"
    return f"{bundle.cold_cached_share:.0%} of its files stayed in the page cache"


def share_of_method(bundle: BundleProfile, operator: Operator) -> float | None:
    """What an operator takes of its whole method, dispatch and the profiler's own work included; None: unknown."""
    whole_ms = bundle.operators_ms.get(operator.method)
    return operator.ms / whole_ms if whole_ms else None


def hottest_c(moment: Condition) -> float | None:
    """°C of the hottest sensor; None where the device tells none."""
    return max(moment.temperatures_c.values(), default=None)
