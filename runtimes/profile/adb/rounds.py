"""Timed runs on a phone: the bundles take turns, a process of its own for each run, and rest between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import join
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile.adb.client import Adb, Disconnected, OnDrop, Ran, persist
from vlmp.runtimes.profile.adb.facts import ask_condition
from vlmp.runtimes.profile.adb.files import REMOTE
from vlmp.runtimes.profile.adb.runner import FOLDER, NAME, Runner
from vlmp.runtimes.profile.schema import COOL, BundleProfile, Condition, Profile, RunCondition, read_profile

RUN_S = 1800.0
"""Limit of one run."""
HOT_WAITS = 12
"""A hot phone may rest so many times as long as a cool one before it runs all the same."""
JSON, ETDUMP, PID = (f"{REMOTE}/{name}" for name in ("result.json", "events.etdp", "pid"))
KILLED, CANNOT, UNKNOWN, ILLEGAL = 128 + 9, 126, 127, 128 + 4
"""Exit codes of a shell: ended by the kernel, not executable, not found, an instruction that the CPU lacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A bundle on the phone. folder: relative to REMOTE. size_mib: of its files."""

    name: str
    folder: str
    size_mib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What all runs have in common. photo: relative to REMOTE."""

    adb: Adb
    runner: Runner
    photo: str
    prompt: str
    threads: int | None
    decode_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One timed run."""

    bundle: BundleProfile
    runtimes: dict[str, str]
    condition: RunCondition


def timed_rounds(call: Call, jobs: Sequence[Job], rounds: int, cool_down_s: float, on_drop: OnDrop) -> Iterator[Run]:
    """Every bundle once a round. A run that the connection interrupts is made anew.

    Raises UserError when the phone cannot run one, or does not come back.
    """
    for number in range(1, rounds + 1):
        for place, job in enumerate(jobs):
            yield persist(call.adb, partial(_timed_run, call, job, number, place, cool_down_s), on_drop)


def _timed_run(call: Call, job: Job, number: int, place: int, cool_down_s: float) -> Run:
    stop_runner(call.adb)
    before, waited_s = cool_down(call.adb, cool_down_s)
    profile = run_once(call, job, runs=1, decode_tokens=call.decode_tokens)
    after = ask_condition(call.adb)
    return Run(
        bundle=profile.bundles[0],
        runtimes=profile.machine.runtimes,
        condition=RunCondition(round=number, bundle=place, waited_s=waited_s, before=before, after=after),
    )


def cool_down(adb: Adb, seconds: float) -> tuple[Condition, float]:
    """Rest, and on a hot phone HOT_WAITS times as long at most. Returns its condition and the seconds waited."""
    started = monotonic()
    for _ in range(HOT_WAITS):
        sleep(seconds)
        condition = ask_condition(adb)
        if seconds == 0 or condition.thermal_status is None or condition.thermal_status in COOL:
            break
    return condition, monotonic() - started


def traced_run(call: Call, job: Job, runs: int, dump: Path) -> None:
    """Untimed: `runs` turns with one decoded token each under the event tracer, after one to warm up.

    dump: where its ETDump goes on this machine.
    """
    stop_runner(call.adb)
    run_once(call, job, runs=runs, decode_tokens=1, options=["--etdump", ETDUMP])
    call.adb.pull(ETDUMP, dump)


def run_once(call: Call, job: Job, *, runs: int, decode_tokens: int, options: Sequence[str] = ()) -> Profile:
    """Start the runner and read what it wrote. Raises UserError with what went wrong there, and Disconnected."""
    words = [
        *call.runner.start, f"{REMOTE}/{job.folder}", "--image", f"{REMOTE}/{call.photo}", "--prompt", call.prompt,
        "--warmup", "1", "--runs", str(runs), "--decode-tokens", str(decode_tokens), "--json", JSON, *options,
        *(["--threads", str(call.threads)] if call.threads else []),
    ]  # fmt: skip
    # The shell becomes the runner, in a session of its own where there is `setsid`: a lost connection does not end it,
    # and so it can be ended by its number, with its children.
    start = (
        f"cd {REMOTE}/{FOLDER} && rm -f {JSON} {ETDUMP} && "
        f"exec $(command -v setsid) sh -c 'echo $$ > {PID}; exec \"$@\"' sh {join(words)}"
    )
    started = monotonic()
    try:
        ran = call.adb.shell(start, RUN_S)
    except Disconnected:
        if monotonic() - started < RUN_S:
            raise
        raise UserError(f"{job.name} on {call.adb.serial}: a run did not end within {RUN_S:.0f} s") from None
    if ran.code:
        raise UserError(f"{job.name} on {call.adb.serial}: {_why(ran, job)}")
    with TemporaryDirectory(prefix="vlmp-profile-") as scratch:
        path = Path(scratch) / "result.json"
        call.adb.pull(JSON, path)
        return read_run(path, job.name)


def read_run(path: Path, name: str) -> Profile:
    """The profile of one bundle that the runner wrote. Raises UserError when it is not that."""
    try:
        profile = read_profile(path)
    except UserError as error:
        raise UserError(
            f"the runner wrote no profile of {name}: {str(error).removeprefix(f'{path}').strip(': ')}"
        ) from error
    if len(profile.bundles) != 1:
        raise UserError(f"the runner wrote {len(profile.bundles)} bundles into the profile of {name}")
    return profile


def stop_runner(adb: Adb) -> None:
    """End what a lost connection left running. Raises Disconnected."""
    adb.shell(
        f"pid=$(cat {PID} 2>/dev/null) && grep -q {NAME} /proc/$pid/cmdline && "
        "{ kill -9 -- -$pid || kill -9 $pid; } 2>/dev/null; "
        f"rm -f {PID} {JSON} {ETDUMP}"
    )


def _why(ran: Ran, job: Job) -> str:
    """One line on a run that failed."""
    said = [line for line in ran.errors.strip().splitlines() if line.strip()]
    last = said[-1].strip() if said else f"exit code {ran.code}"
    if ran.code == KILLED:
        return f"the runner was killed (signal 9): memory ran out, most likely; the bundle has {job.size_mib:.0f} MiB"
    if ran.code == ILLEGAL:
        return "the runner needs an instruction that this CPU lacks (signal 4)"
    if ran.code in (CANNOT, UNKNOWN):
        return f"the runner does not start there: {last}"
    if ran.code > 128:
        return f"the runner was ended by signal {ran.code - 128}"
    return last.removeprefix(f"{NAME}: ")
