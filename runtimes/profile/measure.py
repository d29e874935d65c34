"""Timed runs of several bundles that take turns, and their medians."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from vlmp.runtimes.generate import Timings, prompt_ids
from vlmp.runtimes.image import open_image, to_pixels
from vlmp.runtimes.profile.schema import PARTS, Phase, PhaseName, PrefillRegion
from vlmp.runtimes.session import Array, Session

Clock = Callable[[], float]
"""Seconds, as perf_counter."""


def measure(
    sessions: Sequence[Session],
    photo: Path,
    prompt: str,
    *,
    runs: int,
    decode_tokens: int,
    clock: Clock = perf_counter,
    on_run: Callable[[], None] = lambda: None,
) -> list[list[Timings]]:
    """Timings of each session, `runs` each after one that warms up.

    Sessions take turns, so that what else happens on the machine meets all of them alike. on_run: called after each
    turn. Raises UserError when the prompt does not fit.
    """
    ids = [prompt_ids(session, session.manifest.prompt.first, prompt) for session in sessions]
    taken: list[list[Timings]] = [[] for _ in sessions]
    for run in range(1 + runs):
        for session, given, timings in zip(sessions, ids, taken, strict=True):
            timed = time_turn(session, photo, given, decode_tokens, clock)
            if run:
                timings.append(timed)
            on_run()
    return taken


def time_turn(session: Session, photo: Path, ids: list[int], decode_tokens: int, clock: Clock) -> Timings:
    """One first turn, from the file to the last of `decode_tokens` tokens; end tokens do not end it."""
    start = clock()
    pixels = to_pixels(open_image(photo), session.manifest.shape.image)
    seen = clock()
    visual = session.vision(pixels)
    encoded = clock()
    logits: Array = session.prefill(ids, visual).logits
    filled = clock()
    for _ in range(decode_tokens):
        logits = session.decode(int(np.argmax(logits)))
    done = clock()
    return Timings(
        load_ms=session.load_ms,
        preprocess_ms=(seen - start) * 1e3,
        vision_ms=(encoded - seen) * 1e3,
        prefill_ms=(filled - encoded) * 1e3,
        decode_ms=(done - filled) * 1e3,
        decoded_tokens=decode_tokens,
    )


def to_phase(samples_ms: Sequence[float]) -> Phase:
    """Median and quartiles."""
    low, median, high = (float(value) for value in np.percentile(samples_ms, (25, 50, 75)))
    return Phase(median_ms=median, low_ms=low, high_ms=high, samples_ms=list(samples_ms))


def to_phases(timings: Sequence[Timings], shares: Mapping[PrefillRegion, float]) -> dict[PhaseName, Phase]:
    """Phases of one bundle. shares: of prefill's regions, which its samples are divided by; empty when unknown."""
    prefill = [timing.prefill_ms for timing in timings]
    samples: dict[PhaseName, list[float]] = {
        "preprocess": [timing.preprocess_ms for timing in timings],
        "vision": [timing.vision_ms for timing in timings],
        "prefill": prefill,
        **split_prefill(prefill, shares),
        "decode": [timing.decode_ms / timing.decoded_tokens for timing in timings],
        "first_token": [timing.first_token_ms for timing in timings],
    }
    return {name: to_phase(values) for name, values in samples.items()}


def split_prefill(samples_ms: Sequence[float], shares: Mapping[PrefillRegion, float]) -> dict[PhaseName, list[float]]:
    """Samples of prefill's parts, each the share of prefill's own; none when the shares are unknown."""
    return {PARTS[region]: [share * ms for ms in samples_ms] for region, share in shares.items()}
