"""One phone behind the `adb` program: commands, files, and what it means when they fail.

A fault that the phone itself reports is final (UserError). Anything else that goes wrong on the way is `Disconnected`:
a cable, a sleeping Wi-Fi, a restarted daemon. Whoever can go on after that does, see `persist`.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from time import monotonic, sleep
from typing import TypeVar

from vlmp.runtimes.bundle.errors import UserError

HOW_TO_INSTALL = "apt-get install adb, brew install android-platform-tools, or Android's SDK platform tools"
COMMAND_S = 60.0
"""Limit of a command that does not compute."""
STALL_S = 60.0
"""A file of which nothing arrives for so long is not coming."""
POLL_S = 0.5
MOST_DROPS = 5
"""So many lost connections in one step, and the step is given up."""
COME_BACK_S = 120.0
_EXIT = "@vlmp-exit "
Result = TypeVar("Result")


class Disconnected(UserError):
    """The phone does not answer any more; it may come back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A command that came to its end on the phone. code: as its shell saw it, 128 + n after signal n."""

    code: int
    output: str
    errors: str


def find_adb() -> str:
    """Path of the program. Raises UserError saying where to get it."""
    program = shutil.which("adb")
    if program is None:
        raise UserError(f"adb is not installed, which talks to phones: {HOW_TO_INSTALL}")
    return program


def find_phone(program: str, wanted: str | None) -> "Adb":
    """The phone with this serial number, or the only one. Raises UserError when there is not exactly one to use."""
    if wanted and ":" in wanted:  # an address: adb knows it once it is connected
        _call([program, "connect", wanted], COMMAND_S)
    states = list_phones(program)
    known = ", ".join(f"{serial} ({state})" for serial, state in states.items())
    if wanted is not None and wanted not in states:
        raise UserError(f"no phone {wanted!r}: adb sees {known or 'none'}")
    if not states:
        raise UserError("no phone: connect one, with USB debugging on (Settings, Developer options)")
    if wanted is None and len(states) > 1:
        usable = [serial for serial, state in states.items() if state == "device"]
        raise UserError(f"several phones: {known}; choose one by --device adb:{(usable or list(states))[0]}")
    serial = wanted or next(iter(states))
    _check_state(serial, states[serial])
    return Adb(program, serial)


def list_phones(program: str) -> dict[str, str]:
    """Serial number -> adb's state of it. Raises UserError when adb's own server does not start."""
    done = _call([program, "devices"], COMMAND_S)
    if done.returncode:
        raise UserError(f"adb does not work here: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
    lines = done.stdout.partition("List of devices attached")[2].splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def _check_state(serial: str, state: str) -> None:
    if state == "device":
        return
    if state in ("unauthorized", "authorizing"):
        raise UserError(f"{serial} does not trust this machine yet: unlock it and allow USB debugging")
    if state.startswith("no permissions"):
        raise UserError(f"{serial} may not be opened by this user: udev rules are missing, or the adb group")
    if state == "offline":
        raise UserError(f"{serial} is offline: reconnect it, or restart adb by `adb kill-server`")
    raise UserError(f"{serial} is in state {state!r}: start Android on it")


class Adb:
    """A phone that answered once."""

    def __init__(self, program: str, serial: str) -> None:
        self.program = program
        self.serial = serial

    def shell(self, command: str, timeout_s: float = COMMAND_S) -> Ran:
        """Run a command in the phone's shell. Raises Disconnected unless its end was seen.

        The exit code comes with the output: adb's own says 0 when the connection is lost.
        """
        done = self._call(["shell", f'( {command}\n); code=$?; echo; echo "{_EXIT}$code"'], timeout_s)
        output, found, code = done.stdout.rpartition(f"\n{_EXIT}")
        if not found or not re.fullmatch(r"\d+\n", code):
            raise Disconnected(self._lost(done.stderr))
        return Ran(code=int(code), output=output, errors=done.stderr)

    def push(self, source: Path, target: str, on_bytes: Callable[[int], None]) -> None:
        """Copy a file to the phone. on_bytes: called now and then with the size that has arrived.

        Raises UserError when the phone refuses it, Disconnected when the connection is lost or nothing moves.
        """
        command = [self.program, "-s", self.serial, "push", str(source), target]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as copying:
            try:
                seen, since = 0, monotonic()
                while True:
                    try:
                        said = copying.communicate(timeout=POLL_S)[0].decode(errors="replace")
                        break
                    except subprocess.TimeoutExpired:
                        size = self._size(target)
                    if size > seen:
                        seen, since = size, monotonic()
                        on_bytes(seen)
                    if monotonic() - since > STALL_S:
                        raise Disconnected(f"{self.serial}: nothing of {source.name} arrived for {STALL_S:.0f} s")
            finally:
                copying.kill()
        self._check_copied(copying.returncode, said, source.name)
        on_bytes(source.stat().st_size)

    def pull(self, source: str, target: Path) -> None:
        """Copy a file from the phone. Raises as `push`."""
        done = self._call(["pull", source, str(target)], COMMAND_S)
        self._check_copied(done.returncode, done.stdout + done.stderr, source)

    def wait(self, limit_s: float) -> None:
        """Until the phone answers again. Raises UserError when it does not."""
        deadline = monotonic() + limit_s
        while True:
            try:
                if self.shell("true", timeout_s=10).code == 0:
                    return
            except Disconnected:
                pass
            if monotonic() > deadline:
                raise UserError(f"{self.serial} was disconnected and did not come back within {limit_s:.0f} s")
            sleep(POLL_S)
            if ":" in self.serial:  # an address does not come back by itself
                _call([self.program, "disconnect", self.serial], COMMAND_S)
                _call([self.program, "connect", self.serial], COMMAND_S)

    def _size(self, path: str) -> int:
        try:
            return int(self.shell(f"stat -c %s {quote(path)}").output)
        except (Disconnected, ValueError):
            return 0

    def _call(self, arguments: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
        return _call([self.program, "-s", self.serial, *arguments], timeout_s)

    def _check_copied(self, code: int, said: str, name: str) -> None:
        if code == 0:
            return
        reason = next((line for line in said.splitlines() if "error:" in line), said.strip())
        reason = reason.removeprefix("adb: ").removeprefix("error: ")
        _, refused, why = reason.partition("remote ")
        if "No space left" in reason:
            raise UserError(f"{self.serial} is full: {name} does not fit; free some storage")
        if refused:
            raise UserError(f"{self.serial} does not take or give {name}: {why}")
        raise Disconnected(self._lost(reason))

    def _lost(self, said: str) -> str:
        return f"{self.serial} was disconnected ({_last_line(said) or 'no word from it'})"


OnDrop = Callable[[Disconnected], None]


def persist(adb: Adb, action: Callable[[], Result], on_drop: OnDrop) -> Result:
    """Do something that may be begun anew, waiting for a phone that was lost on the way.

    Raises UserError when it does not come back within COME_BACK_S, or is lost too often.
    """
    for _ in range(MOST_DROPS):
        try:
            return action()
        except Disconnected as lost:
            on_drop(lost)
            adb.wait(COME_BACK_S)
    raise UserError(f"{adb.serial} was disconnected {MOST_DROPS} times in one step: check the cable")


def _call(command: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run adb; a call that does not end in time looks like a failed one."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {timeout_s:.0f} s")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("adb: ").removeprefix("error: ") if lines else ""
