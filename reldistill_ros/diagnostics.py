# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node counts, and what it makes of it for /diagnostics (REP 107); no ROS."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

WINDOW = 100  # sweeps that rate and processing time look back on

LARGE_CLOUD_HINT = (
    'a publisher is there but nothing arrives: Fast DDS as it comes loses best-effort clouds above '
    '512 KiB between processes; set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds_large_data.xml '
    'on both sides, or to config/fastdds_udp_subscriber.xml on this one'
)

Level = Literal[0, 1, 2]  # OK, WARN, ERROR of diagnostic_msgs/DiagnosticStatus


@dataclass(frozen=True)
class InputState:
    """What is known of the input when a status is made.

    Attributes:
        topic: its resolved name.
        publishers: number of publishers.
        incompatible: why publishers and subscription do not match, empty where they do.
        timeout: seconds without a cloud that are worth a warning.
    """

    topic: str
    publishers: int
    incompatible: str
    timeout: float


class Statistics:
    """Counts of sweeps and times of the last ones; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._processing: deque[float] = deque(maxlen=WINDOW)
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._started = clock()

    def received(self) -> None:
        with self._lock:
            self._counts['received'] += 1
            self._arrivals.append(self._clock())

    def not_requested(self) -> None:
        with self._lock:
            self._counts['not_requested'] += 1

    def dropped_busy(self) -> None:
        with self._lock:
            self._counts['dropped_busy'] += 1

    def rejected(self, reason: str) -> None:
        with self._lock:
            self._counts['rejected'] += 1
            self._counts[f'rejected: {reason}'] += 1

    def failed(self) -> None:
        with self._lock:
            self._counts['failed'] += 1

    def labelled(self, seconds: float) -> None:
        with self._lock:
            self._counts['labelled'] += 1
            self._processing.append(seconds)

    def values(self) -> dict[str, str]:
        """Counts, rate and times as REP 107 shows them."""
        names = ('received', 'labelled', 'dropped_busy', 'not_requested', 'rejected', 'failed')
        with self._lock:
            times = [1000 * seconds for seconds in self._processing]
            return {
                **{name: '0' for name in names},
                **{name: str(count) for name, count in self._counts.items()},
                'input_rate_hz': f'{self._rate():.2f}',
                'processing_time_p50_ms': f'{statistics.median(times):.1f}' if times else '',
                'processing_time_max_ms': f'{max(times):.1f}' if times else '',
            }

    def judge(self, source: InputState) -> tuple[Level, str]:
        """Level and message for the time since the last call."""
        with self._lock:
            fresh = self._counts - self._reported
            self._reported = self._counts.copy()
            silent = self._clock() - (self._arrivals[-1] if self._arrivals else self._started)
        if fresh['failed']:
            return 2, f'inference failed on {fresh["failed"]} sweeps; the log has the reason'
        if source.incompatible:
            return 2, f'the QoS of {source.topic} does not fit: {source.incompatible}'
        if fresh['rejected']:
            return 1, f'{fresh["rejected"]} clouds rejected'
        if silent > source.timeout and source.publishers:
            return 1, f'no cloud on {source.topic} for {silent:.0f} s; {LARGE_CLOUD_HINT}'
        if silent > source.timeout:
            return 1, f'no publisher on {source.topic}'
        if fresh['dropped_busy']:
            return 1, f'{fresh["dropped_busy"]} sweeps dropped: they come faster than labelled'
        return 0, 'labelling' if fresh['labelled'] else 'idle: no subscriber or no new cloud'

    def _rate(self) -> float:
        """Clouds a second over the last ones, 0 when they have stopped."""
        if len(self._arrivals) < 2:
            return 0.0
        span = max(self._arrivals[-1], self._clock() - 1.0) - self._arrivals[0]
        return (len(self._arrivals) - 1) / span if span > 0 else 0.0
