# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node counts, and what it makes of it for /diagnostics (REP 107); no ROS."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

WINDOW = 100  # sweeps that rates and times look back on

LARGE_CLOUD_HINT = (
    'Fast DDS as it comes loses best-effort clouds above '
    '512 KiB between processes; set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds_large_data.xml '
    'on both sides, or to config/fastdds_udp_subscriber.xml on this one'
)

Level = Literal[0, 1, 2]  # OK, WARN, ERROR of diagnostic_msgs/DiagnosticStatus
Finding = tuple[Level, str]
# why a sweep was given up that nothing is wrong with but its time
DROPS = {
    'busy': 'they come faster than labelled',
    'too_old': 'older than max_age; does the driver have the clock of this node (use_sim_time)?',
    'zero_stamp': 'stamp 0',
    'future': 'stamped in the future',
    'out_of_order': 'older than the one before',
    'no_engine': 'no engine is open',
    'deactivated': 'the node was deactivated',
}


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


@dataclass(frozen=True)
class StageTimes:
    """Where the time of a labelled sweep went, in seconds.

    Attributes:
        wait: from arrival to the start of the work.
        decode: message to points.
        inference: points to labels.
        output: labels to published messages.
        fusion: labels to labels that the cameras had a say in.
    """

    wait: float
    decode: float
    inference: float
    output: float
    fusion: float = 0.0

    @property
    def total(self) -> float:
        return self.wait + self.decode + self.inference + self.output + self.fusion


class Statistics:
    """Counts of sweeps and times of the last ones; safe to use from several threads.

    Every sweep received is in the end one of: labelled, not_requested, rejected, failed, dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._times: deque[StageTimes] = deque(maxlen=WINDOW)
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._started = clock()

    def received(self) -> None:
        with self._lock:
            self._counts['received'] += 1
            self._arrivals.append(self._clock())

    def not_requested(self) -> None:
        self._count('not_requested')

    def dropped(self, reason: str) -> None:
        """Given up for one of the reasons in `DROPS`."""
        self._count('dropped', f'dropped_{reason}')

    def rejected(self, reason: str) -> None:
        self._count('rejected', f'rejected: {reason}')

    def failed(self, reason: str) -> None:
        self._count('failed', f'failed: {reason}')

    def noticed(self, what: str, number: int = 1) -> None:
        """Something that happened beside the sweeps' own fates."""
        self._count(what, number=number)

    def labelled(self, times: StageTimes) -> None:
        with self._lock:
            self._counts['labelled'] += 1
            self._times.append(times)

    def activated(self) -> None:
        """Silence counts from now on."""
        with self._lock:
            self._arrivals.clear()
            self._started = self._clock()

    def values(self) -> dict[str, str]:
        """Counts, rate and times as REP 107 shows them."""
        names = ('received', 'labelled', 'not_requested', 'rejected', 'failed', 'dropped')
        drops = [f'dropped_{reason}' for reason in DROPS]
        with self._lock:
            times, rate = list(self._times), self._rate()
            counts = {name: str(self._counts[name]) for name in (*names, *drops)}
            counts |= {name: str(count) for name, count in sorted(self._counts.items())}
        return {**counts, 'input_rate_hz': f'{rate:.2f}', **_time_values(times)}

    def findings(self, source: InputState | None) -> list[Finding]:
        """What is worth telling of the time since the last call.

        Args:
            source: of the input; None while the node does not listen.
        """
        with self._lock:
            fresh = self._counts - self._reported
            self._reported = self._counts.copy()
            silent = self._clock() - (self._arrivals[-1] if self._arrivals else self._started)
        return [*_findings_of_counts(fresh), *findings_of_input(source, silent, 'cloud', 2)]

    def _count(self, *names: str, number: int = 1) -> None:
        with self._lock:
            for name in names:
                self._counts[name] += number

    def _rate(self) -> float:
        """Clouds a second over the last ones, 0 when they have stopped."""
        if len(self._arrivals) < 2:
            return 0.0
        span = max(self._arrivals[-1], self._clock() - 1.0) - self._arrivals[0]
        return (len(self._arrivals) - 1) / span if span > 0 else 0.0


def worst_of(findings: Sequence[Finding], otherwise: str) -> Finding:
    """One level and one message: the highest level, and every finding, the worst first."""
    ordered = sorted(findings, key=lambda finding: -finding[0])
    if not ordered:
        return 0, otherwise
    return ordered[0][0], '; '.join(message for _, message in ordered)


def _findings_of_counts(fresh: Counter[str]) -> list[Finding]:
    findings: list[Finding] = []
    if fresh['failed']:
        findings.append(
            (2, f'inference failed on {fresh["failed"]} sweeps; the log has the reason')
        )
    if fresh['rejected']:
        findings.append((1, f'{fresh["rejected"]} clouds rejected'))
    if fresh['lost']:
        findings.append((1, f'{fresh["lost"]} clouds were lost on the way: {LARGE_CLOUD_HINT}'))
    if fresh['odd_frame_id']:
        findings.append((1, 'the frame_id of clouds is empty or begins with a slash'))
    for reason, text in DROPS.items():
        if fresh[f'dropped_{reason}']:
            findings.append((1, f'{fresh[f"dropped_{reason}"]} sweeps dropped: {text}'))
        if fresh[f'stamp: {reason}']:
            findings.append((1, f'{fresh[f"stamp: {reason}"]} sweeps labelled though {text}'))
    return findings


def findings_of_input(
    source: InputState | None, silent: float, what: str, worst: Level
) -> list[Finding]:
    """What is wrong with a topic that nothing comes from.

    Args:
        source: None while the node does not listen.
        silent: seconds since the last message.
        what: came last.
        worst: level of what cannot work.
    """
    if source is None:
        return []
    if source.incompatible:
        return [(worst, f'{source.topic} does not fit: {source.incompatible}')]
    if silent <= source.timeout:
        return []
    if not source.publishers:
        return [(1, f'no publisher on {source.topic}')]
    nothing = f'no {what} on {source.topic} for {silent:.0f} s'
    return [(1, f'{nothing}; a publisher is there but nothing arrives: {LARGE_CLOUD_HINT}')]


def _time_values(times: Sequence[StageTimes]) -> dict[str, str]:
    """Median of each stage, and median and maximum of the whole, in milliseconds."""
    totals = [1000 * sweep.total for sweep in times]
    values = {
        'processing_time_p50_ms': f'{statistics.median(totals):.1f}' if times else '',
        'processing_time_max_ms': f'{max(totals):.1f}' if times else '',
    }
    for stage in asdict(times[0]) if times else {}:
        median = statistics.median(1000 * getattr(sweep, stage) for sweep in times)
        values[f'{stage}_time_p50_ms'] = f'{median:.1f}'
    return values
