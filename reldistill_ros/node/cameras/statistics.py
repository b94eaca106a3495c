# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node counts of one camera, and what it makes of it for /diagnostics; no ROS."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from reldistill_ros.node.diagnostics import (
    WINDOW,
    Finding,
    InputState,
    findings_of_input,
)

SMALLEST_SHARE = 0.5  # of the last sweeps that a camera should take part in
COUNTS = ('received', 'decoded', 'encoded', 'busy', 'not_requested', 'rejected', 'failed')


class CameraStatistics:
    """Counts of images and sweeps; safe to use from several threads.

    Every image received is in the end one of: decoded, busy (a newer one came before its turn),
    not_requested, rejected; decoded ones may then be encoded or failed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}  # the last one of each kind
        self._advice: dict[str, bool] = {}  # and whether it was told
        self._last_image = clock()
        self._encode_times: deque[float] = deque(maxlen=WINDOW)
        self._ages: deque[float] = deque(maxlen=WINDOW)
        self._took_part: deque[bool] = deque(maxlen=WINDOW)

    def activated(self) -> None:
        """Silence counts from now on."""
        with self._lock:
            self._last_image = self._clock()
            self._took_part.clear()

    def received(self) -> None:
        with self._lock:
            self._counts['received'] += 1
            self._last_image = self._clock()

    def noticed(self, what: str) -> None:
        """One of `COUNTS` that needs no reason."""
        with self._lock:
            self._counts[what] += 1

    def rejected(self, reason: str) -> None:
        self._count('rejected', reason, reason)

    def failed(self, kind: str, reason: str) -> None:
        self._count('failed', kind, reason)

    def encoded(self, seconds: float) -> None:
        with self._lock:
            self._counts['encoded'] += 1
            self._encode_times.append(seconds)

    def took_part(self, age: float) -> None:
        """Its opinion went into a sweep; `age` is how much later than the sweep it looked."""
        with self._lock:
            self._counts['sweeps'] += 1
            self._ages.append(age)
            self._took_part.append(True)

    def left_out(self, kind: str, reason: str) -> None:
        """It had no opinion on a sweep.

        Args:
            kind: in one word.
            reason: in one sentence.
        """
        self._count('left_out', kind, reason)
        with self._lock:
            self._took_part.append(False)

    def advised(self, what: str) -> None:
        """Something that does not change by itself: a warning in the next findings, and no more."""
        with self._lock:
            self._advice.setdefault(what, False)

    def values(self) -> dict[str, str]:
        """Counts and times as REP 107 shows them."""
        with self._lock:
            counts = {name: str(self._counts[name]) for name in (*COUNTS, 'sweeps', 'left_out')}
            counts |= {name: str(count) for name, count in sorted(self._counts.items())}
            share = self._share()
            times, ages = list(self._encode_times), list(map(abs, self._ages))
            silent = self._clock() - self._last_image
        return {
            **counts,
            'seconds_since_image': f'{silent:.1f}',
            'encode_time_p50_ms': _milliseconds(times, statistics.median),
            'encode_time_max_ms': _milliseconds(times, max),
            'age_p50_ms': _milliseconds(ages, statistics.median),
            'age_max_ms': _milliseconds(ages, max),
            'share_of_sweeps': f'{share:.2f}',
        }

    def findings(self, source: InputState | None) -> list[Finding]:
        """What is worth telling of the time since the last call.

        Args:
            source: of the images; None while the node does not listen.
        """
        with self._lock:
            fresh = self._counts - self._reported
            self._reported = self._counts.copy()
            reasons, share = dict(self._reasons), self._share()
            silent = self._clock() - self._last_image
            advice = [what for what, is_told in self._advice.items() if not is_told]
            self._advice.update(dict.fromkeys(advice, True))
        findings = [
            *findings_of_input(source, silent, 'image', 1),
            *((1, what) for what in advice),
        ]
        for what in ('rejected', 'failed'):
            if fresh[what]:
                findings.append((1, f'{fresh[what]} images {what}: {reasons[what]}'))
        if fresh['left_out'] and not fresh['sweeps']:
            told = f'left out of all {fresh["left_out"]} sweeps: {reasons["left_out"]}'
            findings.append((1, told))
        elif fresh['left_out'] and share < SMALLEST_SHARE:
            told = f'takes part in {share:.0%} of the sweeps only: {reasons["left_out"]}'
            findings.append((1, told))
        return findings

    def _share(self) -> float:
        """Of the last sweeps, those that it took part in."""
        return statistics.fmean(self._took_part) if self._took_part else 0.0

    def _count(self, what: str, kind: str, reason: str) -> None:
        with self._lock:
            self._counts[what] += 1
            self._counts[f'{what}: {kind}'] += 1
            self._reasons[what] = reason


def _milliseconds(seconds: Sequence[float], of: Callable[[Sequence[float]], float]) -> str:
    return f'{1e3 * of(seconds):.1f}' if seconds else ''
