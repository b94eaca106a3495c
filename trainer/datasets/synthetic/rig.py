# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The recording vehicle's sensors: where they sit, what they see, when they fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reldistill_ros.core.errors import InputError

Matrix = NDArray[np.float64]
SWEEP_DURATION = 0.1  # s, one turn at 10 Hz
START_NS = 1_700_000_000 * 10**9  # stamp of time 0
OPTICAL_FROM_BODY = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # REP 103


@dataclass(frozen=True)
class Lidar:
    """A spinning lidar.

    Attributes:
        elevations: (beams,) rad, ring 0 lowest.
        num_azimuths: columns of a turn.
        base_from_lidar: (4, 4) mounting.
        max_range: metres.
    """

    elevations: NDArray[np.float64]
    num_azimuths: int
    base_from_lidar: Matrix
    max_range: float = 100.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        name: as in topics and frames, such as `camera_front`.
        size: width, height in pixels.
        intrinsics: (3, 3); the centre of the top left pixel is (0, 0).
        base_from_camera: (4, 4) mounting of the optical frame.
        delay: s from the sweep's stamp to the image's.
    """

    name: str
    size: tuple[int, int]
    intrinsics: Matrix
    base_from_camera: Matrix
    delay: float


def _mounting(position: ArrayLike, roll_pitch_yaw: tuple[float, float, float]) -> Matrix:
    """Transform (4, 4) of a sensor from its position in m and angles in degrees."""
    (sr, sp, sy), (cr, cp, cy) = (
        np.sin(np.radians(roll_pitch_yaw)),
        np.cos(np.radians(roll_pitch_yaw)),
    )
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    matrix[:3, 3] = position
    return matrix


def make_lidar(beams: int) -> Lidar:
    """A lidar with the beam pattern of an HDL-32E or HDL-64E, mounted 1.85 m up.

    Raises:
        InputError: neither 32 nor 64 beams.
    """
    spans = {32: (-30.67, 10.67), 64: (-24.8, 2.0)}
    if beams not in spans:
        raise InputError('no such lidar', where='beams', expected='32 or 64', got=beams)
    elevations = np.radians(np.linspace(*spans[beams], beams))
    mounting = _mounting((0.2, 0.0, 1.85), (0.3, 0.4, 1.5))
    return Lidar(elevations, {32: 1090, 64: 1600}[beams], mounting)


def _make_camera(name: str, yaw: float, delay: float) -> Camera:
    size, half_view = (384, 216), np.radians(48.5)
    focal = size[0] / 2 / np.tan(half_view)
    intrinsics = np.array(
        [[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]]
    )
    direction = np.array([np.cos(np.radians(yaw)), np.sin(np.radians(yaw))])
    body = _mounting([0.2 + 0.5 * direction[0], 0.4 * direction[1], 1.6], (0.0, 1.5, yaw))
    optical = np.eye(4)
    optical[:3, :3] = OPTICAL_FROM_BODY.T
    return Camera(f'camera_{name}', size, intrinsics, body @ optical, delay)


def make_cameras() -> tuple[Camera, ...]:
    """Four cameras that see 97 degrees each, fired one after another as the lidar turns."""
    return (
        _make_camera('back', 180.0, 0.005),
        _make_camera('left', 90.0, 0.017),
        _make_camera('front', 0.0, 0.031),
        _make_camera('right', -90.0, 0.044),
    )


def seconds(stamp_ns: int) -> float:
    """Time of the world at a stamp."""
    return (stamp_ns - START_NS) / 1e9
