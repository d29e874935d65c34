"""What is measured in a fresh process: loading, cold or warm, with memory, and the runtime's own profile.

    python -m vlmp.runtimes.profile.child REQUEST_JSON

So bundles disturb neither each other nor the timed runs.
"""

import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeVar

import psutil
from pydantic import BaseModel
from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.bundle.folder import inside, read_manifest
from vlmp.runtimes.bundle.manifest import Manifest
from vlmp.runtimes.console.signals import terminable
from vlmp.runtimes.profile.cache import cached_share, drop
from vlmp.runtimes.profile.process import answer_process, ask_process
from vlmp.runtimes.profile.schema import Memory
from vlmp.runtimes.profile.trace import Traced, trace
from vlmp.runtimes.prompt import first_ids, load_tokenizer
from vlmp.runtimes.session import import_runtime, open_session
from vlmp.runtimes.turn import first_turn

MIB = 1 << 20


class Request(BaseModel):
    """What a process is to do with a bundle."""

    task: Literal["cold", "warm", "trace"]
    bundle: Path
    photo: Path
    prompt: str
    threads: int | None
    runs: int
    debug: bool = False
    """Show what libraries print."""


class Started(BaseModel):
    """A bundle loaded in a process of its own.

    cached_share: of its files' pages, those that stayed in the page cache before a cold load; None: unknown.
    """

    load_ms: float
    first_token_ms: float
    """From the start of loading to the first token."""
    cached_share: float | None
    memory: Memory


Answer = TypeVar("Answer", Started, Traced)


def ask(request: Request, kind: type[Answer]) -> Answer:
    """Run a request in a fresh process. Raises UserError with what went wrong there."""
    what = f"the process that loads {request.bundle}"
    return ask_process(kind, __name__, request.model_dump_json(), what=what, debug=request.debug)


def main() -> None:
    """Do what the request says and print the answer."""
    request = Request.model_validate_json(sys.argv[1])
    answer_process(lambda: _answer(request), debug=request.debug)


def _answer(request: Request) -> Started | Traced:
    try:
        if request.task == "trace":
            with terminable():  # it has a temporary folder
                return trace(request.bundle, request.photo, request.prompt, threads=request.threads, runs=request.runs)
        return _start(request)
    except (UserError, OSError):
        raise
    except Exception as error:  # a runtime's own; the parent shows one line
        raise UserError(f"{request.bundle}: {type(error).__name__}: {one_line(error)}") from error


def _start(request: Request) -> Started:
    """Load, answer with one token, run the other methods too."""
    manifest = read_manifest(request.bundle, check_hashes=False)
    import_runtime(request.bundle, manifest)  # its code is not the bundle's
    files = _files(request.bundle, manifest)
    share = cached_share(files) if request.task == "cold" and drop(files) else None
    before = _usage()
    _forget_peak()
    started = perf_counter()
    session = open_session(request.bundle, manifest, request.threads)  # its files may have to be hashed: done above
    tokenizer = load_tokenizer(request.bundle, manifest)
    loaded_at = perf_counter()
    after_load = _usage()
    resumed = perf_counter()
    ids = first_ids(tokenizer, manifest.prompt, request.prompt)
    (token,) = first_turn(session, request.photo, ids, 1).tokens
    answered = perf_counter()
    session.decode(token)
    if session.room:
        session.extend([token])
    ran = _usage()
    return Started(
        load_ms=(loaded_at - started) * 1e3,
        first_token_ms=(loaded_at - started + answered - resumed) * 1e3,
        cached_share=share,
        memory=Memory(
            libraries_pss_mib=before[1],
            libraries_rss_mib=before[0],
            loaded_pss_mib=after_load[1],
            loaded_rss_mib=after_load[0],
            ran_pss_mib=ran[1],
            ran_rss_mib=ran[0],
            peak_rss_mib=max(_peak_mib(), ran[0]),
        ),
    )


def _files(bundle: Path, manifest: Manifest) -> list[Path]:
    return [inside(bundle, entry.path) for entry in manifest.files]


def _usage() -> tuple[float, float | None]:
    """(resident, proportional) MiB of this process; the second on Linux only."""
    resident = psutil.Process().memory_info().rss / MIB
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return resident, None
    return resident, next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _forget_peak() -> None:
    """Start the peak of resident memory anew, so that importing the libraries does not count (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    """Highest resident memory since then; outside Linux since the process started."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource  # not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB  # bytes on macOS
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
