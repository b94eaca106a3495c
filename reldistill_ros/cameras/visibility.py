# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which pixel a lidar point is seen in, if the camera sees it: on board and in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.compiled import as_kernel_array, compiled
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings

MOST_CELLS = 1 << 26  # of the occlusion test: 256 MiB


class PairingSettings(Settings):
    """When a point and a pixel belong together.

    A point is hidden where a nearer point lies within `occlusion_window` around its pixel. Near
    and far are compared as inverse depths: the parallax between lidar and camera, which alone
    can hide a point that the lidar saw, is proportional to their difference, and over the
    ground seen from height h they change by no more than angle / h, however far it reaches.

    Attributes:
        min_depth: smallest depth of a pair in metres.
        max_depth: largest depth of a pair in metres, None for any.
        border: smallest distance of a pixel from the edge of the image in pixels.
        occlusion_window_deg: how far to look for nearer points at most, in degrees: about the
            angle between neighbouring points of the lidar; null leaves the test out.
        occlusion_inverse_depth: difference of inverse depths (1/m) above which a point is hidden.
        occlusion_depth: difference of depths (m) above which a point is hidden; both must hold.
    """

    min_depth: float = Field(default=1.0, gt=0)
    max_depth: float | None = Field(default=None, gt=0)
    border: float = Field(default=1.0, ge=0)
    occlusion_window_deg: Annotated[float, Field(ge=0.05, le=10)] | None = 0.4
    occlusion_inverse_depth: float = Field(default=0.005, ge=0)
    occlusion_depth: float = Field(default=0.3, ge=0)


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """A rectified camera and where the lidar stood.

    Attributes:
        image_size: H, W in pixels.
        intrinsics: (3, 3) float64, pinhole matrix in pixels; the centre of the top left pixel
            is (0, 0).
        camera_from_lidar: (4, 4) float64, lidar frame at the sweep's stamp to the camera's
            optical frame (REP 103: x right, y down, z forward) at the image's own stamp.
    """

    image_size: tuple[int, int]
    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Points and the pixels that they are seen in.

    Attributes:
        point_indices: (P,) int64, rows of the sweep's points, rising.
        pixels: (P, 2) float32, u right, v down; the centre of the top left pixel is (0, 0).
        depths: (P,) float32, metres along the camera's axis.
    """

    point_indices: NDArray[np.int64]
    pixels: NDArray[np.float32]
    depths: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.point_indices)

    def select(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs where the mask is true."""
        return Pairs(self.point_indices[mask], self.pixels[mask], self.depths[mask])


def find_visible(
    points: NDArray[np.float32], camera: PinholeCamera, settings: PairingSettings
) -> Pairs:
    """Pair the points that the camera sees with their pixels.

    Args:
        points: (N, >=3) x y z in metres in the lidar frame; rows that are not finite get no
            pixel.
        camera: what looks.
        settings: limits.
    """
    candidates = project(points, camera, settings)
    return candidates.select(~find_hidden(candidates, camera, settings))


def project(
    points: NDArray[np.float32], camera: PinholeCamera, settings: PairingSettings
) -> Pairs:
    """Pinhole projection of the points inside the image and the limits of depth, hidden or not."""
    found = Pairs(
        np.empty(len(points), np.int64),
        np.empty((len(points), 2), np.float32),
        np.empty(len(points), np.float32),
    )
    height, width = camera.image_size
    max_depth = np.inf if settings.max_depth is None else settings.max_depth
    count = _project(
        as_kernel_array(points, np.float32),
        as_kernel_array(camera.camera_from_lidar, np.float64),
        as_kernel_array(camera.intrinsics, np.float64),
        (float(settings.min_depth), float(max_depth)),
        (float(settings.border), float(width - 1), float(height - 1)),
        (found.point_indices, found.pixels, found.depths),
    )
    # copies, as a view would keep the memory of all points
    return Pairs(
        found.point_indices[:count].copy(),
        found.pixels[:count].copy(),
        found.depths[:count].copy(),
    )


def find_hidden(
    candidates: Pairs, camera: PinholeCamera, settings: PairingSettings
) -> NDArray[np.bool_]:
    """Which of the projected points lie behind others: a z-buffer test on cells of pixels.

    The depth of a cell is the smallest in it and in the cells within the window, because the
    points of a surface are too sparse to cover every pixel of it.

    Returns:
        (P,) bool.

    Raises:
        InputError: the window is so much smaller than a pixel that the cells are too many.
    """
    hidden = np.zeros(len(candidates), np.bool_)
    if settings.occlusion_window_deg is None or len(candidates) == 0:
        return hidden
    # the window is two to three cells, as a point may lie anywhere in its cell
    cell_size = np.radians(settings.occlusion_window_deg) * camera.intrinsics[0, 0] / 3  # pixels
    _check_cells(cell_size, camera)
    cells = (candidates.pixels // cell_size).astype(np.int64)
    depths = as_kernel_array(candidates.depths, np.float32)
    depth_map = np.full(cells.max(axis=0) + 1, np.inf, np.float32)
    limits = (
        np.float32(settings.occlusion_depth),
        np.float32(settings.occlusion_inverse_depth),
    )
    _find_hidden(cells, depths, depth_map, limits, hidden)
    return hidden


def _check_cells(cell_size: float, camera: PinholeCamera) -> None:
    height, width = camera.image_size
    if not cell_size > 0 or width * height > MOST_CELLS * cell_size**2:
        raise InputError(
            'the occlusion window is too small for this camera',
            where=f'focal length {camera.intrinsics[0, 0]:.3g} pixels, image {width} x {height}',
            expected=f'a window of {3 * (width * height / MOST_CELLS) ** 0.5:.2g} pixels or more',
            got=f'{3 * cell_size:.2g} pixels',
            fix='check the intrinsics, or make occlusion_window_deg larger',
        )


@compiled()
def _project(
    points: NDArray[np.float32],
    transform: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    depth_limits: tuple[float, float],
    image_limits: tuple[float, float, float],
    found: tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]],
) -> int:
    """Write the points inside the image; returns how many. NaN passes no comparison."""
    point_indices, pixels, depths = found
    min_depth, max_depth = depth_limits
    border, last_column, last_row = image_limits
    count = 0
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        depth = _row(transform[2], x, y, z) + transform[2, 3]
        if not (depth >= min_depth and depth <= max_depth and np.isfinite(x + y + z)):
            continue
        right = _row(transform[0], x, y, z) + transform[0, 3]
        down = _row(transform[1], x, y, z) + transform[1, 3]
        scale = _row(intrinsics[2], right, down, depth)
        u = _row(intrinsics[0], right, down, depth) / scale
        v = _row(intrinsics[1], right, down, depth) / scale
        if border <= u <= last_column - border and border <= v <= last_row - border:
            point_indices[count] = i
            pixels[count, 0], pixels[count, 1] = u, v
            depths[count] = depth
            count += 1
    return count


@compiled()
def _row(row: NDArray[np.float64], x: float, y: float, z: float) -> float:
    return row[0] * x + row[1] * y + row[2] * z  # type: ignore[no-any-return]


@compiled()
def _find_hidden(
    cells: NDArray[np.int64],
    depths: NDArray[np.float32],
    depth_map: NDArray[np.float32],
    limits: tuple[np.float32, np.float32],
    hidden: NDArray[np.bool_],
) -> None:
    """Fill the map with the smallest depths, then look around each point."""
    for i in range(len(cells)):
        column, row = cells[i, 0], cells[i, 1]
        depth_map[column, row] = min(depth_map[column, row], depths[i])
    depth_limit, inverse_limit = limits
    for i in range(len(cells)):
        nearest = depths[i]
        for column in range(max(cells[i, 0] - 2, 0), min(cells[i, 0] + 3, depth_map.shape[0])):
            for row in range(max(cells[i, 1] - 2, 0), min(cells[i, 1] + 3, depth_map.shape[1])):
                nearest = min(nearest, depth_map[column, row])
        behind = depths[i] - nearest
        hidden[i] = behind > depth_limit and behind > inverse_limit * depths[i] * nearest
