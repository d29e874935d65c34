"""The least that a phase can take, by the roofline model (Williams, Waterman, Patterson, CACM 2009).

bound = max(operations / peak operations a second, bytes / peak bytes a second), from the work in the manifest and the
machine's own limits. Those of this machine are measured, in a process of its own:

    python -m vlmp.runtimes.profile.roofline THREADS
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Literal

import numpy as np
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.manifest import Manifest, MethodSpec, Region, WorkSpec
from vlmp.runtimes.profile.machine import count_cores
from vlmp.runtimes.profile.process import answer_process, ask_process
from vlmp.runtimes.profile.schema import PARTS, Arithmetic, BundleProfile, Peaks, Phase, PhaseName, Roofline
from vlmp.runtimes.traits import traits_of

WHOLE: tuple[Literal["vision", "decode"], ...] = ("vision", "decode")
"""Phases that are regions as well: vision without a stage in its tower."""
PRUNERS: tuple[Region, ...] = ("vision_pruner", "pruner")
"""They compute in float32 in every bundle."""

SIDE = 2048
COPY_BYTES = 256 << 20
SECONDS = 0.5
"""How long each of the two is repeated; the best repetition counts."""
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def arithmetic(manifest: Manifest) -> Arithmetic:
    """What the matrix products are done in: integers where weights are quantized and the runtime multiplies them."""
    if manifest.quantization == "none" or not traits_of(manifest.target).multiplies_integers:
        return manifest.precision
    return "int8"


def work_of(manifest: Manifest) -> dict[Region, WorkSpec]:
    """The work of all regions; empty for bundles from before it was counted."""
    return {region: work for method in manifest.methods.values() for region, work in method.work.items()}


def regions_of(works: Mapping[Region, WorkSpec]) -> dict[PhaseName, list[Region]]:
    """The regions of each phase that the work of a graph bounds, and of each part. works: of all regions.

    The other phases are loading and the picture's own preparation.
    """
    found: dict[PhaseName, list[Region]] = {name: [name] for name in WHOLE if name in works}
    for whole, parts in PARTS.items():
        known = {phase: part for part, phase in parts.items() if part in works}
        if known:
            found |= {whole: list(known.values()), **{phase: [part] for phase, part in known.items()}}
    return found


def with_less_text(manifest: Manifest, tokens: int) -> Manifest:
    """The manifest with the work of a text that leaves so many tokens of the bucket free.

    The same where a graph computes the whole bucket whatever the text, and of bundles that do not say.
    """

    def less(method: MethodSpec) -> MethodSpec:
        work = dict(method.work)
        for region, each in method.work_per_token.items():
            by_token = each.model_dump()
            left = {field: value - tokens * by_token[field] for field, value in work[region].model_dump().items()}
            work[region] = WorkSpec(**left)
        return method.model_copy(update={"work": work})

    return manifest.model_copy(update={"methods": {name: less(method) for name, method in manifest.methods.items()}})


def moved_bytes(work: WorkSpec) -> int:
    """What a region reads and writes, as its graph stands."""
    return work.weight_bytes + work.cache_bytes + work.activation_bytes


def sides_ms(work: WorkSpec, gop_s: float, gb_s: float) -> tuple[float, float]:
    """Milliseconds that arithmetic and memory traffic take at these rates."""
    return 2e-6 * work.macs / gop_s, 1e-6 * moved_bytes(work) / gb_s


def rooflines(manifest: Manifest, phases: Mapping[PhaseName, Phase], peaks: Peaks) -> dict[PhaseName, Roofline]:
    """The bound of each measured phase that does any work; empty for bundles from before their work was counted.

    Where the machine's peak in the bundle's arithmetic is unknown, only phases that memory would bind even at the
    float32 peak have a bound: narrower numbers are not slower.
    """
    regions, kind = work_of(manifest), arithmetic(manifest)
    found: dict[PhaseName, Roofline] = {}
    for phase, names in regions_of(regions).items():
        if phase not in phases or phases[phase].median_ms == 0:
            continue
        works = [regions[name] for name in names]
        kinds: list[Arithmetic] = ["float32" if name in PRUNERS else kind for name in names]
        rates = [peaks.gop_s.get(one, peaks.gop_s["float32"]) for one in kinds]
        sides = [sides_ms(work, gop_s, peaks.gb_s) for work, gop_s in zip(works, rates, strict=True)]
        bound_ms = sum(max(pair) for pair in sides)
        unknown = any(
            one not in peaks.gop_s and compute > memory for one, (compute, memory) in zip(kinds, sides, strict=True)
        )
        if bound_ms == 0 or unknown:
            continue
        by_compute_ms = sum(compute for compute, memory in sides if compute >= memory)
        found[phase] = Roofline(
            gmac=sum(work.macs for work in works) / 1e9,
            gib_moved=sum(moved_bytes(work) for work in works) / 2**30,
            bound_ms=bound_ms,
            binds="compute" if 2 * by_compute_ms >= bound_ms else "memory",
            share_of_bound=bound_ms / phases[phase].median_ms,
        )
    return found


def with_rooflines(
    bundles: Sequence[BundleProfile], manifests: Sequence[Manifest], peaks: Peaks
) -> list[BundleProfile]:
    """The bundles with the bounds of their phases."""
    return [
        bundle.model_copy(update={"roofline": rooflines(manifest, bundle.phases, peaks)})
        for bundle, manifest in zip(bundles, manifests, strict=True)
    ]


def measure_peaks(threads: int | None) -> Peaks:
    """This machine's limits with so many threads, in a process of its own: BLAS reads their number when it starts.

    threads: None is one for each core that this process may use. Raises UserError when the measurement fails.
    """
    count = threads or count_cores()
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(count))
    try:
        return ask_process(Peaks, __name__, str(count), what="its process", environment=environment, timeout_s=120)
    except (OSError, UserError) as error:
        raise UserError(f"this machine's limits could not be measured: {one_line(error)}") from error


def _measure(threads: int) -> Peaks:
    return Peaks(
        gop_s={"float32": _product_gop_s()},
        gb_s=_copy_gb_s(threads),
        how=(
            f"measured on this machine with threads={threads}: numpy's float32 product of {SIDE} x {SIDE} matrices, "
            f"and a copy of {COPY_BYTES >> 20} MiB, counted as read and written"
        ),
    )


def _product_gop_s() -> float:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    product = np.empty_like(left)
    return 2 * SIDE**3 / _best_s(lambda: np.matmul(left, right, out=product)) / 1e9


def _copy_gb_s(threads: int) -> float:
    source, target = (np.ones(COPY_BYTES // 8) for _ in range(2))
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without holding Python's lock
        best_s = _best_s(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))
    return 2 * COPY_BYTES / best_s / 1e9


def _best_s(action: Callable[[], object]) -> float:
    """Seconds of the fastest repetition; one before them warms up."""
    action()
    best_s, started = float("inf"), perf_counter()
    while perf_counter() - started < SECONDS or best_s == float("inf"):
        before = perf_counter()
        action()
        best_s = min(best_s, perf_counter() - before)
    return best_s


if __name__ == "__main__":
    answer_process(lambda: _measure(int(sys.argv[1])))
