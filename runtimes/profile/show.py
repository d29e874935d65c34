"""A profile on a terminal: tables, then sentences."""

import sys

from rich.console import Console
from vlmp.runtimes.profile.figures import why_not_cold
from vlmp.runtimes.profile.schema import Profile
from vlmp.runtimes.profile.table import condition_table, estimate_table, operator_table, phase_table, roofline_table


def show(profile: Profile) -> None:
    """Print all of it."""
    console = Console(width=None if sys.stdout.isatty() else 150, emoji=False)
    machine = profile.machine
    memory = f"{machine.memory_mib / 1024:.1f} GiB" if machine.memory_mib else "memory unknown"
    console.print(
        f"{machine_name(profile)}, {machine.cores} cores ({' '.join(machine.flags) or 'features unknown'}), "
        f"{memory}, {machine.os}, " + ", ".join(f"{name} {version}" for name, version in machine.runtimes.items()),
        markup=False,
    )
    if machine.kind != "host" and machine.facts:
        console.print(", ".join(f"{name} {value}" for name, value in machine.facts.items()), markup=False)
    for line in profile.warnings:
        console.print(f"note: {line}.", markup=False)
    console.print(phase_table(profile))
    if profile.conditions:
        console.print(condition_table(profile))
    if any(bundle.roofline for bundle in profile.bundles):
        console.print(roofline_table(profile))
    for bundle in profile.bundles:
        if bundle.operators:
            console.print(operator_table(bundle))
    for bundle in profile.bundles:
        for method, how in bundle.splits.items():
            console.print(f"{bundle.name}: {method} {how}.", markup=False)
        if why := why_not_cold(profile, bundle):
            console.print(f"{bundle.name}: no cold load, {why}.", markup=False)
    for line in profile.explanation:
        console.print(line, markup=False)
    if profile.estimates:
        console.print(estimate_table(profile.estimates))


def machine_name(profile: Profile) -> str:
    """Name and processor; of a host they are the same."""
    machine = profile.machine
    return machine.cpu if machine.kind == "host" else f"{machine.name} ({machine.cpu})"
