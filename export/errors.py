"""What all command lines share: the one error that a person sees, and how it is shown."""

import logging
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from textwrap import shorten
from typing import NoReturn


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
    """Run a command; what a person can mend ends as one line with exit code 2, Ctrl-C with 130."""
    try:
        action()
    except (UserError, OSError) as error:  # a path that is too long, a folder that may not be read, a closed pipe
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted, nothing unfinished is left behind", file=sys.stderr)
        raise SystemExit(130) from None


def quiet_libraries() -> None:
    """Keep what torch, torchao and transformers log about themselves off the terminal; errors still show."""
    for name in ("torch", "torchao", "transformers", "coremltools", "optimum"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
