# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Coordinate frames over time, from the /tf and /tf_static messages of a bag or a robot.

A frame of /tf that never moves in its parent has that pose at all times: this is how converters
publish where sensors sit. One that moves has poses at the recorded times and between two of them
that are close together, and none elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.tf_messages import edge_of, parts_of, plain_name, read_pose, stamp_of
from reldistill_ros.cameras.tf_track import Pose, Track
from reldistill_ros.cameras.transforms import from_quaternion, invert, to_pose
from reldistill_ros.core.errors import InputError

MAX_GAP = 1.0  # seconds


class TfTree:
    """Frames of a bag.

    Args:
        static_messages: contents of /tf_static.
        messages: contents of /tf.
        max_gap: longest time in seconds between two poses to interpolate in.
        still_for: seconds after its last pose for which a frame that never moved stands still.
    """

    def __init__(
        self,
        static_messages: Iterable[Any] = (),
        messages: Iterable[Any] = (),
        max_gap: float = MAX_GAP,
        still_for: float | None = None,
    ) -> None:
        self._max_gap_ns = round(max_gap * 1e9)
        self._still_ns = None if still_for is None else round(still_for * 1e9)
        self._static: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self._moving: dict[str, Track] = {}
        for transform in (t for message in static_messages for t in message.transforms):
            self.add_static(transform)
        for transform in (t for message in messages for t in message.transforms):
            self.add(transform)

    def add_static(self, transform: Any) -> None:
        """Add a TransformStamped of /tf_static.

        Raises:
            InputError: it is not rigid.
        """
        pose, edge = read_pose(*parts_of(transform), edge_of(transform)), edge_of(transform)
        self.place(*edge, from_quaternion(pose[:4], pose[4:]))

    def add(self, transform: Any) -> Track:
        """Add a TransformStamped of /tf; returns the track that it lengthens.

        Raises:
            InputError: it is not rigid, or its frame has another parent.
        """
        parent, child = edge_of(transform)
        pose = read_pose(*parts_of(transform), (parent, child))
        track = self._moving.setdefault(child, Track(parent))
        if track.parent != parent:
            raise InputError(
                'a coordinate frame has two parents',
                where=f'/tf: {child!r}',
                got=[track.parent, parent],
                fix='let one publisher place this frame',
            )
        track.add(stamp_of(transform.header), pose)
        return track

    @property
    def num_frames(self) -> int:
        """How many frames have a parent."""
        return len(self._static.keys() | self._moving.keys())

    def knows(self, frame: str) -> bool:
        """Whether a frame has a parent."""
        return self._parent(plain_name(frame)) is not None

    def forget_motion(self) -> None:
        """Forget what /tf has said."""
        self._moving.clear()

    def place(self, parent: str, child: str, parent_from_child: NDArray[np.float64]) -> None:
        """Say where a frame stands still in another, whatever was said before."""
        self._static[plain_name(child)] = plain_name(parent), parent_from_child
        self._moving.pop(plain_name(child), None)

    def move(self, parent: str, child: str, poses: Iterable[tuple[int, Pose]]) -> None:
        """Say where a frame moves in another, whatever was said before of its motion.

        All that stands still to `child` moves with it: the topmost of these frames gets the
        poses, so that `child` keeps its place among them.

        Args:
            parent: a frame that stands still, such as `odom`.
            child: a frame of the car.
            poses: stamp in nanoseconds and parent_from_child.
        """
        chain = self._still_chain(child)
        if plain_name(parent) in chain[1:]:  # the car stood still, and /tf says where
            chain = chain[: chain.index(plain_name(parent))]
        child_from_top = invert(self._to_last(chain, np.zeros(1, dtype=np.int64))[0])
        track = Track(plain_name(parent))
        for stamp_ns, pose in poses:
            if len(chain) > 1:
                pose = to_pose(from_quaternion(pose[:4], pose[4:]) @ child_from_top)
            track.add(stamp_ns, pose)
        self._moving[chain[-1]] = track

    def transform(
        self, target: str, target_ns: int, source: str, source_ns: int
    ) -> NDArray[np.float64] | None:
        """target_from_source (4, 4) through the frame that stands still.

        Args:
            target: frame that points are taken to.
            target_ns: when that frame is meant, in nanoseconds.
            source: frame of the points.
            source_ns: when the points were taken, in nanoseconds.

        Returns:
            None where a moving transform was not recorded around one of the two times.

        Raises:
            InputError: the two frames are not connected.
        """
        found = self.transforms(target, target_ns, source, [source_ns])
        return None if found is None else found[0]

    def transforms(
        self, target: str, target_ns: int, source: str, source_ns: Iterable[int]
    ) -> NDArray[np.float64] | None:
        """As `transform` from T times to one: (T, 4, 4), None where one of the times is unknown."""
        stamps = np.array([target_ns, *source_ns], dtype=np.int64)
        at_once = bool((stamps == target_ns).all())
        target_chain, source_chain = self._chains(target, source, at_once)
        covered = self._covers(target_chain, stamps[:1]), self._covers(source_chain, stamps[1:])
        if not all(known.all() for known in covered):
            return None
        found: NDArray[np.float64] = invert(
            self._to_last(target_chain, stamps[:1])[0]
        ) @ self._to_last(source_chain, stamps[1:])
        return found

    def knows_pairs(
        self, target: str, source: str, stamps: Sequence[tuple[int, int]]
    ) -> NDArray[np.bool_]:
        """(T,) bool: whether `transform` gives T transforms.

        Args:
            target: frame that points are taken to.
            source: frame of the points.
            stamps: times of target and source in nanoseconds.
        """
        targets, sources = np.array(stamps, dtype=np.int64).reshape(-1, 2).T
        at_once, apart = (
            self._covers(target_chain, targets) & self._covers(source_chain, sources)
            for target_chain, source_chain in (
                self._chains(target, source, same) for same in (True, False)
            )
        )
        return np.where(targets == sources, at_once, apart)

    def are_connected(self, one: str, other: str) -> bool:
        """Whether two frames have the same root."""
        return self._chain(one)[-1] == self._chain(other)[-1]

    def moves(self, frame: str) -> bool:
        """Whether the frame moves in the root of its tree."""
        return self._still_chain(frame)[-1] != self._chain(frame)[-1]

    def _chains(self, target: str, source: str, at_once: bool) -> tuple[list[str], list[str]]:
        """The chains of two frames up to a frame that they share.

        This is the root of all, or the next one if both frames are meant at one time.
        """
        target_chain, source_chain = self._chain(target), self._chain(source)
        if target_chain[-1] != source_chain[-1]:
            raise InputError(
                'nothing says how two coordinate frames lie to each other',
                where=f'/tf and /tf_static: {source!r} and {target!r}',
                expected='one tree that holds both frames',
                got=f'{" -> ".join(source_chain)} and {" -> ".join(target_chain)}',
                fix='publish, or record, /tf and /tf_static, the latter with transient_local '
                'durability, or give `extrinsics` in the settings',
            )
        while at_once and len(target_chain) > 1 < len(source_chain):
            if target_chain[-2] != source_chain[-2]:
                break
            del target_chain[-1], source_chain[-1]
        return target_chain, source_chain

    def _covers(self, chain: list[str], stamps_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        covered = np.ones(len(stamps_ns), dtype=bool)
        for frame in (frame for frame in chain[:-1] if frame not in self._static):
            covered &= self._moving[frame].covers(stamps_ns, self._max_gap_ns, self._still_ns)
        return covered

    def _parent(self, frame: str) -> str | None:
        if frame in self._static:
            return self._static[frame][0]
        return self._moving[frame].parent if frame in self._moving else None

    def _chain(self, frame: str) -> list[str]:
        """Frame, its parent, and so on up to the root."""
        chain = [plain_name(frame)]
        while (parent := self._parent(chain[-1])) is not None:
            if parent in chain:
                raise InputError('the coordinate frames form a circle', where='/tf', got=chain)
            chain.append(parent)
        return chain

    def _still_chain(self, frame: str) -> list[str]:
        """Frame, its parent, and so on as long as they stand still to each other."""
        chain = self._chain(frame)
        moving = (
            position
            for position, name in enumerate(chain[:-1])
            if name not in self._static and not self._moving[name].is_still()
        )
        return chain[: next(moving, len(chain)) + 1]

    def _to_last(self, chain: list[str], stamps_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """last_from_first (T, 4, 4) of a chain at times that were recorded."""
        last_from_first = np.repeat(np.eye(4)[None], len(stamps_ns), axis=0)
        for frame in chain[:-1]:
            if frame in self._static:
                parent_from_frame = self._static[frame][1]
            else:
                parent_from_frame = self._moving[frame].at(stamps_ns)
            last_from_first = parent_from_frame @ last_from_first
        return last_from_first
