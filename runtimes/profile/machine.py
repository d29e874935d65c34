"""The machine that a profile was measured on: what its figures depend on."""

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil
from vlmp.runtimes.profile.schema import Machine

FLAGS = {
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
}  # fmt: skip
"""Features that matrix kernels choose by, as Linux calls them; asimddp is NEON's dot product."""


def describe_machine(runtimes: Iterable[str]) -> Machine:
    """This machine. runtimes: `Session.runtime` of what is measured, a name and then the version."""
    cpu, flags = _cpu()
    facts = {}
    if hasattr(os, "getloadavg"):
        facts["load average"] = f"{os.getloadavg()[0]:.1f}"
    return Machine(
        kind="host",
        name=cpu,
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu,
        cores=count_cores(),
        flags=sorted(flags & FLAGS),
        memory_mib=psutil.virtual_memory().total / 2**20,
        runtimes={name: version for name, _, version in (runtime.partition(" ") for runtime in runtimes)},
        facts=facts,
    )


def busy_warning(machine: Machine) -> str:
    """A line when other work competes for the cores; empty when not, or when the system does not tell."""
    load = float(machine.facts.get("load average", 0))
    if load < 0.5 * machine.cores:
        return ""
    return (
        f"the machine is busy: load average {load:.1f} on {machine.cores} cores before measuring; "
        "expect wide spreads, and times that are too long"
    )


def count_cores() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> tuple[str, set[str]]:
    """Model and features; no features outside Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return _brand() or platform.processor() or platform.machine(), set()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or fields.get("Hardware") or platform.machine()
    return model, set((fields.get("flags") or fields.get("Features") or "").split())


def _brand() -> str:
    """What macOS calls its CPU."""
    try:
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()
