# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The pose of one coordinate frame in its parent over time."""

from __future__ import annotations

from array import array
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reldistill_ros.cameras.transforms import make_transform

STILL = 1e-6  # what rounding moves in a pose that is published again and again; metres, radians
Pose = tuple[float, ...]  # quaternion x y z w and translation in metres
POSE_SIZE = 7


class Track:
    """Poses of a child frame in its parent over time, 64 bytes each.

    Args:
        parent: name of the parent frame.
    """

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self._stamps, self._poses = array('q'), array('d')
        self._ordered: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._is_still = False

    def add(self, stamp_ns: int, pose: Pose) -> None:
        """Add a pose; of several with one stamp the last one counts."""
        self._stamps.append(stamp_ns)
        self._poses.extend(pose)
        self._ordered = None

    def keep_recent(self, span_ns: int, jump_ns: int) -> None:
        """Forget what lies long before the last pose, or all others where time has jumped back.

        Args:
            span_ns: what is kept.
            jump_ns: a step back by more is a jump.
        """
        last = self._stamps[-1]
        jumped = len(self) > 1 and last < self._stamps[-2] - jump_ns
        # they came in order, but for those that were late by less than a jump
        old = len(self) - 1 if jumped else bisect_left(self._stamps, last - span_ns)
        old = min(old, len(self) - 1)
        del self._stamps[:old], self._poses[: POSE_SIZE * old]
        self._ordered = None

    def __len__(self) -> int:
        return len(self._stamps)

    def is_still(self) -> bool:
        """Whether all poses are the same."""
        self._arrays()
        return self._is_still

    def covers(
        self, stamps_ns: NDArray[np.int64], max_gap_ns: int, still_ns: int | None = None
    ) -> NDArray[np.bool_]:
        """(T,) bool: whether a pose was recorded at a time, or two around it close together.

        Args:
            stamps_ns: times.
            max_gap_ns: how close.
            still_ns: for how long after its last pose a frame that stood still does so; None for
                ever.
        """
        stamps, _ = self._arrays()
        if self.is_still():
            end = np.iinfo(np.int64).max if still_ns is None else stamps[-1] + still_ns
            return np.asarray(stamps_ns <= end)
        after = np.searchsorted(stamps, stamps_ns)
        right = stamps[np.minimum(after, len(stamps) - 1)]
        left = stamps[np.maximum(after - 1, 0)]
        inside = (after > 0) & (after < len(stamps)) & (right - left <= max_gap_ns)
        covered: NDArray[np.bool_] = inside | (right == stamps_ns)
        return covered

    def at(self, stamps_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """parent_from_child (T, 4, 4) between the two nearest stamps: linear and slerp.

        A frame that stands still has one pose at all times.
        """
        stamps, poses = self._arrays()
        if self.is_still():
            return np.repeat(_matrices(poses[-1:]), len(stamps_ns), axis=0)
        after = np.clip(np.searchsorted(stamps, stamps_ns), 1, len(stamps) - 1)
        # Nanoseconds since 1970 do not fit into float64: interpolate on differences.
        span = (stamps[after] - stamps[after - 1]).astype(np.float64)
        share = ((stamps_ns - stamps[after - 1]).astype(np.float64) / span)[:, None]
        left, right = poses[after - 1], poses[after]
        turn = Rotation.from_quat(left[:, :4]).inv() * Rotation.from_quat(right[:, :4])
        between = Rotation.from_quat(left[:, :4]) * Rotation.from_rotvec(share * turn.as_rotvec())
        translation = (1.0 - share) * left[:, 4:] + share * right[:, 4:]
        return _matrices(np.concatenate([between.as_quat(), translation], axis=1))

    def _arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps (S,) in order and poses (S, 7) with unit quaternions, made when all are known."""
        if self._ordered is None:
            stamps = np.array(self._stamps, dtype=np.int64)
            poses = np.array(self._poses, dtype=np.float64).reshape(-1, POSE_SIZE)
            poses[:, :4] /= np.linalg.norm(poses[:, :4], axis=1, keepdims=True)
            last = len(stamps) - 1 - np.unique(stamps[::-1], return_index=True)[1]
            self._ordered = stamps[last], poses[last]
            self._is_still = _are_same(poses)
        return self._ordered


def _are_same(poses: NDArray[np.float64]) -> bool:
    signs = np.where(poses[:, :4] @ poses[0, :4] < 0, -1.0, 1.0)  # q and -q are one rotation
    turned = np.abs(signs[:, None] * poses[:, :4] - poses[0, :4]).max()
    return bool(max(turned, np.abs(poses[:, 4:] - poses[0, 4:]).max()) <= STILL)


def _matrices(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 4, 4) of (T, 7) quaternions x y z w and translations."""
    rotations = Rotation.from_quat(poses[:, :4]).as_matrix()
    return np.stack([make_transform(r, t) for r, t in zip(rotations, poses[:, 4:])])
