"""What the steps of an export take: seconds and peak memory of this process."""

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from types import TracebackType
from typing import Self

import psutil
from vlmp.runtimes.bundle.manifest import CostStep


class PeakMemory:
    """Highest resident set size within a `with` block, sampled ten times a second."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._peak = self._stage_peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._sample()

    def _sample(self) -> None:
        now = self._process.memory_info().rss
        self._peak, self._stage_peak = max(self._peak, now), max(self._stage_peak, now)

    def peak_mib(self) -> float:
        """The highest value so far, in MiB."""
        self._sample()
        return self._peak / 2**20

    def stage_peak_mib(self) -> float:
        """The highest value since this was last asked, in MiB."""
        self._sample()
        peak, self._stage_peak = self._stage_peak, 0
        return peak / 2**20

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


class Steps:
    """Passes each line of a report on, and notes what was taken until the next one."""

    def __init__(self, memory: PeakMemory, report: Callable[[str], None]) -> None:
        self._memory, self._report = memory, report
        self._name, self._started = "", perf_counter()
        self.done: list[CostStep] = []

    def __call__(self, line: str) -> None:
        """Begin the step `line`."""
        self.end()
        self._name, self._started = line, perf_counter()
        self._report(line)

    def end(self) -> None:
        """End the step that runs."""
        peak_mib, seconds = self._memory.stage_peak_mib(), perf_counter() - self._started
        if self._name:
            self.done.append(CostStep(name=self._name, seconds=round(seconds, 1), peak_memory_mib=round(peak_mib, 1)))
        self._name = ""


def give_back() -> None:
    """Return to the system what is free, so that the next export does not stand on it: glibc keeps a good deal."""
    gc.collect()
    with suppress(OSError, AttributeError):  # other systems' allocators give back by themselves
        ctypes.CDLL(None).malloc_trim(0)
