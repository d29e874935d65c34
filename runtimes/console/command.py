"""What all command lines share: how they are parsed, and how they end.

Exit codes: 0 done; 2 what a person can mend, in one line; 1 a fault of vlmp or of a library, in one line; 130 stopped
by a signal that was caught; 141 standard output was closed, as shells say of any program that a closed pipe ends.
"""

import errno
import sys
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from vlmp.runtimes.bundle.errors import UserError, one_line
from vlmp.runtimes.console.leave import INTERRUPTED, NOTHING_LEFT
from vlmp.runtimes.console.signals import leaving_at_once, stopped
from vlmp.runtimes.console.streams import (
    drop_stdout,
    heard,
    is_url,
    last_lines,
    mend_streams,
    own_stderr,
    printable,
    quiet,
    say,
    stdout_is_gone,
)

FAULT, WRONG_INPUT, CLOSED_PIPE = 1, 2, 141
GIVEN = "_given"
"""Where a namespace keeps, while it is filled, which options have been there."""

Made = TypeVar("Made")


class _Once(Action):
    """Stores a value, and refuses a second one: which of them is meant?"""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """As argparse calls it."""
        given = vars(namespace).setdefault(GIVEN, set())
        if self.option_strings and self.dest in given:
            parser.error(f"{option} is there twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Version(Action):
    """Prints NAME X.Y.Z."""

    def __call__(self, parser: ArgumentParser, _namespace: Namespace, _values: Any, option: str | None = None) -> None:
        """As argparse calls it."""
        from importlib.metadata import version

        print(f"{parser.prog} {version('vlmp')}")
        parser.exit()


class OneLineParser(ArgumentParser):
    """argparse whose errors are one line, exit code 2, with --version.

    Options are written out, since a new one would change what a beginning means; what may be repeated says so.
    """

    def __init__(self, prog: str, description: str | None = None, **settings: Any) -> None:
        super().__init__(prog, description=description, allow_abbrev=False, **settings)
        refuse_repetition(self)
        self.add_argument("--version", action=_Version, nargs=0, default=SUPPRESS, help="print the version and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does."""
        found, rest = super().parse_known_args(args, namespace)
        if hasattr(found, GIVEN):
            delattr(found, GIVEN)
        return found, rest

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own hides that it could not be written."""
        print(message, end="", file=file or own_stderr())

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        say(f"{self.prog}: {printable(message)}")
        raise SystemExit(WRONG_INPUT)


def refuse_repetition(parser: ArgumentParser) -> None:
    """Options that take one value may be given once, those added from now on."""
    for name in (None, "store"):
        parser.register("action", name, _Once)


def add_debug(parser: ArgumentParser) -> None:
    """The option that all commands have which load libraries."""
    parser.add_argument(
        "--debug", action="store_true", help="show all that libraries print, and where a failure comes from"
    )


def local_path(text: str) -> Path:
    """A path as an option takes it. Raises ArgumentTypeError on what pathlib would silently turn into another."""
    if is_url(text):
        raise ArgumentTypeError(f"{text} is a URL: download it first, and name what is on this machine")
    if not text:
        raise ArgumentTypeError("the path is empty")
    return Path(text)


def local_folder(text: str) -> Path:
    """The same for what libraries open by name: they take valid UTF-8 only. Raises ArgumentTypeError."""
    path = local_path(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = "its name is not valid UTF-8, or the locale (LC_ALL) is not UTF-8"
        raise ArgumentTypeError(f"{printable(text)} cannot be used: {reason}") from None
    return path


def check_file(what: str, path: Path) -> None:
    """Raises UserError unless there is such a file."""
    if not path.is_file():
        raise UserError(f"{what} {path} {'is not a file' if path.exists() else 'does not exist'}")


def check_folder(what: str, path: Path) -> None:
    """Raises UserError unless there is such a folder."""
    if not path.is_dir():
        raise UserError(f"{what} {path} {'is not a folder' if path.exists() else 'does not exist'}")


def run_command(parser: OneLineParser, action: Callable[[Namespace], None], argv: Sequence[str] | None = None) -> None:
    """Parse and act; see `exit_with_one_line`."""
    arguments = _framed(parser.prog, lambda: parser.parse_args(argv), nullcontext())
    exit_with_one_line(parser.prog, lambda: action(arguments), debug=arguments.debug)


def exit_with_one_line(program: str, action: Callable[[], None], *, debug: bool = False) -> None:
    """Run a command, whatever happens ends as one line with an exit code.

    A KeyboardInterrupt with a text says what is left behind. debug: libraries speak, and failures show a traceback.
    """

    _framed(program, action, nullcontext() if debug else quiet(program), debug=debug)


def _framed(
    program: str, action: Callable[[], Made], libraries: AbstractContextManager[None], *, debug: bool = False
) -> Made:
    mend_streams()
    with leaving_at_once(program), libraries:
        try:
            try:
                made = action()
            except SystemExit:
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return made
        except SystemExit:
            raise
        except BaseException as error:
            code = _tell(program, error, debug=debug)
        raise SystemExit(code)


def _tell(program: str, error: BaseException, *, debug: bool) -> int:
    """Say what has happened. Returns the exit code."""
    gone = stdout_is_gone()
    _settle_stdout()
    if stopped() or isinstance(error, KeyboardInterrupt):
        left = str(error) if isinstance(error, KeyboardInterrupt) else ""
        say(f"{program}: interrupted, {left or NOTHING_LEFT}")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and gone:
        return CLOSED_PIPE
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, UserError | OSError):  # a path that is too long, a folder that may not be read
        line = printable(str(error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
            line = f"the output cannot be written: {error.strerror}"
        say(f"{program}: {line}")
        return WRONG_INPUT
    for line in last_lines(heard()):
        say(printable(line))
    hint = "" if debug else " (--debug shows where)"
    say(f"{program}: {type(error).__name__}: {printable(one_line(error))}{hint}")
    return FAULT


def _settle_stdout() -> None:
    """Write what is left for standard output; if it does not take that, Python is not to try again as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_stdout()
