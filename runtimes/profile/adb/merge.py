"""Runs on a phone as the profile of each bundle, the same as one of this machine."""

from collections.abc import Sequence

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import size_bytes
from vlmp.runtimes.profile.adb.facts import STATUSES
from vlmp.runtimes.profile.adb.rounds import Run
from vlmp.runtimes.profile.measure import to_phase, with_parts
from vlmp.runtimes.profile.schema import COOL, BundleProfile, Condition, Machine, Phase, PhaseName
from vlmp.runtimes.profile.task import Task, bundle_facts
from vlmp.runtimes.profile.trace import Traced, part_shares

MEASURED: tuple[PhaseName, ...] = ("load_warm", "preprocess", "vision", "prefill", "decode", "first_token")
"""What the runner times."""
LOW_BATTERY = 20
CLOCK_FELL = 0.02
"""Share of its highest clock that a core may lose before it is said."""


def merge_bundles(task: Task, runs: Sequence[Run], traces: Sequence[Traced]) -> list[BundleProfile]:
    """The medians of whole rounds. Raises UserError when a run lacks a phase."""
    bundles = []
    for place, (name, folder, manifest) in enumerate(zip(task.names, task.folders, task.manifests, strict=True)):
        own = [run.bundle for run in runs if run.condition.bundle == place]
        bundles.append(
            BundleProfile(
                name=name,
                manifest=bundle_facts(manifest),
                runtime=own[0].runtime,
                size_mib=size_bytes(folder) / 2**20,
                phases=merge_phases(own, traces[place]),
                prefill_split=traces[place].splits["prefill"],
                vision_split=traces[place].splits.get("vision", ""),
                cold_cached_share=None,
                memory=own[0].memory,
                operators=traces[place].operators,
                operators_ms=traces[place].operators_ms,
            )
        )
    return bundles


def merge_phases(runs: Sequence[BundleProfile], trace: Traced) -> dict[PhaseName, Phase]:
    """Samples of all runs together, split by the trace's shares. Raises UserError when a phase is missing."""
    samples: dict[PhaseName, list[float]] = {}
    for name in MEASURED:
        if any(name not in run.phases for run in runs):
            raise UserError(f"the runner wrote no phase {name!r}: it is of another version")
        samples[name] = [sample for run in runs for sample in run.phases[name].samples_ms]
    parted = with_parts(samples, part_shares(trace.operators))
    return {name: to_phase(values) for name, values in parted.items()}


def doubts(machine: Machine, runs: Sequence[Run], rounds: int, drops: int) -> list[str]:
    """What to know before the figures are believed, a sentence each."""
    conditions = [moment for run in runs for moment in (run.condition.before, run.condition.after)]
    found = [_emulation(machine), _heat(conditions, runs), *_clocks(conditions)]
    if machine.facts.get("battery saver") == "on":
        found.append("the battery saver is on, which holds clocks down")
    battery = machine.facts.get("battery", "").removesuffix(" %")
    if battery.isdigit() and int(battery) < LOW_BATTERY:
        found.append(f"the battery is at {battery} %: phones slow down when it is low")
    if drops:
        times = "once" if drops == 1 else f"{drops} times"
        found.append(f"the phone was disconnected {times}; what that interrupted was done anew")
    done = len(runs) // len({run.condition.bundle for run in runs})
    if done < rounds:
        found.append(f"it stopped after {done} of {rounds} rounds")
    return [line for line in found if line]


def _emulation(machine: Machine) -> str:
    emulated = machine.facts.get("emulated") == "yes"
    return "the phone is emulated: no time here is a phone's, and no speed-up either" if emulated else ""


def _heat(conditions: Sequence[Condition], runs: Sequence[Run]) -> str:
    told = [moment.thermal_status for moment in conditions if moment.thermal_status is not None]
    if not told:
        return "the phone tells no thermal status, so that throttling would not be noticed by it"
    hot = [status for status in told if status not in COOL]
    if not hot:
        return ""
    around = [{run.condition.before.thermal_status, run.condition.after.thermal_status} for run in runs]
    count = sum(bool(statuses & set(hot)) for statuses in around)
    worst = max(hot, key=STATUSES.index)
    return f"the phone was hot, up to thermal status {worst}, around {count} of {len(runs)} runs: it may have throttled"


def _clocks(conditions: Sequence[Condition]) -> list[str]:
    shares = [one.clock_limit_share for one in conditions if one.clock_limit_share is not None]
    if not shares:
        return []
    first, least = shares[0], min(shares)
    found = []
    if first < 1 - CLOCK_FELL:
        found.append(f"the limit of the phone's clocks was at {first:.0%} of the highest from the start")
    if least < first - CLOCK_FELL:
        found.append(
            f"the phone lowered the limit of its clocks from {first:.0%} to {least:.0%} of the highest meanwhile"
        )
    return found
