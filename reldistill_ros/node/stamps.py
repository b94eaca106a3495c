# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which stamps of clouds can be trusted, and what to do with the others; no ROS."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

NANO = 1_000_000_000
# A step back by more than this is no sweep out of order, but a bag that begins anew or a clock
# that was set.
JUMP = 1 * NANO
# /clock comes at 40 Hz from `ros2 bag play --clock`, and clocks of machines differ by milliseconds.
FUTURE_TOLERANCE = NANO // 2

StampProblem = Literal['zero_stamp', 'future', 'out_of_order']


def stamp_ns_of(message: Any) -> int:
    """The stamp of a message's header in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * NANO + int(stamp.nanosec)


class StampChecker:
    """Compares each stamp with the clock and with the stamps before it.

    Args:
        dropped: problems for which a sweep is to be dropped; the others are only counted.
    """

    def __init__(self, dropped: Collection[StampProblem]) -> None:
        self._dropped = dropped
        self._latest_ns: int | None = None
        self.jumps = 0

    def check(self, stamp_ns: int, now_ns: int) -> StampProblem | None:
        """What is wrong with a stamp, None where nothing is.

        Args:
            stamp_ns: of the cloud.
            now_ns: of the node's clock, 0 where that does not run yet.
        """
        if stamp_ns == 0:
            return 'zero_stamp'
        if now_ns and stamp_ns > now_ns + FUTURE_TOLERANCE:
            return 'future'  # and no measure for the stamps that follow
        latest, self._latest_ns = self._latest_ns, stamp_ns
        if latest is None or stamp_ns >= latest:
            return None
        if latest - stamp_ns > JUMP:
            self.jumps += 1
            return None
        self._latest_ns = latest
        return 'out_of_order'

    def is_dropped(self, problem: StampProblem) -> bool:
        """Whether a sweep with that problem is to be dropped."""
        return problem in self._dropped

    def forget(self) -> None:
        """Begin anew: time has jumped."""
        self._latest_ns = None
        self.jumps += 1


def is_too_old(stamp_ns: int, now_ns: int, max_age: float) -> bool:
    """Whether a sweep is older than `max_age` seconds, of which 0 is no limit."""
    return bool(max_age and stamp_ns and now_ns) and now_ns - stamp_ns > max_age * NANO
