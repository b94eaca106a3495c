# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The stamps of a drive go one way: what may not be mixed into one drive."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from reldistill_ros.core.errors import InputError

LONGEST_STEP_BACK_NS = 1_000_000_000  # threads of a driver may swap messages, but not for long


def check_clock(stamps_ns: Sequence[int], where: str) -> None:
    """Refuse a file whose stamps go back: two times of the drive would be mixed into one."""
    latest = stamps_ns[0] if stamps_ns else 0
    for stamp_ns in stamps_ns:
        if stamp_ns < latest - LONGEST_STEP_BACK_NS:
            raise InputError(
                f'the clock jumps back by {(latest - stamp_ns) / 1e9:.3f} s in the bag',
                where=where,
                expected='stamps in the order of recording',
                got=f'{stamp_ns} ns after {latest} ns',
                fix='cut the recording there, for example with `mcap filter`, and read the parts '
                'as separate drives',
            )
        latest = max(latest, stamp_ns)


def check_files(files: Sequence[Sequence[int]], where: str) -> None:
    """Refuse files whose stamps overlap in one topic: they are of two drives."""
    spans = sorted((min(stamps), max(stamps)) for stamps in files if stamps)
    for (_, end), (start, _) in pairwise(spans):
        if start < end - LONGEST_STEP_BACK_NS:
            raise InputError(
                'two files hold the same topic at the same time',
                where=where,
                expected='files of one drive, one after the other',
                got=f'one begins {(end - start) / 1e9:.3f} s before the end of another',
                fix='read them as separate drives',
            )
