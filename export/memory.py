"""Peak memory of this process."""

import os
import threading
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Highest resident set size within a `with` block, sampled ten times a second."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)

    def peak_mib(self) -> float:
        """The highest value so far, in MiB."""
        self._sample()
        return self._peak / 2**20

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
