# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which pixel a lidar point is seen in, if the camera sees it.

`python -m trainer.pairing SETTINGS.yaml --data ROOT --sweep 0 --out overlay.png` draws the pairs
over the images, for checking a calibration by eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import minimum_filter

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.settings import Settings
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.transforms import apply

SWEEPS_TO_CHECK = 5  # of a drive


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


def pair_points(
    points: NDArray[np.float32], image: CameraImage, settings: PairingSettings
) -> Pairs:
    """Pair the points that the camera sees with their pixels.

    Args:
        points: (N, >=3) x y z in metres in the lidar frame; rows that are not finite get no
            pixel.
        image: image and where the lidar stood.
        settings: limits.
    """
    candidates = project(points, image, settings)
    return candidates.select(~find_hidden(candidates, image, settings))


def project(points: NDArray[np.float32], image: CameraImage, settings: PairingSettings) -> Pairs:
    """Pinhole projection of the points inside the image and the limits of depth, hidden or not."""
    finite = np.flatnonzero(np.isfinite(points[:, :3]).all(axis=1))
    in_camera = apply(image.camera_from_lidar, points[finite, :3])
    depths = in_camera[:, 2]
    max_depth = np.inf if settings.max_depth is None else settings.max_depth
    in_front = (depths >= settings.min_depth) & (depths <= max_depth)
    homogeneous = in_camera[in_front] @ image.intrinsics.T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    height, width = image.image.shape[:2]
    last = np.array([width - 1, height - 1]) - settings.border
    inside = ((pixels >= settings.border) & (pixels <= last)).all(axis=1)
    return Pairs(
        finite[in_front][inside],
        pixels[inside].astype(np.float32),
        depths[in_front][inside].astype(np.float32),
    )


def find_hidden(
    candidates: Pairs, image: CameraImage, settings: PairingSettings
) -> NDArray[np.bool_]:
    """Which of the projected points lie behind others: a z-buffer test on cells of pixels.

    The depth of a cell is the smallest in it and in the cells within the window, because the
    points of a surface are too sparse to cover every pixel of it.

    Returns:
        (P,) bool.
    """
    if settings.occlusion_window_deg is None or len(candidates) == 0:
        return np.zeros(len(candidates), dtype=np.bool_)
    cell_size = np.radians(settings.occlusion_window_deg) * image.intrinsics[0, 0] / 3  # pixels
    columns, rows = (candidates.pixels // cell_size).astype(np.int64).T
    depth_map = np.full((rows.max() + 1, columns.max() + 1), np.inf, dtype=np.float32)
    np.minimum.at(depth_map, (rows, columns), candidates.depths)
    # two cells to each side: two to three cell sizes, as a point may lie anywhere in its cell
    nearest = minimum_filter(depth_map, size=5, mode='constant', cval=np.inf)[rows, columns]
    behind = candidates.depths - nearest
    hidden: NDArray[np.bool_] = (behind > settings.occlusion_depth) & (
        behind > settings.occlusion_inverse_depth * candidates.depths * nearest
    )
    return hidden


def sweeps_to_check(dataset: Sized) -> list[int]:
    """A few sweeps all over a drive."""
    spread = np.linspace(0, len(dataset) - 1, min(SWEEPS_TO_CHECK, len(dataset)))
    return [int(index) for index in spread]


def check_projects(samples: Iterable[Sample], settings: PairingSettings) -> None:
    """Reject a calibration that brings no point of any of the sweeps into an image.

    Raises:
        InputError: no point lies in any of the images of a camera.
    """
    errors: dict[str, InputError] = {}
    seen: set[str] = set()
    for sample in samples:
        for image in sample.images:
            if len(project(sample.points, image, settings)):
                seen.add(image.camera)
            errors.setdefault(image.camera, _projects_nothing(sample, image))
    for camera, error in errors.items():
        if camera not in seen:
            raise error


def _projects_nothing(sample: Sample, image: CameraImage) -> InputError:
    return InputError(
        'the calibration projects no point into the image',
        where=f'{sample.sample_id}, camera {image.camera}',
        expected='at least one point inside the image',
        got=f'camera_from_lidar {np.round(image.camera_from_lidar, 3).tolist()}',
        fix='check the calibration, or leave the camera out of `cameras`',
    )


if __name__ == '__main__':
    from trainer.show_pairs import main

    run_command(main)
