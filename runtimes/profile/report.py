"""A profile as one HTML file that needs nothing else: no script, no request, readable on a phone and in the dark.

Everything drawn is computed here; the template only places it, and escapes all of it. Whatever a bundle calls itself
stays text, and the page's own policy forbids scripts and requests besides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from vlmp.runtimes.bundle.writing import write_whole
from vlmp.runtimes.profile.figures import LABELS, hottest_c, share_of_method, used_memory, why_not_cold
from vlmp.runtimes.profile.schema import BundleProfile, Estimate, Operator, Phase, PhaseName, Profile

WAITED: tuple[PhaseName, ...] = ("preprocess", "vision", "prefill")
"""What a first token waits for."""
HEADLINES: tuple[PhaseName, ...] = ("prefill", "first_token", "decode")
MOST_OPERATORS = 25
"""Lines of a bundle's operator table."""
LEAST_LABELLED = 0.09
"""Share of a bar from which a segment has room for its figure."""
PLOT_WIDTH, PLOT_HEIGHT, PLOT_LEFT, PLOT_BOTTOM = 520, 330, 56, 44
ROOM = 1.5
"""Factor between a value and the end of its axis, at least."""
DOT_PX = 13
"""Dots that are nearer would cover each other and stand side by side instead."""
PLOT_EDGE = 24
"""Space above and on the right, for labels that stand over the grid's end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One phase in a stacked bar. share: of the longest bar."""

    phase: PhaseName
    ms: float
    share: float
    labelled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """The phases up to the first token of one bundle."""

    name: str
    total_ms: float
    segments: list[Segment]


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """What changed in one figure against the first bundle."""

    what: str
    before_ms: float
    after_ms: float
    ratio: float
    """How many times faster."""
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Operators:
    """A bundle's operator table; the others are summed up."""

    listed: list[Operator]
    others: int
    others_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A measured phase in the roofline plot. x, y in its units; kind: the bundle's number."""

    x: float
    y: float
    phase: PhaseName
    kind: int
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A line of the grid."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """A machine's limit: a polyline, and where its label stands."""

    points: str
    x: float
    y: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """The roofline plot, both axes logarithmic."""

    roofs: list[Roof]
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def write_html(profile: Profile, path: Path) -> None:
    """Write the report; the file appears when it is complete."""
    write_whole(path, render(profile))


def render(profile: Profile) -> str:
    """The page as text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "ms": milliseconds, "times": times, "mib": mebibytes, "percent": percent, "degrees": degrees,
        "hottest": hottest_c,
    }  # fmt: skip
    template = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    names = bundle_names(profile)
    compared = [[], *(headlines(profile.bundles[0], bundle) for bundle in profile.bundles[1:])]
    phases = [name for name in LABELS if any(name in bundle.phases for bundle in profile.bundles)]
    return environment.from_string(template).render(
        profile=profile,
        first=profile.bundles[0],
        numbered=list(enumerate(profile.bundles)),
        labels=LABELS,
        names=names,
        comparisons=[(names[index], found) for index, found in enumerate(compared) if found],
        bars=bars(profile),
        phases=phases,
        bounded=[name for name in phases if any(name in bundle.roofline for bundle in profile.bundles)],
        plot=plot(profile),
        operators=[top_operators(bundle.operators) for bundle in profile.bundles],
        estimates=by_phone(profile.estimates),
        estimated=[name for name in LABELS if any(name in one.phases_ms for one in profile.estimates)],
        speed_up=speed_up,
        verdict=verdict,
        share_of_method=share_of_method,
        memory=used_memory(profile.bundles),
        not_cold=[why_not_cold(profile, bundle) for bundle in profile.bundles],
        plot_size=(PLOT_WIDTH, PLOT_HEIGHT, PLOT_LEFT, PLOT_BOTTOM, PLOT_EDGE),
    )


def bundle_names(profile: Profile) -> list[str]:
    """A letter and a name for each bundle: the letter stands for it in the plot."""
    return [f"{chr(ord('A') + index)} {bundle.name}" for index, bundle in enumerate(profile.bundles)]


def bars(profile: Profile) -> list[Bar]:
    """A stacked bar a bundle, all on one scale; vision and prefill in their parts where they were measured."""
    names = bundle_names(profile)
    chosen = [
        [
            (name, bundle.phases[name].median_ms)
            for whole in WAITED
            for name in bundle.parts_of(whole) or [whole]
            if name in bundle.phases
        ]
        for bundle in profile.bundles
    ]
    totals = [sum(ms for _, ms in parts) for parts in chosen]
    longest = max(totals, default=0.0) or 1.0
    return [
        Bar(
            name=name,
            total_ms=total,
            segments=[
                Segment(phase=phase, ms=ms, share=ms / longest, labelled=ms / longest >= LEAST_LABELLED)
                for phase, ms in parts
            ],
        )
        for name, total, parts in zip(names, totals, chosen, strict=True)
    ]


def headlines(first: BundleProfile, other: BundleProfile) -> list[Headline]:
    """The figures that people ask for, where both bundles have them."""
    return [
        Headline(
            what=LABELS[name],
            before_ms=first.phases[name].median_ms,
            after_ms=other.phases[name].median_ms,
            ratio=speed_up(first.phases[name], other.phases[name]),
            verdict=verdict(first.phases[name], other.phases[name]),
        )
        for name in HEADLINES
        if name in first.phases and name in other.phases
    ]


def speed_up(before: Phase, after: Phase) -> float:
    """How many times faster; a phase that takes no time is infinitely fast."""
    return before.median_ms / after.median_ms if after.median_ms > 0 else math.inf


def verdict(before: Phase, after: Phase) -> str:
    """`faster` or `slower` where even the quartiles do not meet; otherwise it may be noise, and nothing is said."""
    if before.low_ms > after.high_ms:
        return "faster"
    return "slower" if before.high_ms < after.low_ms else ""


def top_operators(operators: Sequence[Operator]) -> Operators:
    """The most expensive first."""
    ranked = sorted(operators, key=lambda one: -one.ms)
    rest = ranked[MOST_OPERATORS:]
    return Operators(listed=ranked[:MOST_OPERATORS], others=len(rest), others_ms=sum(one.ms for one in rest))


def by_phone(estimates: Sequence[Estimate]) -> dict[str, list[Estimate]]:
    """Estimates of one phone together, in the order given."""
    groups: dict[str, list[Estimate]] = {}
    for one in estimates:
        groups.setdefault(f"{one.phone} ({one.chip})", []).append(one)
    return groups


def plot(profile: Profile) -> Plot | None:
    """Operations a byte against operations a second. None where nothing has a bound."""
    found = [
        (phase, kind, one, bundle.phases[phase].median_ms)
        for kind, bundle in enumerate(profile.bundles)
        for phase, one in bundle.roofline.items()
        if one.gmac > 0 and one.gib_moved > 0 and not bundle.parts_of(phase)
    ]
    if profile.peaks is None or not found:
        return None
    gb_s, peaks = profile.peaks.gb_s, profile.peaks.gop_s
    places = [(2e9 * one.gmac / (one.gib_moved * 2**30), 2e3 * one.gmac / took_ms) for _, _, one, took_ms in found]
    # The grid spans whole decades around all points and the corners of all roofs.
    corners = [(gop_s / gb_s, gop_s) for gop_s in peaks.values()]
    left, right = _decades([x for x, _ in (*places, *corners)])
    low, high = _decades([y for _, y in (*places, *corners)])

    def x_px(value: float) -> float:
        return PLOT_LEFT + (math.log10(value) - left) / (right - left) * (PLOT_WIDTH - PLOT_LEFT - PLOT_EDGE)

    def y_px(value: float) -> float:
        return PLOT_EDGE + (high - math.log10(value)) / (high - low) * (PLOT_HEIGHT - PLOT_BOTTOM - PLOT_EDGE)

    start = max(10.0**left, 10.0**low / gb_s)
    roofs = [
        Roof(
            points=" ".join(
                f"{x_px(x):.1f},{y_px(y):.1f}" for x, y in ((start, start * gb_s), corner, (10.0**right, corner[1]))
            ),
            x=PLOT_WIDTH - PLOT_EDGE,
            y=y_px(corner[1]) - 6,
            label=f"{corner[1]:.0f} GOP/s, {name}",
        )
        for name, corner in zip(peaks, corners, strict=True)
    ]
    names = bundle_names(profile)
    dots: list[Dot] = []
    for (phase, kind, one, _), (x, y) in zip(found, places, strict=True):
        across, down = x_px(x), y_px(y)
        while any(math.hypot(across - other.x, down - other.y) < DOT_PX for other in dots):
            across += DOT_PX
        title = f"{names[kind]}, {LABELS[phase]}: {y:.1f} GOP/s, {one.share_of_bound:.0%} of the bound"
        dots.append(Dot(x=across, y=down, phase=phase, kind=kind, title=title))
    return Plot(
        roofs=roofs,
        dots=dots,
        x_ticks=[Tick(at=x_px(10.0**power), label=f"{10.0**power:g}") for power in range(left, right + 1)],
        y_ticks=[Tick(at=y_px(10.0**power), label=f"{10.0**power:g}") for power in range(low, high + 1)],
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around all values with some room."""
    return math.floor(math.log10(min(values) / ROOM)), math.ceil(math.log10(max(values) * ROOM))


def milliseconds(value: float) -> str:
    """Three digits or so, without the unit."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def times(ratio: float) -> str:
    """A speed-up; a dash where it is without bounds."""
    return f"{ratio:.2f}×" if math.isfinite(ratio) else "–"


def mebibytes(value: float | None) -> str:
    """MiB without the unit; unknown is a dash."""
    return "–" if value is None else f"{value:.1f}"


def percent(share: float | None) -> str:
    """A share with its sign; unknown is a dash."""
    return "–" if share is None else f"{share:.0%}"


def degrees(value: float | None) -> str:
    """°C without the unit; unknown is a dash."""
    return "–" if value is None else f"{value:.1f}"
