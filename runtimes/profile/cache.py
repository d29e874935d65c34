"""The page cache: dropping a bundle's files from it, and how much of them it holds."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path


def drop(files: Sequence[Path]) -> bool:
    """Ask the kernel to forget the files' pages. Returns whether it can be asked here.

    A request only: pages that a process has mapped stay, and a disk may have a cache of its own.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages that are not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True


def cached_share(files: Sequence[Path]) -> float | None:
    """Share of the files' pages that are in the page cache; None where the system does not tell."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError, TypeError):
        return None
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    cached = total = 0
    for path in files:
        if path.stat().st_size == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
            start = ctypes.c_char.from_buffer(mapped)
            failed = mincore(ctypes.addressof(start), len(mapped), pages)
            del start  # or the mapping could not be closed
            if failed:
                return None
            total += len(pages)
            cached += sum(page & 1 for page in pages)
    return cached / total if total else None
