"""Profiles that an app wrote itself, on an iPhone, on Android or in a browser: the schema of `schema.py`.

The files may come from several runs of the app on one device, a bundle each; they are put side by side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from statistics import median

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile.compare import check_alike, explain, unlike_facts
from vlmp.runtimes.profile.schema import (
    PARTS,
    BundleProfile,
    Phase,
    PhaseName,
    Profile,
    RunCondition,
    read_profile,
)
from vlmp.runtimes.profile.task import numbered

EXPLAINED: tuple[PhaseName, ...] = ("first_token", "vision", "prefill")
LEAST_MS = 1e-6
"""A nanosecond, in which nothing ends; 0 is what a coarse clock says."""
NEVER_ZERO: tuple[PhaseName, ...] = ("prefill", "decode", "first_token")
"""No clock is too coarse for these."""
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal obeys instead of showing it, and halves of characters."""
MOST = 1e12
"""No figure of a device reaches it."""
CLOSE = 0.01
"""Figures that have to be equal may differ by so much: the app may round them."""


def read_imported(paths: Sequence[Path], kind: str, *, different: bool) -> Profile:
    """All bundles of the files, the first one being what the others are compared with. Equal names get numbers.

    kind: of the machine that they have to be from. different: whether bundles may differ in more than pruning. Raises
    UserError when they do and may not, and on files that are no profiles of such a machine, hold no bundle or figures
    that cannot be, or do not belong together.
    """
    profiles = [read_profile(path) for path in paths]
    for path, profile in zip(paths, profiles, strict=True):
        _check(path, profile, kind, paths[0], profiles[0])
    bundles: list[BundleProfile] = []
    conditions: list[RunCondition] = []
    for profile in profiles:
        conditions += [one.model_copy(update={"bundle": one.bundle + len(bundles)}) for one in profile.conditions]
        bundles += profile.bundles
    names = numbered([bundle.name for bundle in bundles])
    bundles = [one.model_copy(update={"name": name}) for one, name in zip(bundles, names, strict=True)]
    differences = [unlike_facts(bundles[0].manifest, other.manifest) for other in bundles[1:]]
    if not different:
        check_alike(names, differences)
    return profiles[0].model_copy(
        update={
            "bundles": bundles,
            "conditions": conditions,
            "warnings": list(dict.fromkeys(line for profile in profiles for line in profile.warnings)),
            "explanation": [
                explain(bundles[0], other, found)
                for other, found in zip(bundles[1:], differences, strict=True)
                if all(phase in bundle.phases for bundle in (bundles[0], other) for phase in EXPLAINED)
            ],
        }
    )


def _check(path: Path, profile: Profile, kind: str, first_path: Path, first: Profile) -> None:
    if profile.machine.kind != kind:
        raise UserError(f"{path} was measured on a machine of kind {profile.machine.kind!r}, not on {kind}")
    if not profile.bundles:
        raise UserError(f"{path} holds no bundle")
    if profile.peaks or profile.estimates:
        raise UserError(f"{path} holds peaks or estimates, which no app measures")
    for what, mine, its in (
        ("devices", first.machine.name, profile.machine.name),
        ("systems", first.machine.os, profile.machine.os),
        ("settings", first.settings, profile.settings),
    ):
        if mine != its:
            raise UserError(f"{first_path} and {path} are of different {what}: {mine} against {its}")
    try:
        _check_leaves(profile.model_dump())
        _check_conditions(profile)
        for number, bundle in enumerate(profile.bundles):
            _check_bundle(f"bundles.{number}", bundle, profile.settings.runs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_leaves(raw: Mapping[str, object]) -> None:
    """Raises UserError at a text that is none, and at a number of a size that nothing has."""
    for where, value in _leaves(raw):
        if isinstance(value, str) and CONTROLS.search(value):
            raise UserError(f"{where} holds control characters: {value!r}")
        least = -MOST if where.startswith("conditions.") else 0  # degrees may be negative
        if isinstance(value, int | float) and not least <= value < MOST:
            raise UserError(f"{where} has to be at least {least:g} and below {MOST:g}")


def _leaves(value: object, where: str = "") -> Iterator[tuple[str, object]]:
    """All texts and numbers of a tree with their places; names are texts, too."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield f"a name in {where}", name
            yield from _leaves(one, f"{where}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{where}.{number}")
    else:
        yield where, value


def _check_conditions(profile: Profile) -> None:
    count = len(profile.bundles)
    for number, condition in enumerate(profile.conditions):
        if not 0 <= condition.bundle < count:
            raise UserError(f"conditions.{number}.bundle is {condition.bundle}, but bundles go from 0 to {count - 1}")


def _check_bundle(where: str, bundle: BundleProfile, runs: int) -> None:
    """Raises UserError where its figures contradict each other, or are none that the app measures."""
    if bundle.roofline:
        raise UserError(f"{where}.roofline holds limits, which no app measures")
    times = {name: phase.median_ms for name, phase in bundle.phases.items()}
    for name, phase in bundle.phases.items():
        _check_phase(f"{where}.phases.{name}", phase, runs)
    for what, ms in (*times.items(), *bundle.operators_ms.items()):
        if ms < LEAST_MS and (ms > 0 or what in NEVER_ZERO):
            raise UserError(f"{where}: {what} takes {ms:g} ms, but nothing is that fast")
    if "first_token" in times and times["first_token"] <= times.get("prefill", 0):
        raise UserError(f"{where}.phases.first_token is not longer than prefill, which is a part of it")
    for whole, names in PARTS.items():
        parts = [times[name] for name in names.values() if name in times]
        if parts and (len(parts) < len(names) or not isclose(sum(parts), times.get(whole, 0), rel_tol=CLOSE)):
            raise UserError(f"{where}.phases: {', '.join(names.values())} do not add up to {whole}")


def _check_phase(where: str, phase: Phase, runs: int) -> None:
    if len(phase.samples_ms) != runs or not runs:
        raise UserError(f"{where}.samples_ms has {len(phase.samples_ms)} samples of {runs} runs")
    if not isclose(phase.median_ms, median(phase.samples_ms), rel_tol=CLOSE):
        raise UserError(
            f"{where}.median_ms is {phase.median_ms:g}, but the median of its samples {median(phase.samples_ms):g}"
        )
    if not phase.low_ms <= phase.median_ms <= phase.high_ms:
        raise UserError(f"{where}: the median {phase.median_ms:g} is not between low_ms and high_ms")
