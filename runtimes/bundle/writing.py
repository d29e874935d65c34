"""Writing what people keep: by one program at a time, whole or not at all, and a full disk told in words."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.signals import terminable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EBUSY,
    errno.EFBIG,
}  # fmt: skip
"""Errors of the system that are the user's matter, not ours."""


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[bool]:
    """Only this process writes `path` until the block ends. Signals end the block as Ctrl-C does.

    Locks a file beside `path`, which the system unlocks however the process ends, and the next user of the lock removes
    when it was left there. what: names the path to people. Yields whether there is such a lock: some file systems have
    none, and then others are not kept out. Folders that are made for it vanish in the end when nothing is in them.
    Raises UserError when somebody else writes `path` now, or when nothing can be written there.
    """
    place = Path(os.path.abspath(path))  # "." has a name, too
    made = [parent for parent in place.parents if not parent.exists()]
    lock = place.with_name(f".{place.name}.lock")
    with terminable():
        try:
            with told_if_full(path):
                descriptor = _locked(lock, what)
            try:
                yield descriptor is not None
            finally:
                lock.unlink(missing_ok=True)  # before it is unlocked: afterwards it may be somebody else's
                if descriptor is not None:
                    os.close(descriptor)
        finally:
            for parent in made:
                with suppress(OSError):  # something is in it by now
                    parent.rmdir()


def check_free_above(path: Path, what: str) -> None:
    """Raises UserError when another process writes a folder that `path` lies in."""
    for parent in Path(os.path.abspath(path)).parents:
        lock = parent.with_name(f".{parent.name}.lock") if parent.name else None
        if lock is None or not lock.is_file() or fcntl is None:
            continue
        with suppress(OSError), lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"{what} lies in {parent}, which is being written by another process: choose another"
                raise UserError(text) from None


def _locked(lock: Path, what: str) -> int | None:
    """The open descriptor of the locked file, None where files cannot be locked; its folder is there in any case."""
    while True:
        _make_folder(lock.parent)
        if fcntl is None:
            return None
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # somebody else, who had made the folder, has removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            text = f"{what} is being written by another process: wait until it is done, or choose another"
            raise UserError(text) from None
        except OSError:  # some network file systems
            os.close(descriptor)
            return None
        if _is_still(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its owner removed it after we had opened it


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, while somebody else may be removing them."""
    while not folder.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that appears when it is complete. Text is UTF-8. Raises UserError when the disk is full."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with told_if_full(path):
        try:
            if isinstance(content, str):
                part.write_text(content, encoding="utf-8")
            else:
                part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def told_if_full(output: Path) -> Iterator[None]:
    """A full or read-only disk is the user's matter, not a traceback. Raises UserError instead of such an OSError."""
    try:
        yield
    except shutil.Error as error:  # a list of (from, to, reason), from copying a folder
        raise UserError(f"cannot write {output}: {error.args[0][0][-1]}") from error
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise UserError(f"cannot write {output}: {error.strerror}") from error
