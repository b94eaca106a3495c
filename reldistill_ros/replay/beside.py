# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What of a bag is played beside its clouds: images, CameraInfo and coordinate frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from reldistill_ros.bags.bag import TF_MESSAGE, Bag, BagEntry
from reldistill_ros.replay.cameras import PlayedCamera
from reldistill_ros.replay.schedule import NANO, Span, moved_on, stamp_at

STATIC = 'tf_static'
FIRST_TRANSFORM = 8  # bytes of a serialised TFMessage up to the stamp of its first transform


@dataclass(frozen=True)
class Beside:
    """Messages of the cameras and of the frames.

    Attributes:
        bag: the open bag.
        cameras: whose they are.
        entries: of these messages, by the stamp at which they are played.
        static: of the frames that never move, played once before all else.
    """

    bag: Bag
    cameras: tuple[PlayedCamera, ...]
    entries: tuple[BagEntry, ...]
    static: tuple[BagEntry, ...]

    @property
    def topics(self) -> dict[str, str]:
        """Type of each topic that is played."""
        names = dict.fromkeys(entry.topic for entry in (*self.static, *self.entries))
        return {name: self.bag.topics[name] for name in names}

    def raw(self, entry: BagEntry, shift_ns: int) -> bytes:
        """The serialised message, with its stamps moved on."""
        raw = self.bag.raw(entry)
        if not shift_ns:
            return raw
        if self.bag.topics[entry.topic] != TF_MESSAGE:
            return moved_on(raw, shift_ns)
        message = self.bag.read(entry)
        for transform in message.transforms:
            stamp = transform.header.stamp
            stamp.sec, stamp.nanosec = divmod(stamp.sec * NANO + stamp.nanosec + shift_ns, NANO)
        return self.bag.serialise(entry.topic, message)


@dataclass(frozen=True)
class PlannedBeside:
    """A message to send.

    Attributes:
        entry: of the bag.
        stamp_ns: when it is sent.
        shift_ns: what its own stamps are moved on by.
    """

    entry: BagEntry
    stamp_ns: int
    shift_ns: int


def find_beside(
    bag: Bag, cameras: Sequence[PlayedCamera], span: Span, *, with_frames: bool
) -> Beside:
    """Find what belongs to the cameras while the clouds last.

    Of the messages of a camera before the first cloud the last one is played with that cloud.

    Args:
        bag: an open bag.
        cameras: of it.
        span: of the clouds.
        with_frames: whether /tf and /tf_static are played.
    """
    frames = bag.topics_of(TF_MESSAGE) if with_frames else ()
    static = [topic for topic in frames if topic.endswith(STATIC)]
    found: list[BagEntry] = []
    for topic in (topic for camera in cameras for topic in (camera.image, camera.info)):
        entries = bag.index(topic)
        before = [entry for entry in entries if entry.stamp_ns < span.start_ns]
        found += [replace(entry, stamp_ns=span.start_ns) for entry in before[-1:]]
        found += [entry for entry in entries if entry.stamp_ns in span]
    for topic in frames:
        if topic not in static:
            found += [entry for entry in _stamped(bag, topic) if entry.stamp_ns in span]
    return Beside(
        bag,
        tuple(cameras),
        tuple(sorted(found)),
        tuple(entry for topic in static for entry in bag.entries(topic)),
    )


def plan_beside(beside: Beside, span: Span, loops: int | None) -> Iterator[PlannedBeside]:
    """The messages in order, again and again, as `plan_sweeps` does with the sweeps."""
    if not beside.entries:
        return
    for loop in count() if loops is None else range(loops):
        shift = loop * span.length_ns
        for entry in beside.entries:
            yield PlannedBeside(entry, entry.stamp_ns + shift, shift)


def _stamped(bag: Bag, topic: str) -> Iterator[BagEntry]:
    """The messages of /tf with the stamp of their first transform; empty ones are left out."""
    for entry in bag.entries(topic):
        raw = bag.raw(entry)
        if len(raw) >= FIRST_TRANSFORM + 8:
            yield replace(entry, stamp_ns=stamp_at(raw, FIRST_TRANSFORM))
