"""Standard error: our own lines reach it, what libraries print goes aside until somebody asks for it.

Libraries write to it from C++ as well as from Python, so that file descriptor 2 itself is turned away. It points to a
file that has no name and vanishes with the process.
"""

import faulthandler
import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn, TextIO

STDERR = 2
FATAL = "Fatal Python error: "
"""What Python's fault handler writes when a native library crashes."""
LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class _Quiet:
    """own: the stream for our own lines, on descriptor `real`. noise: descriptor of what libraries say."""

    own: TextIO
    real: int
    noise: int


_quiet: _Quiet | None = None
"""A process has one descriptor 2, so there is one of these."""


def own_stderr() -> TextIO:
    """Where our own lines go; sys.stderr may be the libraries'."""
    return sys.stderr if _quiet is None else _quiet.own


def own_descriptor() -> int:
    """The descriptor below it."""
    return STDERR if _quiet is None else _quiet.real


def say(line: str) -> None:
    """Print a line of ours on standard error; if it takes none, the work is not to end for that."""
    with suppress(OSError):
        print(line, file=own_stderr(), flush=True)


def heard() -> str:
    """What libraries have said so far; empty where it was not turned away."""
    if _quiet is None:
        return ""
    sys.stderr.flush()
    return _read(_quiet.noise)


def last_lines(text: str, count: int = LAST_LINES) -> list[str]:
    """The last lines that are not blank, each without what a terminal would overwrite: progress bars end in one."""
    lines = [line.rstrip().rpartition("\r")[2].strip() for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-count:]


@contextmanager
def quiet(program: str) -> Iterator[None]:
    """Turn what libraries write to standard error aside. If one crashes, its last words are shown all the same."""
    global _quiet
    if _quiet is not None:
        yield
        return
    sys.stderr.flush()
    ours = sys.stderr
    real, noise = os.dup(STDERR), _new_file()
    own = _on(real) if _writes_to(ours, STDERR) else ours
    _quiet = _Quiet(own, real, noise)
    os.dup2(noise, STDERR)
    if own is ours:  # somebody has replaced sys.stderr, as a test does
        sys.stderr = _on(STDERR)
    watched = not faulthandler.is_enabled()  # or its owner has chosen where crashes are told
    lifeline = _watch(program, real, noise) if watched else None
    if watched:
        faulthandler.enable(STDERR, all_threads=False)
    try:
        yield
    finally:
        if watched:
            faulthandler.disable()
        if lifeline:
            _dismiss(*lifeline)
        with suppress(OSError, ValueError):
            sys.stderr.flush()
            own.flush()
        sys.stderr = ours
        os.dup2(real, STDERR)
        _quiet = None
        os.close(noise)
        os.close(real)


@contextmanager
def aloud() -> Iterator[None]:
    """Let a library speak within `quiet`, where what it says is for the person: the progress of a download."""
    if _quiet is None:
        yield
        return
    sys.stderr.flush()
    os.dup2(_quiet.real, STDERR)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(_quiet.noise, STDERR)


def mend_streams() -> None:
    """Make standard streams safe to write to, whatever they are.

    Closed ones lead to nowhere, or the next file that is opened would get their number; and what a stream's encoding
    does not have is written with backslashes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(nowhere, True)  # for what we start, too
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # print() would take the other one
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def stdout_is_gone() -> bool:
    """Whether standard output is a pipe or a socket that nobody reads any more."""
    if not hasattr(select, "poll") or not _writes_to(sys.stdout, 1):
        return False
    waiting = select.poll()
    waiting.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))


def drop_stdout() -> None:
    """Forget what standard output did not take, or Python would try again when it ends, and complain."""
    if _writes_to(sys.stdout, 1):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _on(descriptor: int) -> TextIO:
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return open(descriptor, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)


def _writes_to(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):  # no file, or closed
        return False


def _new_file() -> int:
    """A descriptor of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("noise")
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _read(noise: int) -> str:
    """All of it, and writers go on where they were."""
    return os.pread(noise, os.fstat(noise).st_size, 0).decode("utf-8", "replace")


def _watch(program: str, real: int, noise: int) -> tuple[int, int] | None:
    """A process that lives to tell what was said before a crash, which leaves this one no time to.

    It waits at a pipe, whose other end closes when this process ends. Returns that end and the process's id.
    """
    if not hasattr(os, "fork"):
        return None
    below, above = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    watcher = os.fork()
    if watcher == 0:  # with these signals blocked: it ends when the other does, whatever happens before
        os.close(above)
        _tell_crash(program, below, real, noise)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(below)
    return above, watcher


def _tell_crash(program: str, below: int, real: int, noise: int) -> NoReturn:
    try:
        dismissed = os.read(below, 1)
        said, fatal, cause = _read(noise).rpartition(FATAL)
        if fatal and not dismissed:
            words = " ".join(last_lines(said, 2)) or "nothing"
            line = f"{program}: a library crashed ({cause.splitlines()[0]}); the last that libraries said: {words}\n"
            os.write(real, line.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(0)


def _dismiss(above: int, watcher: int) -> None:
    """Let it go: by a byte, since a library's own child may hold the pipe's end open."""
    with suppress(OSError):
        os.write(above, b".")
    os.close(above)
    with suppress(OSError):  # a library may have waited for all children
        os.waitpid(watcher, 0)


def printable(text: str) -> str:
    """One line, whatever a name in it holds: line breaks and what a terminal would obey are written as Python does."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def is_url(text: str) -> bool:
    """Whether it begins as a URL does."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def quiet_libraries() -> None:
    """For scripts: keep what torch, torchao and transformers log about themselves off the terminal.

    Errors still show. Commands have `streams.quiet`, which turns everything aside.
    """
    import logging
    import warnings

    for name in ("torch", "torchao", "transformers", "coremltools", "optimum"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
