"""One writer at a time, whole files or none, and nothing left: with real processes, ended in every way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vlmp.runtimes.bundle import writing
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.writing import CANNOT_WRITE, exclusive, told_if_full, write_whole

HOLD = """
import sys, time
from pathlib import Path
from vlmp.runtimes.bundle.writing import exclusive

with exclusive(Path(sys.argv[1]), "it") as locked:
    print(locked, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that writes a/out until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "a/out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def names() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*"))


# --- One at a time ----------------------------------------------------------------------------------------------------


def test_the_second_writer_is_refused_until_the_first_has_ended(holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=r"^it is being written by another process: wait until it is done"):
        exclusive(Path("a/out"), "it").__enter__()
    assert names() == ["a", "a/.out.lock"]
    with exclusive(Path("a/other"), "it"):
        pass
    holder.communicate("", timeout=30)
    assert names() == []
    with exclusive(Path("a/out"), "it") as locked:
        assert locked
        Path("a/out").touch()
    assert names() == ["a", "a/out"]


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_lock_dies_with_its_process(holder: subprocess.Popen[str], ends: signal.Signals) -> None:
    holder.send_signal(ends)
    holder.wait(timeout=30)
    assert names() == (["a", "a/.out.lock"] if ends == signal.SIGKILL else [])
    with exclusive(Path("a/out"), "it") as locked:
        assert locked
    assert names() == (["a"] if ends == signal.SIGKILL else [])


def test_a_link_to_the_folder_leads_to_the_same_lock(holder: subprocess.Popen[str]) -> None:
    Path("link").symlink_to("a")
    with pytest.raises(UserError, match="another process"):
        exclusive(Path("link/out"), "it").__enter__()


COUNT = """
import sys
from pathlib import Path
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.writing import exclusive

done = 0
while done < 100:
    try:
        with exclusive(Path("a/out"), "it"):
            count = int(Path("count").read_text())
            Path("count").write_text("")
            Path("count").write_text(str(count + 1))
            done += 1
    except UserError:
        pass
"""


def test_a_lock_that_is_just_removed_lets_nobody_in() -> None:
    """The file is removed and made again all the time; two that held different ones would lose a count."""
    Path("count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(3)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    assert Path("count").read_text() == "300"
    assert set(names()) <= {"a", "count"}


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_files_cannot_be_locked_nobody_is_kept_out(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(writing.fcntl, "flock", refuse)
    with exclusive(Path("a/out"), "it") as locked:
        assert locked is False
    monkeypatch.setattr(writing, "fcntl", None)
    with exclusive(Path("a/out"), "it") as locked:
        assert locked is False
    assert names() == []


def test_a_place_that_cannot_be_written_is_told() -> None:
    Path("a").touch()
    with pytest.raises(UserError, match="cannot write a/out: "):
        exclusive(Path("a/out"), "it").__enter__()
    assert names() == ["a"]


# --- Whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["\u00e9\n", b"\x00\xff"])
def test_a_file_appears_whole(content: str | bytes) -> None:
    Path("out").write_text("earlier")
    write_whole(Path("out"), content)
    assert Path("out").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names() == ["out"]


def test_a_full_disk_leaves_the_earlier_file(disk_of: Callable[[int], Path]) -> None:
    disk = disk_of(1)
    out = disk / "out"
    out.write_text("earlier")
    with pytest.raises(UserError, match=f"^cannot write {out}: No space left on device$"):
        write_whole(out, b"x" * (2 << 20))
    assert [path.name for path in disk.iterdir()] == ["out"]
    assert out.read_text() == "earlier"


def test_our_own_mistakes_are_not_told_as_a_full_disk() -> None:
    assert errno.EBADF not in CANNOT_WRITE
    with pytest.raises(OSError, match="Bad file"), told_if_full(Path("out")):
        raise OSError(errno.EBADF, "Bad file descriptor")
