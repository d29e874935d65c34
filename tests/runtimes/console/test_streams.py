"""What libraries say goes aside, from Python and from C++, and comes back when a command fails or crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from vlmp.runtimes.console.streams import heard, last_lines, own_stderr, quiet, say

SCRIPT = """
import ctypes, logging, os, subprocess, sys, threading, warnings
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.console.streams import aloud, heard, say

def noise():
    os.write(2, b"from C\\n")
    print("from Python", file=sys.stderr)
    logging.getLogger("library").error("logged")
    warnings.warn("warned")
    subprocess.run(["sh", "-c", "echo from a child >&2"])

def action():
    noise()
    say("ours")
    {then}

exit_with_one_line("program", action, debug={debug})
"""
NOISE = ("from C", "from Python", "logged", "warned", "from a child")


def run(then: str = "pass", *, debug: bool = False) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(then=textwrap.indent(then, "    ").strip(), debug=debug)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)


def test_only_our_own_lines_are_left() -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "ours\n")


def test_with_debug_libraries_speak() -> None:
    done = run(debug=True)
    assert done.returncode == 0
    assert [part for part in (*NOISE, "ours") if part not in done.stderr] == []


def test_what_was_said_is_shown_when_a_command_fails() -> None:
    done = run("raise RuntimeError('worse')")
    assert done.returncode == 1
    *said, last = done.stderr.splitlines()
    assert last == "program: RuntimeError: worse (--debug shows where)"
    assert [part for part in NOISE if not any(part in line for line in said)] == []


def test_our_own_errors_do_not_show_it() -> None:
    done = run("from vlmp.runtimes.bundle.errors import UserError; raise UserError('bad')")
    assert (done.returncode, done.stderr) == (2, "ours\nprogram: bad\n")


def test_a_crash_of_a_child_is_not_ours() -> None:
    child = "subprocess.run([sys.executable, '-X', 'faulthandler', '-c', 'import ctypes; ctypes.string_at(0)'])"
    done = run(f"{child}; print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "ours\n")


def test_closed_streams_are_not_closed_for_children() -> None:
    children = "import os; [os.fstat(number) for number in range(3)]"
    script = (
        f"from vlmp.runtimes.console.streams import mend_streams; mend_streams(); import subprocess, sys; "
        f"sys.exit(subprocess.run([sys.executable, '-c', {children!r}]).returncode)"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, script], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("crash", "signal", "named"),
    [
        ("ctypes.CDLL(None).abort()", 6, "Aborted"),
        ("ctypes.string_at(0)", 11, "Segmentation fault"),
        ("t = threading.Thread(target=ctypes.string_at, args=[0]); t.start(); t.join()", 11, "Segmentation fault"),
    ],
)
def test_a_crash_does_not_take_the_last_words_with_it(crash: str, signal: int, named: str) -> None:
    done = run(f"os.write(2, b'terminate called\\n  what(): caf\\xc3\\xa9\\n'); {crash}")
    assert done.returncode == -signal
    ours, line = done.stderr.splitlines()
    assert ours == "ours"
    assert line == f"program: a library crashed ({named}); the last that libraries said: terminate called what(): café"


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_other_ends_say_nothing_more(end: str) -> None:
    assert run(end).stderr == "ours\n"


def test_a_library_that_leaves_a_child_does_not_hold_us() -> None:
    """It has the pipe's end that the watcher waits at, and lives as long as we do."""
    orphan = """
parent = os.getpid()
if os.fork() == 0:
    import time
    while os.getppid() == parent:
        time.sleep(0.01)
    os._exit(0)
"""
    done = run(orphan)
    assert (done.returncode, done.stderr) == (0, "ours\n")


def test_what_is_for_the_person_may_be_let_through() -> None:
    done = run("with aloud():\n    os.write(2, b'40 %')\nassert 'from C' in heard()")
    assert done.returncode == 0, done.stderr
    assert "40 %" in done.stderr
    assert "from C" not in done.stderr


def test_within_one_process_everything_is_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with quiet("program"):
        os.write(2, b"noise\n")
        say("ours")
        assert heard().splitlines() == ["noise"]
        own = own_stderr()
        with quiet("program"):
            assert own_stderr() is own
        assert own_stderr() is own
    assert sys.stderr is before
    assert heard() == ""
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "ours\nafter\n"


def test_last_lines() -> None:
    assert last_lines("a\n\n  b \nc\n", 2) == ["b", "c"]
    assert last_lines(" 10 %\r 20 %\r\ndone\r") == ["20 %", "done"]
    assert last_lines("") == []


def test_own_lines_go_through_say() -> None:
    """What is printed to sys.stderr within a command is taken for a library's."""
    root = Path(__file__).parents[3]
    allowed = {"streams.py", "build.py"}
    for folder in ("pruner", "export", "runtimes", "evaluation"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert path.name in allowed or "file=sys.stderr" not in text, path
            assert path.name in allowed or "Console(stderr" not in text, path
