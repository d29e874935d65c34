"""A profile on a terminal: the bundles side by side."""

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table
from vlmp.runtimes.profile.compare import ratio
from vlmp.runtimes.profile.figures import LABELS, hottest_c, share_of_method, used_memory
from vlmp.runtimes.profile.schema import PARTS, BundleProfile, Estimate, PhaseName, Profile

TOP = 4
"""Operators shown for each method and region."""


def phase_table(profile: Profile) -> Table:
    """Median and quartiles of each phase in milliseconds, memory, size; ratios of the first bundle to the others."""
    first, *others = profile.bundles
    settings = profile.settings
    threads = "its own choice of" if settings.threads is None else settings.threads
    drawn = Table(
        title=f"medians (quartiles) in ms of {settings.runs} runs in turns, {threads} threads, "
        f"decode over {settings.decode_tokens} tokens"
    )
    drawn.add_column("")
    drawn.add_column(head(first), justify="right")
    for other in others:
        drawn.add_column(head(other), justify="right")
        drawn.add_column("ratio", justify="right")
    for name, label in LABELS.items():
        if any(name in bundle.phases for bundle in profile.bundles):
            drawn.add_row(label, *_cells([_phase(bundle, name) for bundle in profile.bundles]))
    drawn.add_section()
    kind, used = used_memory(profile.bundles)
    if any(used):
        loaded = [_mib(one.loaded - one.libraries) if one else None for one in used]
        peaks = [_mib(bundle.memory.peak_rss_mib) if bundle.memory else None for bundle in profile.bundles]
        drawn.add_row(f"memory of a loaded session ({kind}), MiB", *_cells(loaded))
        drawn.add_row("peak memory of the process, MiB", *_cells(peaks))
    drawn.add_row("on disk, MiB", *_cells([_mib(bundle.size_mib) for bundle in profile.bundles]))
    return drawn


def head(bundle: BundleProfile) -> str:
    """Name and what is kept, for the top of a column."""
    facts = bundle.manifest
    return f"{escape(bundle.name)}\n{escape(facts.pruner)}, {facts.kept} of {facts.visual_tokens} tokens"


Shown = tuple[float, str]


def _cells(shown: Sequence[Shown | None]) -> Iterator[str]:
    """A row: the first bundle's value, then value and ratio of each other one."""
    yield shown[0][1] if shown[0] else "-"
    for cell in shown[1:]:
        yield cell[1] if cell else "-"
        yield ratio(shown[0][0], cell[0]) if shown[0] and cell else "-"


def _phase(bundle: BundleProfile, name: PhaseName) -> Shown | None:
    phase = bundle.phases.get(name)
    if phase is None:
        return None
    return phase.median_ms, f"{phase.median_ms:.2f} ({phase.low_ms:.2f} to {phase.high_ms:.2f})"


def _mib(value: float) -> Shown:
    return value, f"{value:.1f}"


def operator_table(bundle: BundleProfile) -> Table:
    """The operators that take longest, method by method, as the runtime's profiler sees them."""
    drawn = Table(title=f"{escape(bundle.name)}: longest operators under the profiler")
    for column in ("method", "part", "operator", "calls", "ms", "share"):
        drawn.add_column(column, justify="right" if column in ("calls", "ms", "share") else "left")
    regions = [None, *(part for parts in PARTS.values() for part in parts)]
    for method in bundle.operators_ms:
        for region in regions:
            found = [o for o in bundle.operators if o.method == method and o.region == region]
            for operator in sorted(found, key=lambda operator: -operator.ms)[:TOP]:
                share = _or_dash(share_of_method(bundle, operator), ".0%")
                drawn.add_row(
                    method, region or "", escape(operator.op), str(operator.calls), f"{operator.ms:.2f}", share
                )
        drawn.add_section()
    return drawn


def condition_table(profile: Profile) -> Table:
    """A phone before and after each run: thermal status, the hottest sensor, and what clocks were allowed."""
    drawn = Table(title="the phone around each run: before, after")
    for column in (
        "round",
        "bundle",
        "rested, s",
        "thermal status",
        "hottest sensor, °C",
        "battery, °C",
        "clock limit",
    ):
        drawn.add_column(column, justify="left" if column == "bundle" else "right")
    for one in profile.conditions:
        both = (one.before, one.after)
        drawn.add_row(
            str(one.round),
            escape(profile.bundles[one.bundle].name),
            f"{one.waited_s:.0f}",
            ", ".join(moment.thermal_status or "-" for moment in both),
            ", ".join(_or_dash(hottest_c(moment), ".1f") for moment in both),
            ", ".join(_or_dash(moment.battery_c, ".1f") for moment in both),
            ", ".join(_or_dash(moment.clock_limit_share, ".0%") for moment in both),
        )
    return drawn


def _or_dash(value: float | None, form: str) -> str:
    """A dash where nothing is known."""
    return "-" if value is None else format(value, form)


def roofline_table(profile: Profile) -> Table:
    """The least that each phase can take on this machine, and the share of it that was reached."""
    drawn = Table(title=f"the machine's limits, {escape(profile.peaks.how)}" if profile.peaks else None)
    drawn.add_column("")
    for bundle in profile.bundles:
        drawn.add_column(f"{escape(bundle.name)}\nlimit, ms", justify="right")
        drawn.add_column("reached", justify="right")
    for name, label in LABELS.items():
        if any(name in bundle.roofline for bundle in profile.bundles):
            drawn.add_row(label, *(cell for bundle in profile.bundles for cell in _roofline(bundle, name)))
    return drawn


def _roofline(bundle: BundleProfile, name: PhaseName) -> tuple[str, str]:
    one = bundle.roofline.get(name)
    return (f"{one.bound_ms:.2f} ({one.binds})", f"{one.share_of_bound:.0%}") if one else ("-", "-")


def estimate_table(estimates: Sequence[Estimate]) -> Table:
    """Phones that were not there; nothing in it was measured."""
    phases = [name for name in LABELS if any(name in one.phases_ms for one in estimates)]
    drawn = Table(title=f"phones, ms: {estimates[0].label}; docs/estimates.md says how")
    for column in ("phone", "bundle", *(LABELS[name] for name in phases)):
        drawn.add_column(column, justify="left" if column in ("phone", "bundle") else "right")
    for one in estimates:
        cells = [f"{one.phases_ms[name]:.1f}" if name in one.phases_ms else "-" for name in phases]
        drawn.add_row(escape(one.phone), escape(one.bundle), *cells)
    return drawn
