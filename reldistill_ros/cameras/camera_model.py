# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From what is known of a camera to pinhole images and the matrix that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.camera_info import (
    Calibration,
    camera_from_frame,
    find_lens,
    pinhole_matrix,
)
from reldistill_ros.cameras.images import check_size
from reldistill_ros.cameras.lens import (
    Lens,
    Rectification,
    find_rectification,
    rectify_image,
)


@dataclass(frozen=True, eq=False)
class CameraModel:
    """How a camera sees.

    Attributes:
        image_size: height and width of its images as they come.
        lens: what they are rectified by; None where they are pinhole images.
        intrinsics: (3, 3) float64 of the pinhole image.
        camera_from_frame: (4, 4) float64, from its coordinate frame to the pinhole camera.
        maps: of the lens; None where there is none.
    """

    image_size: tuple[int, int]
    lens: Lens | None
    intrinsics: NDArray[np.float64]
    camera_from_frame: NDArray[np.float64]
    maps: Rectification | None = None


def make_camera_model(
    calibration: Calibration,
    is_rectified: bool,
    is_second: bool,
    *,
    find_maps: Callable[[Lens], Rectification] = find_rectification,
) -> CameraModel:
    """Find the pinhole camera of a calibration, slowly.

    Args:
        calibration: of the camera.
        is_rectified: whether its images are pinhole images already.
        is_second: see `camera_from_frame`.
        find_maps: makes the maps of a lens, or has them already.

    Raises:
        InputError: the lens is not known, or makes no pinhole image.
    """
    intrinsics = pinhole_matrix(calibration, is_rectified)
    lens = find_lens(calibration, is_rectified)
    maps = None if lens is None else find_maps(lens)
    return CameraModel(
        image_size=calibration.size,
        lens=lens,
        intrinsics=intrinsics if maps is None else maps.intrinsics,
        camera_from_frame=camera_from_frame(calibration, is_second),
        maps=maps,
    )


def pinhole_image(
    image: NDArray[np.uint8], model: CameraModel, where: object
) -> NDArray[np.uint8]:
    """The pinhole image (H', W', 3) of an image (H, W, 3) as it came.

    Raises:
        InputError: it has not the size of the calibration.
    """
    check_size(image, model.image_size, where)
    return image if model.maps is None else rectify_image(image, model.maps)
