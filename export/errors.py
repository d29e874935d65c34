"""What all command lines share: the one error that a person sees, and how it is shown."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Input that cannot be served. Its text is one line: what, where, and what would be right."""


class OneLineParser(ArgumentParser):
    """argparse whose errors are one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def exit_with_one_line(program: str, action: Callable[[], None]) -> None:
    """Run a command; what a person can mend ends as one line with exit code 2, Ctrl-C with 130."""
    try:
        action()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted, nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
