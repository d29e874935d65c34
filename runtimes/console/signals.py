"""How a signal ends a command."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vlmp.runtimes.console.leave import Leave
from vlmp.runtimes.console.streams import own_descriptor

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Sent by `kill`, and by a terminal that is closed (not on every system)."""
_stopped = False


@contextmanager
def leaving_at_once(program: str) -> Iterator[None]:
    """Let Ctrl-C end the process at once with one line, wherever it is.

    For all the time in which there is nothing to clean up. A KeyboardInterrupt would be turned into other errors, or
    lost, by libraries that are being imported. `terminable` is for the rest of the time.
    """
    global _stopped
    _stopped = False
    before = signal.getsignal(signal.SIGINT)
    try:
        if _ours(before):
            signal.signal(signal.SIGINT, Leave(program, own_descriptor))
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        if _ours(before):
            signal.signal(signal.SIGINT, before)


def _ours(handler: object) -> bool:
    """Whether Ctrl-C is for us to deal with: not where a shell's background job ignores it, or somebody else does."""
    return handler is signal.default_int_handler or isinstance(handler, Leave)


@contextmanager
def terminable() -> Iterator[None]:
    """Let signals that end a program unwind as KeyboardInterrupt, for work that leaves nothing behind then.

    Those that are ignored, as `nohup` does, stay so.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        global _stopped
        _stopped = True
        for number in ENDING:  # shells send a second one, which must not interrupt the cleaning up
            if number in before:
                signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    if _ours(signal.getsignal(signal.SIGINT)):
        before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    try:
        for number in before:
            signal.signal(number, interrupt)
    except ValueError:  # Only the main thread may set handlers; elsewhere the caller deals with signals.
        yield
        return
    try:
        with _none_lost():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _none_lost() -> Iterator[None]:
    """Raise KeyboardInterrupt once more where Python has dropped one: in a callback that cannot pass it on."""
    hook = sys.unraisablehook

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # when that callback is over
        else:
            hook(dropped)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook


def stopped() -> bool:
    """Whether a signal has interrupted the command, whatever error a library has made of that."""
    return _stopped
