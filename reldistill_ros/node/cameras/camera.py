# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its calibration, its last images, and what is counted of it; no ROS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.calibration_file import read_calibration_file
from reldistill_ros.cameras.camera_info import Calibration, read_camera_info
from reldistill_ros.cameras.camera_model import CameraModel, make_camera_model, pinhole_image
from reldistill_ros.cameras.image_encodings import decode_image
from reldistill_ros.cameras.images import check_num_pixels
from reldistill_ros.cameras.looks import NANO, Look, Looks
from reldistill_ros.cameras.transforms import from_quaternion
from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import Attempt, attempt
from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.cameras.statistics import CameraStatistics
from reldistill_ros.node.stamps import stamp_ns_of

JUMP_NS = NANO  # a step back of the images' stamps by more is a bag that begins anew


class Camera:
    """One camera.

    Attributes:
        name: of the camera.
        settings: its parameters.
        looks: its last images.
        statistics: what counts.
        given: (4, 4), where it stands in the lidar's frame by its parameters; None: as /tf says.

    Args:
        name: see above.
        settings: see above.
        max_pixels: of an image.

    Raises:
        InputError: its calibration file cannot be used.
    """

    def __init__(self, name: str, settings: CameraSettings, max_pixels: int) -> None:
        self.name, self.settings = name, settings
        self.looks, self.statistics = Looks(settings.window), CameraStatistics()
        x, y, z, *rotation = settings.extrinsics
        self.given = from_quaternion(rotation, (x, y, z)) if any(rotation) else None
        self._max_pixels = max_pixels
        self._offset_ns = round(settings.offset * NANO)
        self._info: Any = None
        self._model: tuple[Any, Attempt[CameraModel]] | None = None  # of a CameraInfo
        self._latest_ns = 0
        self._from_file: CameraModel | None = None
        if settings.calibration:
            calibration = read_calibration_file(Path(settings.calibration))
            self._from_file = self._make_model(calibration)

    def take_info(self, info: Any) -> None:
        """Executor: the newest sensor_msgs/CameraInfo counts, for the images that follow."""
        self._info = info

    def forget(self) -> None:
        """Forget its images: time has jumped, or nobody needs them any more."""
        self.looks.forget()

    def look(self, message: Any, *, keeps_picture: bool) -> tuple[Look, NDArray[np.uint8]]:
        """Camera thread: decode and rectify an image, and keep what comes of it.

        Args:
            message: sensor_msgs/Image or CompressedImage.
            keeps_picture: whether somebody will want to see it.

        Returns:
            What is kept, and the pinhole image (H, W, 3).

        Raises:
            InputError: image or CameraInfo cannot be used.
        """
        where = f'camera {self.name}'
        info = self._info
        model = self._find_model(info)
        image = decode_image(message, where, self._max_pixels)
        image = pinhole_image(image, model, where)
        look = Look(
            header=message.header,
            stamp_ns=stamp_ns_of(message) + self._offset_ns,
            frame=str((message if self._from_file else info).header.frame_id),
            model=replace(model, maps=None),  # they are large, and go with the camera
            image_size=(image.shape[0], image.shape[1]),
            picture=image if keeps_picture else None,
        )
        if look.stamp_ns < self._latest_ns - JUMP_NS:
            self.looks.forget()
        self._latest_ns = look.stamp_ns
        self.looks.add(look)
        return look, image

    def _find_model(self, info: Any) -> CameraModel:
        """The model of a CameraInfo, made when that changes."""
        if self._from_file is not None:
            return self._from_file
        if info is None:
            raise InputError('no CameraInfo has come yet', where=f'camera {self.name}')
        key = _content_of(info)
        if self._model is None or self._model[0] != key:
            self._model = None  # frees its maps before there are others
            self._model = key, attempt(lambda: self._read(info))
        outcome = self._model[1]
        if outcome.value is None:
            raise outcome.error or InputError('the CameraInfo cannot be used')
        return outcome.value

    def _read(self, info: Any) -> CameraModel:
        where = f'CameraInfo of camera {self.name}'
        check_num_pixels((int(info.height), int(info.width)), self._max_pixels, where)
        return self._make_model(read_camera_info(info, where))

    def _make_model(self, calibration: Calibration) -> CameraModel:
        settings = self.settings
        check_num_pixels(calibration.size, self._max_pixels, calibration.where)
        return make_camera_model(calibration, settings.is_rectified, settings.is_second)


def _content_of(info: Any) -> tuple[Any, ...]:
    """What of a CameraInfo its calibration depends on, to be compared."""
    region = info.roi
    matrices = (np.array(numbers, np.float64).tobytes() for numbers in (info.d, info.k, info.r))
    return (
        (int(info.height), int(info.width), str(info.distortion_model)),
        *matrices,
        np.array(info.p, np.float64).tobytes(),
        (int(info.binning_x), int(info.binning_y)),
        (region.x_offset, region.y_offset, region.height, region.width),
    )
