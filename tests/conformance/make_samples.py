"""Cases of sampling: logits and settings -> tokens. A second writing of what the C++ runner does, to check it by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from conformance_files import write_json

COUNT = 40
"""Tokens of each case."""
SETTINGS = [(0.0, 1.0), (1.0, 1.0), (0.7, 1.0), (0.7, 0.9), (2.0, 0.5), (5.0, 0.95), (1.0, 0.0001), (0.05, 0.8)]
"""Temperature and top_p."""
SEEDS = (0, 1, 2**64 - 1)


def make_samples(folder: Path) -> None:
    """The folder sampler."""
    rng = np.random.default_rng(3)
    # Values that float32 holds exactly, and doubles and JSON as well.
    logits = {
        "five": [1.0, 3.0, 2.0, -4.0, 2.5],
        "equal": [0.5] * 6,
        "one": [2.0],
        "many": [round(float(value) * 64) / 64 for value in rng.normal(0, 3, 300)],
        "far apart": [0.0, -800.0, 80.0, 79.5],
    }
    cases: list[dict[str, Any]] = []
    for name, values in logits.items():
        for number, (temperature, top_p) in enumerate(SETTINGS):
            seed = SEEDS[number % len(SEEDS)]
            tokens = samples(values, temperature, top_p, seed, COUNT)
            # As text, for readers whose numbers are doubles.
            cases.append(
                {"logits": name, "temperature": temperature, "top_p": top_p, "seed": str(seed), "tokens": tokens}
            )
    first = [str(number) for number, _ in zip(mt19937_64(5489), range(5), strict=False)]
    write_json(folder / "sampler/cases.json", logits=logits, seed_5489=first, cases=cases)


def samples(logits: list[float], temperature: float, top_p: float, seed: int, count: int) -> list[int]:
    """`count` tokens, one after the other, of the same logits."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])  # stable: the lower one of equals first
    if temperature == 0:
        return [order[0]] * count
    weights = [math.exp((logits[token] - logits[order[0]]) / temperature) for token in order]
    share, nucleus, kept = top_p * sum_in_turn(weights), 0.0, 0
    while kept < len(weights) and (kept == 0 or nucleus < share):
        nucleus += weights[kept]
        kept += 1
    tokens, random = [], mt19937_64(seed)
    for _ in range(count):
        rest = nucleus * ((next(random) >> 11) * 2.0**-53)
        place = 0
        while place < kept:
            rest -= weights[place]
            if rest < 0:
                break
            place += 1
        tokens.append(order[min(place, kept - 1)])
    return tokens


def sum_in_turn(values: list[float]) -> float:
    """From the first to the last; Python's own sum is more exact than that from 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total


def mt19937_64(seed: int) -> Iterator[int]:
    """Matsumoto and Nishimura's generator of 64-bit numbers, as C++ has it."""
    mask, size, middle = 2**64 - 1, 312, 156
    state = [seed]
    for place in range(1, size):
        state.append((6364136223846793005 * (state[-1] ^ (state[-1] >> 62)) + place) & mask)
    while True:
        for place in range(size):
            high, low = state[place] & (mask << 31 & mask), state[(place + 1) % size] & 0x7FFFFFFF
            mixed = high | low
            state[place] = state[(place + middle) % size] ^ (mixed >> 1) ^ (0xB5026F5AA96619E9 if mixed & 1 else 0)
        for number in state:
            number ^= (number >> 29) & 0x5555555555555555
            number ^= (number << 17) & 0x71D67FFFEDA60000
            number ^= (number << 37) & 0xFFF7EEE000000000
            yield number & mask ^ ((number & mask) >> 43)
