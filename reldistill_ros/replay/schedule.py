# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which sweep is sent when: once through the bag, or again and again with stamps moved on."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

NANO = 1_000_000_000
STAMP_OFFSET = 4  # bytes of a serialised message that begins with a header
DEFAULT_PERIOD_NS = NANO // 10  # from a bag's only sweep to its repetition


@dataclass(frozen=True)
class Course:
    """How a bag is played.

    Attributes:
        rate: times the bag's own speed; None sends each sweep after the answer to the last one.
        loops: times that the bag is played; None goes on until the time is over.
        minutes: after which no sweep is sent any more; None is no limit.
    """

    rate: float | None = 1.0
    loops: int | None = 1
    minutes: float | None = None

    @property
    def pacing(self) -> str:
        """How the sweeps are timed, in words."""
        if self.rate is None:
            return 'closed loop: each sweep is sent after the answer to the last one'
        return f'open loop: the times of the bag at {self.rate:g} times its speed'


@dataclass(frozen=True)
class Planned:
    """A sweep to send.

    Attributes:
        number: how many were sent before.
        source: position of the bag's sweep.
        loop: how often the whole bag was sent before.
        stamp_ns: what it is stamped with; larger than all before.
    """

    number: int
    source: int
    loop: int
    stamp_ns: int


@dataclass(frozen=True)
class Span:
    """From the first cloud of a bag until a period after the last.

    Attributes:
        start_ns: stamp of the first one.
        length_ns: what the stamps are moved on by from loop to loop.
    """

    start_ns: int
    length_ns: int

    def __contains__(self, stamp_ns: int) -> bool:
        return self.start_ns <= stamp_ns < self.start_ns + self.length_ns


def span_of(stamps_ns: Sequence[int]) -> Span:
    """The span of clouds; the period is the bag's median one."""
    return Span(stamps_ns[0], stamps_ns[-1] - stamps_ns[0] + _period(stamps_ns))


def plan_sweeps(stamps_ns: Sequence[int], loops: int | None) -> Iterator[Planned]:
    """The sweeps of a bag in order, again and again.

    The first sweep of a loop follows the last one of the loop before by the bag's median period.

    Args:
        stamps_ns: of the bag's sweeps, ascending.
        loops: how often; None for ever.
    """
    length = span_of(stamps_ns).length_ns
    numbers = itertools.count()
    for loop in itertools.count() if loops is None else range(loops):
        for source, stamp in enumerate(stamps_ns):
            yield Planned(next(numbers), source, loop, stamp + loop * length)


def with_stamp(raw: bytes, stamp_ns: int) -> bytes:
    """A serialised message that begins with a header, with another stamp."""
    stamp = struct.pack(stamp_format(raw), *divmod(stamp_ns, NANO))
    return raw[:STAMP_OFFSET] + stamp + raw[STAMP_OFFSET + len(stamp) :]


def moved_on(raw: bytes, shift_ns: int) -> bytes:
    """A serialised message that begins with a header, with a later stamp."""
    return with_stamp(raw, stamp_at(raw, STAMP_OFFSET) + shift_ns)


def stamp_at(raw: bytes, offset: int) -> int:
    """The stamp in nanoseconds that stands in a serialised message."""
    seconds, nanoseconds = struct.unpack_from(stamp_format(raw), raw, offset)
    return int(seconds) * NANO + int(nanoseconds)


def stamp_format(raw: bytes) -> str:
    """How a stamp stands in a serialised message, for `struct`."""
    # four bytes say how it is serialised, the second's lowest bit being the byte order
    return '<iI' if raw[1] & 1 else '>iI'


def _period(stamps_ns: Sequence[int]) -> int:
    steps = [after - before for before, after in itertools.pairwise(stamps_ns)]
    return int(median(steps)) if steps else DEFAULT_PERIOD_NS
