# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Coordinate frames of a bag over time, from its /tf and /tf_static messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from reldistill_ros.core.errors import InputError
from trainer.datasets.transforms import from_quaternion, invert, make_transform


@dataclass
class _Track:
    """Transforms from a child frame to its parent over time.

    Attributes:
        parent: name of the parent frame.
        poses: stamp in nanoseconds -> quaternion x y z w and translation, 7 numbers.
        ordered: stamps and poses as arrays in order of time, made once all are known.
    """

    parent: str
    poses: dict[int, tuple[float, ...]] = field(default_factory=dict)
    ordered: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if self.ordered is None:
            stamps = sorted(self.poses)
            self.ordered = np.array(stamps), np.array([self.poses[stamp] for stamp in stamps])
        return self.ordered

    def covers(self, stamp_ns: int) -> bool:
        stamps, _ = self.arrays()
        return bool(stamps[0] <= stamp_ns <= stamps[-1])

    def at(self, stamp_ns: int) -> NDArray[np.float64]:
        """parent_from_child (4, 4) between the two nearest stamps: linear and slerp."""
        stamps, poses = self.arrays()
        after = int(np.searchsorted(stamps, stamp_ns))
        if after < len(stamps) and stamps[after] == stamp_ns:
            return from_quaternion(poses[after, :4], poses[after, 4:])
        span = slice(after - 1, after + 1)
        # Nanoseconds since 1970 do not fit into float64: interpolate on differences.
        share = float(stamp_ns - stamps[after - 1]) / float(stamps[after] - stamps[after - 1])
        rotation = Slerp([0.0, 1.0], Rotation.from_quat(poses[span, :4]))(share)
        translation = (1.0 - share) * poses[after - 1, 4:] + share * poses[after, 4:]
        return make_transform(rotation.as_matrix(), translation)


class TfTree:
    """Frames of a bag.

    Args:
        static_messages: contents of /tf_static.
        messages: contents of /tf.
    """

    def __init__(self, static_messages: Iterable[Any], messages: Iterable[Any]) -> None:
        self._static: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self._moving: dict[str, _Track] = {}
        for message in static_messages:
            for transform in message.transforms:
                pose = _pose(transform)
                entry = (_name(transform.header.frame_id), from_quaternion(pose[:4], pose[4:]))
                self._static[_name(transform.child_frame_id)] = entry
        for message in messages:
            for transform in message.transforms:
                self._add(transform)

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
        target_chain, source_chain = self._chains(target, source)
        if not self.knows(target, target_ns, source, source_ns):
            return None
        root_from_target = self._to_root(target_chain, target_ns)
        return invert(root_from_target) @ self._to_root(source_chain, source_ns)

    def knows(self, target: str, target_ns: int, source: str, source_ns: int) -> bool:
        """Whether `transform` would give the transform and not None."""
        target_chain, source_chain = self._chains(target, source)
        return self._covers(target_chain, target_ns) and self._covers(source_chain, source_ns)

    def _chains(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """The chains of two frames up to the root that they share."""
        target_chain, source_chain = self._chain(target), self._chain(source)
        if target_chain[-1] != source_chain[-1]:
            raise InputError(
                'the bag does not say how two coordinate frames lie to each other',
                where=f'/tf and /tf_static: {source!r} and {target!r}',
                expected='one tree that holds both frames',
                got=f'{" -> ".join(source_chain)} and {" -> ".join(target_chain)}',
                fix='record /tf and /tf_static, the latter with transient_local durability',
            )
        return target_chain, source_chain

    def _covers(self, chain: list[str], stamp_ns: int) -> bool:
        moving = (frame for frame in chain[:-1] if frame not in self._static)
        return all(self._moving[frame].covers(stamp_ns) for frame in moving)

    def _add(self, transform: Any) -> None:
        """Add a transform of /tf."""
        stamp = transform.header.stamp
        stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
        parent, child = _name(transform.header.frame_id), _name(transform.child_frame_id)
        track = self._moving.setdefault(child, _Track(parent))
        if track.parent != parent:
            raise InputError(
                'a coordinate frame has two parents',
                where=f'/tf: {child!r}',
                got=[track.parent, parent],
                fix='record the bag with one publisher of this frame',
            )
        track.poses[stamp_ns] = _pose(transform)

    def _parent(self, frame: str) -> str | None:
        if frame in self._static:
            return self._static[frame][0]
        return self._moving[frame].parent if frame in self._moving else None

    def _chain(self, frame: str) -> list[str]:
        """Frame, its parent, and so on up to the root."""
        chain = [_name(frame)]
        while (parent := self._parent(chain[-1])) is not None:
            if parent in chain:
                raise InputError('the coordinate frames form a circle', where='/tf', got=chain)
            chain.append(parent)
        return chain

    def _to_root(self, chain: list[str], stamp_ns: int) -> NDArray[np.float64]:
        """root_from_frame (4, 4) at a time that was recorded."""
        root_from_frame = np.eye(4)
        for frame in chain[:-1]:
            if frame in self._static:
                parent_from_frame = self._static[frame][1]
            else:
                parent_from_frame = self._moving[frame].at(stamp_ns)
            root_from_frame = parent_from_frame @ root_from_frame
        return root_from_frame


def _name(frame: str) -> str:
    """Name of a frame without the leading slash of old drivers."""
    return frame.lstrip('/')


def _pose(transform: Any) -> tuple[float, ...]:
    """Quaternion x y z w and translation of a TransformStamped."""
    rotation, translation = transform.transform.rotation, transform.transform.translation
    pose = (
        *(float(getattr(rotation, axis)) for axis in 'xyzw'),
        *(float(getattr(translation, axis)) for axis in 'xyz'),
    )
    if not np.isfinite(pose).all() or not any(pose[:4]):
        raise InputError(
            'a transform of the bag is not a rigid transform',
            where=f'{transform.header.frame_id!r} to {transform.child_frame_id!r}',
            expected='finite numbers and a quaternion other than zero',
            got=pose,
        )
    return pose
