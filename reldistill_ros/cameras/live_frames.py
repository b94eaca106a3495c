# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Coordinate frames while the robot runs: a `TfTree` of the last seconds; from any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.extrinsics import Extrinsic
from reldistill_ros.cameras.tf_messages import edge_of, plain_name
from reldistill_ros.cameras.tf_tree import TfTree
from reldistill_ros.cameras.transforms import from_quaternion, invert
from reldistill_ros.core.errors import InputError

KEPT_NS = 5_000_000_000  # of a frame's motion
JUMP_NS = 1_000_000_000  # a step back by more is no late message, but a bag that begins anew
STILL_FOR = 10.0  # seconds for which a frame that never moved is believed after its last pose
MOST_FRAMES = 2000
Transform = NDArray[np.float64]


class MissingTransformError(InputError):
    """How two coordinate frames lie to each other is not known, or not at that time."""


@dataclass(frozen=True)
class Instant:
    """A coordinate frame at a time in nanoseconds."""

    frame: str
    stamp_ns: int


class LiveFrames:
    """Where frames are, by /tf and /tf_static.

    Args:
        given: frames that are placed by hand, whatever /tf says of them.
    """

    def __init__(self, given: Iterable[Extrinsic] = ()) -> None:
        self._tree = TfTree(still_for=STILL_FOR)
        self._lock = threading.Lock()
        self._given: set[str] = set()
        self.refused = 0
        for edge in given:
            transform = from_quaternion(edge.rotation, edge.translation)
            self._tree.place(edge.parent, edge.child, transform)
            self._given.add(plain_name(edge.child))

    def add(self, transforms: Iterable[Any], *, is_static: bool) -> str:
        """Take the TransformStamped of a message.

        Returns:
            What is wrong with the last of them that cannot be used, empty where nothing is.
        """
        problem = ''
        with self._lock:
            for transform in transforms:
                try:
                    self._add(transform, is_static)
                except InputError as error:
                    self.refused += 1
                    problem = str(error)
        return problem

    def forget_motion(self) -> None:
        """Time has jumped: what /tf has said is of another time."""
        with self._lock:
            self._tree.forget_motion()

    def find(self, target: Instant, source: Instant) -> Transform:
        """target_from_source (4, 4), of two frames at one time.

        Raises:
            MissingTransformError: it is not known.
        """
        if not (target.frame and source.frame):
            raise MissingTransformError('a cloud or an image does not name its coordinate frame')
        with self._lock:
            try:
                found = self._tree.transform(
                    target.frame, target.stamp_ns, source.frame, source.stamp_ns
                )
            except InputError as error:
                raise MissingTransformError(
                    f'/tf does not connect {target.frame!r} and {source.frame!r}', got=error
                ) from error
        if found is None:
            raise MissingTransformError(
                f'/tf does not say how {target.frame!r} lay to {source.frame!r} at that time',
                expected='poses around the time, or of the last seconds',
                got=target,
            )
        return found

    def _add(self, transform: Any, is_static: bool) -> None:
        child = edge_of(transform)[1]
        if child in self._given:
            return
        if self._tree.num_frames >= MOST_FRAMES and not self._tree.knows(child):
            raise InputError('/tf has too many frames', expected=f'at most {MOST_FRAMES}')
        if is_static:
            self._tree.add_static(transform)
            return
        self._tree.add(transform).keep_recent(KEPT_NS, JUMP_NS)


def camera_from_lidar(
    frames: LiveFrames,
    camera: Instant,
    lidar: Instant,
    *,
    fixed_frame: str,
    given: Transform | None,
) -> Transform:
    """(4, 4), from the lidar's frame when it swept to the camera's when it looked.

    Args:
        frames: where they are.
        camera: frame and time of the image.
        lidar: frame and time of the sweep.
        fixed_frame: one that stands still while the robot moves, such as `odom`; empty: the
            robot's motion between the two times is left out.
        given: (4, 4), the camera in the lidar's frame, before what /tf says.

    Raises:
        MissingTransformError: a transform is not known.
    """
    lidar_then = Instant(lidar.frame, camera.stamp_ns)
    if not fixed_frame:
        if given is not None:
            return invert(given)
        return frames.find(Instant(camera.frame, lidar.stamp_ns), lidar)
    fixed_from_lidar = frames.find(Instant(fixed_frame, lidar.stamp_ns), lidar)
    eye = camera if given is None else lidar_then
    fixed_from_eye = frames.find(Instant(fixed_frame, camera.stamp_ns), eye)
    eye_from_lidar = invert(fixed_from_eye) @ fixed_from_lidar
    return eye_from_lidar if given is None else invert(given) @ eye_from_lidar
