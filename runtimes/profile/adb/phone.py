"""Profiling on an Android phone: find it, push what it lacks, run the bundles in turns, pull, merge, clean up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import size_bytes
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.console.signals import terminable
from vlmp.runtimes.profile.adb.client import Adb, Disconnected, OnDrop, find_adb, find_phone, persist
from vlmp.runtimes.profile.adb.events import missing_reader, read_events
from vlmp.runtimes.profile.adb.facts import read_facts
from vlmp.runtimes.profile.adb.files import (
    REMOTE,
    Item,
    bring,
    bundle_items,
    make_item,
    make_room,
    prepare,
    remove_all,
    remove_others,
    remove_unfinished,
)
from vlmp.runtimes.profile.adb.merge import doubts, merge_bundles
from vlmp.runtimes.profile.adb.rounds import Call, Job, Run, run_once, stop_runner, timed_rounds, traced_run
from vlmp.runtimes.profile.adb.runner import Runner, check_abi, check_photo, find_runner, load_runner
from vlmp.runtimes.profile.task import Measured, Task
from vlmp.runtimes.profile.trace import Traced, in_parts

TARGET = "executorch"
PHOTO = "inputs/photo"
TRACED_RUNS = 3
"""Under the event tracer; more would only warm the phone up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line says of the phone. serial: None is the only one. runner: None is the one built here."""

    serial: str | None
    runner: Path | None
    cool_down_s: float
    keep_files: bool


@terminable()
def profile_phone(task: Task, options: Options, progress: Progress) -> Measured:
    """Measure everything on the phone. Whole rounds that were done before a fault are kept, with the fault.

    Raises UserError when there are none, and KeyboardInterrupt with what stays on the phone, if anything does.
    """
    for folder, manifest in zip(task.folders, task.manifests, strict=True):
        if manifest.target != TARGET:
            raise UserError(f"{folder} is for {manifest.target}: a phone runs bundles of vlmp-export --target {TARGET}")
    check_photo(task.photo)
    adb = find_phone(find_adb(), options.serial)
    runner = load_runner(find_runner(options.runner))
    drops: list[Disconnected] = []

    def on_drop(lost: Disconnected) -> None:
        drops.append(lost)
        progress.console.print(f"vlmp-profile: {lost}; waiting for it", markup=False, soft_wrap=True)

    facts = persist(adb, partial(read_facts, adb), on_drop)
    check_abi(adb.serial, facts.abis)
    runs: list[Run] = []
    traces: list[Traced] = []
    fault: UserError | None = None
    try:
        _run(adb, runner, task, options, progress, on_drop, traces, runs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_clean_up(adb, options)) from None
    except (UserError, OSError) as error:
        stays = _clean_up(adb, options)
        fault = UserError(f"{error}; {stays}" if stays else str(error))
    except BaseException:
        _clean_up(adb, options)
        raise
    else:
        if stays := _clean_up(adb, options, on_drop):
            progress.console.print(f"vlmp-profile: {stays}", markup=False, soft_wrap=True)
    rounds = len(runs) // len(task.folders)
    if fault and not rounds:
        raise fault
    whole = runs[: rounds * len(task.folders)]
    told = {"runtimes": whole[0].runtimes, "facts": facts.machine.facts | {"runner": runner.build}}
    return Measured(
        machine=facts.machine.model_copy(update=told),
        bundles=merge_bundles(task, whole, traces),
        runs=rounds,
        warnings=[*doubts(facts.machine, whole, task.runs, len(drops)), *runner.warnings],
        conditions=[run.condition for run in whole],
        fault=fault,
    )


def _run(
    adb: Adb, runner: Runner, task: Task, options: Options, progress: Progress, on_drop: OnDrop,
    traces: list[Traced], runs: list[Run],
) -> None:  # fmt: skip
    """Push, warm up, run. traces, runs: filled on the way, so that they outlast a fault."""
    jobs = [
        Job(name=name, folder=f"bundle-{place}", size_mib=size_bytes(folder) / 2**20)
        for place, (name, folder) in enumerate(zip(task.names, task.folders, strict=True))
    ]
    photo = make_item(task.photo, PHOTO + task.photo.suffix)
    items = [*runner.items, photo]
    for job, folder in zip(jobs, task.folders, strict=True):
        items += bundle_items(folder, job.folder)
    persist(adb, partial(_push, adb, items, progress), on_drop)
    call = Call(
        adb=adb, runner=runner, photo=photo.place, prompt=task.prompt, threads=task.threads,
        decode_tokens=task.decode_tokens,
    )  # fmt: skip
    bar = progress.add_task("runs", total=len(jobs) * (1 + task.runs))
    for job, folder, manifest in zip(jobs, task.folders, task.manifests, strict=True):
        traces.append(persist(adb, partial(_warm_up, call, job, folder, manifest), on_drop))
        progress.advance(bar)
    for run in timed_rounds(call, jobs, task.runs, options.cool_down_s, on_drop):
        runs.append(run)
        progress.advance(bar)


def _push(adb: Adb, items: Sequence[Item], progress: Progress) -> None:
    """Everything that the phone does not have. May be begun anew: what arrived stays."""
    prepare(adb, items)
    have = make_room(adb, items)
    missing = [item for item in items if have.get(item.place) != item.sha256]
    bar = progress.add_task("push", total=sum(item.size for item in missing))
    before = 0

    def on_bytes(size: int) -> None:
        progress.update(bar, completed=before + size)

    for item in missing:
        bring(adb, item, have, on_bytes)
        have[item.place] = item.sha256
        before += item.size
        on_bytes(0)
    remove_others(adb, have, {item.place: item.sha256 for item in items})


def _warm_up(call: Call, job: Job, bundle: Path, manifest: Manifest) -> Traced:
    """An untimed run of a bundle, which fills the page cache and tells the operators' times."""
    if missing := missing_reader():
        stop_runner(call.adb)
        run_once(call, job, runs=1, decode_tokens=1)
        return Traced(operators=[], operators_ms={}, splits=dict.fromkeys(in_parts(manifest), missing))
    with TemporaryDirectory(prefix="vlmp-profile-") as scratch:
        dump = Path(scratch) / "events"
        traced_run(call, job, TRACED_RUNS, dump)
        return read_events(bundle, dump)


def _clean_up(adb: Adb, options: Options, on_drop: OnDrop | None = None) -> str:
    """Leave nothing on the phone. on_drop: None where a lost one is not waited for. Returns what stays, for a line.

    Raises KeyboardInterrupt saying so, too.
    """
    stays = f"what was pushed to {adb.serial} stays in {REMOTE} until the next call"

    def remove() -> None:
        stop_runner(adb)
        if options.keep_files:
            remove_unfinished(adb)
        else:
            remove_all(adb)

    try:
        if on_drop is None:
            remove()
        else:
            persist(adb, remove, on_drop)
    except Disconnected:
        return stays
    except UserError as error:
        return f"{error}; {stays}"
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stays) from None
    return ""
