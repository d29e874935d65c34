"""What all command lines share: the one error that a person sees, how it is shown, and how a signal ends them."""

import logging
import signal
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from types import FrameType
from typing import NoReturn

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Sent by `kill`, and by a terminal that is closed (not on every system)."""


class UserError(Exception):
    """Input that cannot be served. Its text is one line: what, where, and what would be right."""


def one_line(error: BaseException) -> str:
    """What another library's error says, as one line; its kind when it says nothing."""
    return shorten(str(error), 300, placeholder=" ...") or type(error).__name__


def check_text(what: str, text: str) -> None:
    """Raises UserError when a text from a terminal was not UTF-8: no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is not valid UTF-8: {text[error.start : error.end]!r} in it") from None


class OneLineParser(ArgumentParser):
    """argparse whose errors are one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def exit_with_one_line(program: str, action: Callable[[], None]) -> None:
    """Run a command; what a person can mend ends as one line with exit code 2, Ctrl-C with 130.

    A KeyboardInterrupt with a text says what is left behind.
    """
    try:
        action()
    except (UserError, OSError) as error:  # a path that is too long, a folder that may not be read, a closed pipe
        print(f"{program}: {_printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        left = str(stopped) or "nothing unfinished is left behind"
        print(f"{program}: interrupted, {left}", file=sys.stderr)
        raise SystemExit(130) from None


def _printable(text: str) -> str:
    """One line, whatever a name in it holds: line breaks and what a terminal would obey are written as Python does."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


@contextmanager
def terminable() -> Iterator[None]:
    """Let signals that end a program unwind like Ctrl-C, so that they leave nothing behind either.

    Those that are ignored, as `nohup` does, stay so.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        for number in before:  # shells send a second one, which must not interrupt the cleaning up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, interrupt)
    except ValueError:  # Only the main thread may set handlers; elsewhere the caller deals with signals.
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_libraries() -> None:
    """Keep what torch, torchao and transformers log about themselves off the terminal; errors still show."""
    for name in ("torch", "torchao", "transformers", "coremltools", "optimum"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
