# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as (4, 4) matrices; `a_from_b` takes points of frame b to frame a."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra


def make_transform(
    rotation: NDArray[np.floating[Any]], translation: Sequence[float] | NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """(4, 4) float64 of a (3, 3) rotation matrix and a translation in metres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def from_quaternion(
    xyzw: Sequence[float] | NDArray[np.float64], translation: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """(4, 4) float64 of a quaternion x y z w and a translation in metres."""
    return make_transform(rotation_type().from_quat(xyzw).as_matrix(), translation)


def from_wxyz(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a quaternion w x y z and a translation, (7,)."""
    return from_quaternion(np.roll(pose[:4], -1), pose[4:])


def invert(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a rigid transform."""
    rotation = transform[:3, :3].T
    return make_transform(rotation, -rotation @ transform[:3, 3])


def apply(
    transform: NDArray[np.float64], points: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Move (N, 3) points."""
    moved: NDArray[np.float64] = points @ transform[:3, :3].T + transform[:3, 3]
    return moved


def to_pose(transform: NDArray[np.float64]) -> tuple[float, ...]:
    """Quaternion x y z w and translation of a rigid transform: the opposite of `from_quaternion`."""
    quaternion = rotation_type().from_matrix(transform[:3, :3]).as_quat()
    return (*map(float, quaternion), *map(float, transform[:3, 3]))


def rotation_type() -> Any:
    """SciPy's `Rotation`, which only those need who have cameras or move."""
    return import_extra('scipy.spatial.transform', 'cameras').Rotation
