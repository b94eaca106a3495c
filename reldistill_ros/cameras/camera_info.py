# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a sensor_msgs/CameraInfo says about a camera.

The image that is made of a camera's images is that of `image_proc`, with the pinhole matrix P and
turned by R; see http://docs.ros.org/en/api/sensor_msgs/html/msg/CameraInfo.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.lens import MODELS, Lens, check_model
from reldistill_ros.cameras.transforms import make_transform
from reldistill_ros.core.errors import InputError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A calibrated camera; matrices and size are those of its images as they are recorded.

    Attributes:
        size: height and width in pixels.
        model: name of the distortion model.
        coefficients: (n,) of the distortion, possibly none.
        matrix: (3, 3) of the raw image.
        rotation: (3, 3), R: from the camera to the rectified camera.
        projection: (3, 4), P: from the rectified camera to the pixels of the rectified image;
            zeros where it is not known.
        where: where it comes from, for errors.
    """

    size: tuple[int, int]
    model: str
    coefficients: Matrix
    matrix: Matrix
    rotation: Matrix
    projection: Matrix
    where: str

    @property
    def offset(self) -> Matrix:
        """(3,), what takes a point from the first camera of a pair to this one: K^-1 p."""
        if not _is_pinhole(self.projection[:, :3]):
            return np.zeros(3)
        return np.asarray(np.linalg.solve(self.projection[:, :3], self.projection[:, 3]), float)

    @property
    def is_turned(self) -> bool:
        """Whether the rectified camera looks elsewhere than the camera."""
        return not np.array_equal(self.rotation, np.eye(3))


def read_camera_info(info: Any, where: str) -> Calibration:
    """Read a CameraInfo; its region of interest and its binning are worked in.

    Raises:
        InputError: the camera is not calibrated.
    """
    calibration = Calibration(
        size=(int(info.height), int(info.width)),
        model=str(info.distortion_model),
        coefficients=np.array(info.d, dtype=np.float64),
        matrix=shaped(info.k, (3, 3), where),
        rotation=rotation_of(info.r, where),
        projection=shaped(info.p, (3, 4), where),
        where=where,
    )
    check_calibrated(calibration)
    part = _of_part(calibration, info)
    check_calibrated(part)
    return part


def pinhole_matrix(calibration: Calibration, is_rectified: bool) -> Matrix:
    """Pinhole matrix (3, 3): the left part of P for rectified images, else K.

    Raises:
        InputError: the images are rectified and there is no P.
    """
    if not is_rectified:
        return calibration.matrix
    matrix = calibration.projection[:, :3]
    if not _is_pinhole(matrix):
        raise _not_calibrated(calibration, f'P {calibration.projection.tolist()}')
    return matrix


def find_lens(calibration: Calibration, is_rectified: bool) -> Lens | None:
    """What makes pinhole images of the recorded ones, None where they are ones.

    Raises:
        InputError: the distortion model is not known.
    """
    # a fisheye without coefficients is r = f theta, and no pinhole camera
    is_fisheye = MODELS.get(calibration.model, ('', ()))[0] == 'equidistant'
    distorted = is_fisheye or bool(np.any(calibration.coefficients))
    if is_rectified or not (distorted or calibration.is_turned):
        return None
    coefficients = calibration.coefficients
    if not np.any(coefficients):
        coefficients = np.zeros(4 if is_fisheye else 5)
    name = calibration.model if distorted else 'plumb_bob'
    projection = calibration.projection[:, :3]
    rectified = projection if _is_pinhole(projection) else calibration.matrix
    return Lens(
        model=check_model(name, len(coefficients), calibration.where),
        coefficients=tuple(coefficients.tolist()),
        matrix=tuple(calibration.matrix.ravel().tolist()),
        rotation=tuple(calibration.rotation.ravel().tolist()),
        rectified_matrix=tuple(rectified.ravel().tolist()),
        image_size=calibration.size,
    )


def camera_from_frame(calibration: Calibration, is_second: bool) -> Matrix:
    """Transform (4, 4) from the coordinate frame of a camera to its rectified camera.

    The frame is that of the rectified camera, without R, as `image_geometry` takes it to be when
    it projects points with P alone.

    Args:
        calibration: of the camera.
        is_second: whether its frame is that of the first camera of a stereo pair; then the last
            column of P says where this one is.
    """
    return make_transform(np.eye(3), calibration.offset if is_second else np.zeros(3))


def shaped(numbers: Any, shape: tuple[int, int], where: str) -> Matrix:
    """Numbers as a matrix, zeros where there are none.

    Raises:
        InputError: another number of them, or not finite.
    """
    values = np.array(numbers, dtype=np.float64)
    if values.size == 0:  # foxglove.CameraCalibration may leave matrices out
        return np.zeros(shape)
    if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
        raise InputError(
            'a matrix of the calibration is malformed',
            where=where,
            expected=f'{shape[0]} x {shape[1]} finite numbers',
            got=values.tolist(),
        )
    return values.reshape(shape)


def rotation_of(numbers: Any, where: str) -> Matrix:
    """R, which is left at zero by many drivers.

    Raises:
        InputError: it is no rotation.
    """
    rotation = shaped(numbers, (3, 3), where)
    if not rotation.any():
        return np.eye(3)
    with np.errstate(all='ignore'):  # numbers of any size may come
        product = rotation @ rotation.T
    if not np.allclose(product, np.eye(3), atol=1e-3):
        raise InputError('R of the calibration is no rotation', where=where, got=rotation.tolist())
    return rotation


def check_calibrated(calibration: Calibration) -> None:
    """Reject a camera that was never calibrated: ROS says that by zeros.

    Raises:
        InputError: its focal lengths or its size are zero.
    """
    if not _is_pinhole(calibration.matrix):
        raise _not_calibrated(calibration, f'K {calibration.matrix.tolist()}')
    if not np.isfinite(calibration.coefficients).all():
        raise _not_calibrated(calibration, f'D {calibration.coefficients.tolist()}')
    if 0 in calibration.size:
        raise _not_calibrated(calibration, f'height and width {calibration.size}')


def _is_pinhole(matrix: Matrix) -> bool:
    """Focal lengths above zero, and a last row that leaves the depth as it is."""
    return bool(matrix[0, 0] > 0 and matrix[1, 1] > 0 and (matrix[2] == [0, 0, 1]).all())


def _not_calibrated(calibration: Calibration, got: str) -> InputError:
    return InputError(
        'the camera is not calibrated',
        where=calibration.where,
        expected='focal lengths and a size above zero',
        got=got,
        fix='calibrate it and name the file in `calibrations` of the settings, or leave the '
        'camera out of `cameras`',
    )


def _of_part(full: Calibration, info: Any) -> Calibration:
    """Calibration of the part of the sensor that is recorded.

    A CameraInfo's matrices are those of the whole sensor; its region of interest is cut out, and
    then each `binning_x` times `binning_y` pixels are one.
    """
    region = info.roi
    binning = np.array([max(int(info.binning_x), 1), max(int(info.binning_y), 1)])
    start = np.array([int(region.x_offset), int(region.y_offset)])
    height, width = int(region.height) or full.size[0], int(region.width) or full.size[1]
    if start[0] + width > full.size[1] or start[1] + height > full.size[0]:
        raise InputError(
            'the region of interest lies outside the image',
            where=full.where,
            expected=f'within {full.size[1]} x {full.size[0]} pixels',
            got=f'{width} x {height} pixels from {start.tolist()}',
        )
    part = np.eye(3)
    part[:2, :2] /= binning[:, None]
    # the centre of the first pixel is 0, its edge -0.5
    part[:2, 2] = (0.5 - start) / binning - 0.5
    return Calibration(
        size=(height // int(binning[1]), width // int(binning[0])),
        model=full.model,
        coefficients=full.coefficients,
        matrix=part @ full.matrix,
        rotation=full.rotation,
        projection=part @ full.projection,
        where=full.where,
    )
