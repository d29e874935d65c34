"""One question to a module in a process of its own: `python -m MODULE ARGUMENTS`, whose last line is the answer."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.console.streams import say

PROGRAM = "vlmp-profile"
"""What such a process calls itself when it says why it fails."""

Answer = TypeVar("Answer", bound=BaseModel)


def ask_process(
    kind: type[Answer],
    module: str,
    *arguments: str,
    what: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    debug: bool = False,
) -> Answer:
    """The answer of a module, a model that its last line on stdout is as JSON.

    what: the process in words, for errors. environment: instead of this process's own. timeout_s: None waits as long as
    it takes. debug: show what libraries print there. Raises UserError with the last line that the process says, with
    the signal that ends it, or when it takes too long.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{what} takes longer than {timeout_s} seconds") from None
    said = done.stderr.strip()
    if debug and said:
        say(said)
    last = said.splitlines()[-1].removeprefix(f"{PROGRAM}: ") if said else ""
    if done.returncode < 0:
        raise UserError(
            f"{what} was ended by signal {-done.returncode}; if that is 9, memory ran out{last and '; ' + last}"
        )
    if done.returncode:
        raise UserError(last or f"{what} ended with exit code {done.returncode}")
    return kind.model_validate_json(done.stdout.splitlines()[-1])


def answer_process(answer: Callable[[], BaseModel], *, debug: bool = False) -> None:
    """The other side: print the answer, or end with one line."""
    exit_with_one_line(PROGRAM, lambda: print(answer().model_dump_json(), flush=True), debug=debug)
