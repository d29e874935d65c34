"""How Ctrl-C ends a command while there is nothing to clean up.

This file imports what Python has loaded anyway: it is the first of a command's that runs.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's own would have to be imported
if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
NOTHING_LEFT = "nothing unfinished is left behind"
SHOW_CURSOR = "\x1b[?25h\n"
"""A spinner has hidden it."""


class Leave:
    """A signal handler: one line, and out.

    descriptor: tells where standard error is at that time.
    """

    def __init__(self, program: str, descriptor: Callable[[], int] = lambda: 2) -> None:
        self.program = program
        self.descriptor = descriptor

    def __call__(self, _signal: int, _frame: object) -> None:
        """As Python calls it."""
        try:  # noqa: SIM105
            sys.stdout.flush()
        except Exception:  # it is closed, or this comes in the midst of writing there
            pass
        try:
            first = SHOW_CURSOR if os.isatty(self.descriptor()) else ""
            os.write(self.descriptor(), f"{first}{self.program}: interrupted, {NOTHING_LEFT}\n".encode())
        finally:
            os._exit(INTERRUPTED)
