# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The memory of a running process over time, as Linux tells it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

MEBI = 1 << 20
PERIOD = 1.0  # seconds between two looks
FEWEST_SAMPLES = 20  # of which a growth can be told


class MemorySample(NamedTuple):
    """Resident memory in MiB at a time of `time.perf_counter`."""

    seconds: float
    mb: float


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process in MiB, None where it has ended or there is no /proc."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / MEBI


class MemoryWatch:
    """A context: looks at a process from time to time, in a thread of its own.

    Args:
        pid: the process.
        period: seconds between two looks.
    """

    def __init__(self, pid: int, period: float = PERIOD) -> None:
        self.samples: list[MemorySample] = []
        self._pid, self._period = pid, period
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='memory', daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            mb = resident_mb(self._pid)
            if mb is None:
                return
            self.samples.append(MemorySample(time.perf_counter(), mb))
            if self._ended.wait(self._period):
                return


def growth_mb(samples: list[MemorySample]) -> float | None:
    """How much memory a process took on while it ran.

    The median of the last tenth of the samples less that of the second tenth; in the first one it
    warms up. None where there are too few samples to tell.
    """
    if len(samples) < FEWEST_SAMPLES:
        return None
    tenth = len(samples) // 10
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    return median(sample.mb for sample in late) - median(sample.mb for sample in early)
