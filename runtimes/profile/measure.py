"""Timed runs of several bundles that take turns, and their medians."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from vlmp.runtimes.profile.schema import PARTS, Part, Phase, PhaseName
from vlmp.runtimes.session import Session
from vlmp.runtimes.turn import Clock, Timings, first_turn


def measure(
    sessions: Sequence[Session],
    ids: Sequence[list[int]],
    photo: Path,
    *,
    runs: int,
    decode_tokens: int,
    clock: Clock = perf_counter,
    on_run: Callable[[], None] = lambda: None,
) -> list[list[Timings]]:
    """Timings of first turns of each session with its own `ids`, `runs` each after one that warms up.

    Each decodes `decode_tokens` tokens, past end tokens too. Sessions take turns, so that what else happens on the
    machine meets all of them alike. on_run: called after each turn.
    """
    taken: list[list[Timings]] = [[] for _ in sessions]
    for run in range(1 + runs):
        for session, given, timings in zip(sessions, ids, taken, strict=True):
            timed = first_turn(session, photo, given, 1 + decode_tokens, clock=clock).timings
            if run:
                timings.append(timed)
            on_run()
    return taken


def to_phase(samples_ms: Sequence[float]) -> Phase:
    """Median and quartiles."""
    low, median, high = (float(value) for value in np.percentile(samples_ms, (25, 50, 75)))
    return Phase(median_ms=median, low_ms=low, high_ms=high, samples_ms=list(samples_ms))


def to_phases(timings: Sequence[Timings], shares: Mapping[Part, float]) -> dict[PhaseName, Phase]:
    """Phases of one bundle. shares: of the parts that are known, by which the samples of their methods are divided."""
    samples: dict[PhaseName, list[float]] = {
        "preprocess": [timing.preprocess_ms for timing in timings],
        "vision": [timing.vision_ms for timing in timings],
        "prefill": [timing.prefill_ms for timing in timings],
        "decode": [timing.decode_ms / timing.decoded_tokens for timing in timings],
        "first_token": [timing.first_token_ms for timing in timings],
    }
    return {name: to_phase(values) for name, values in with_parts(samples, shares).items()}


def with_parts(
    samples_ms: Mapping[PhaseName, Sequence[float]], shares: Mapping[Part, float]
) -> dict[PhaseName, Sequence[float]]:
    """The samples of all phases, and of the parts whose shares are known: each the share of the whole's own."""
    found = dict(samples_ms)
    for whole, parts in PARTS.items():
        known = {part: phase for part, phase in parts.items() if part in shares}
        found |= {phase: [shares[part] * ms for ms in samples_ms[whole]] for part, phase in known.items()}
    return found
