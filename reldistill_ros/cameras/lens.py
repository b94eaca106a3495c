# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From the image of a real lens to that of a pinhole camera, with OpenCV's distortion models.

The pinhole image is the one that `image_proc` makes of the same calibration, cut to the largest
part in which every pixel was seen by the camera, so that no point is paired with an empty pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra

LensModel = Literal['polynomial', 'equidistant']
# Names of sensor_msgs/CameraInfo (and of foxglove.CameraCalibration and other drivers) -> how many
# coefficients they may have: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]], or k1 k2 k3 k4.
MODELS: dict[str, tuple[LensModel, tuple[int, ...]]] = {
    'plumb_bob': ('polynomial', (4, 5)),
    'rational_polynomial': ('polynomial', (8, 12, 14)),
    'equidistant': ('equidistant', (4,)),
    'fisheye': ('equidistant', (4,)),
    'kannala_brandt': ('equidistant', (4,)),
}
Numbers = tuple[float, ...]
SMALLEST_EDGE = 2  # pixels of an image that can be rectified
SMALLEST_SHARE = 0.05  # of the pinhole image that the camera has to see


@dataclass(frozen=True)
class Lens:
    """How the pixels of a raw image lie to those of its pinhole image; can be a key.

    Attributes:
        model: of OpenCV: `cv2.projectPoints` or `cv2.fisheye.projectPoints`.
        coefficients: of the model.
        matrix: pinhole matrix of the raw image, 9 numbers row by row.
        rotation: from the raw to the rectified camera, 9 numbers row by row.
        rectified_matrix: pinhole matrix of the rectified image, 9 numbers row by row.
        image_size: height and width of the raw image.
    """

    model: LensModel
    coefficients: Numbers
    matrix: Numbers
    rotation: Numbers
    rectified_matrix: Numbers
    image_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Rectification:
    """Where the pixels of a pinhole image come from: 16 MB at 1920 x 1080.

    Attributes:
        raw_size: height and width of the raw image.
        intrinsics: (3, 3) float64 of the pinhole image.
        columns: (H, W) float32, u in the raw image of each pixel of the pinhole image.
        rows: (H, W) float32, v.
    """

    raw_size: tuple[int, int]
    intrinsics: NDArray[np.float64]
    columns: NDArray[np.float32]
    rows: NDArray[np.float32]


def check_model(name: str, num_coefficients: int, where: object) -> LensModel:
    """OpenCV's model of a distortion model of ROS.

    Raises:
        InputError: no such model, or not its number of coefficients.
    """
    model, counts = MODELS.get(name, (None, ()))
    if model is None or num_coefficients not in counts:
        raise InputError(
            'the distortion of the camera is not known',
            where=where,
            expected='; '.join(
                f'{known} with {" or ".join(map(str, allowed))} coefficients'
                for known, (_, allowed) in MODELS.items()
            ),
            got=f'{name!r} with {num_coefficients}',
            fix='calibrate the camera with one of these models, or rectify the images with '
            'image_proc and record image_rect',
        )
    return model


def find_rectification(lens: Lens) -> Rectification:
    """Make the maps from a pinhole image to the raw image, slowly.

    Raises:
        InputError: hardly any pixel of the pinhole image is seen by the camera, or it has hardly
            any pixel.
    """
    if min(lens.image_size) < SMALLEST_EDGE:
        raise InputError('the image is too small to be rectified', got=lens.image_size)
    columns, rows = _source_pixels(lens)
    intrinsics = _matrix(lens.rectified_matrix)
    part = largest_valid_part(_seen(columns, rows, lens.image_size), intrinsics)
    cut = columns[part]
    if cut.size < SMALLEST_SHARE * columns.size:
        raise InputError(
            'the calibration makes no pinhole image of the raw one',
            where=f'D {lens.coefficients}, P {lens.rectified_matrix}',
            expected=f'at least {SMALLEST_SHARE:.0%} of its pixels seen by the camera',
            got=f'{cut.shape[1]} x {cut.shape[0]} of {columns.shape[1]} x {columns.shape[0]}',
            fix='check D and P of the CameraInfo, or calibrate the camera again',
        )
    intrinsics[:2, 2] -= part[1].start, part[0].start
    return Rectification(
        lens.image_size, intrinsics, np.ascontiguousarray(cut), np.ascontiguousarray(rows[part])
    )


def rectify_image(image: NDArray[np.uint8], maps: Rectification) -> NDArray[np.uint8]:
    """The pinhole image (H', W', ...) of a raw image (H, W, ...), interpolated linearly."""
    cv2 = import_extra('cv2', 'cameras')
    rectified: NDArray[np.uint8] = cv2.remap(
        image, maps.columns, maps.rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return rectified


def rectify_classes(values: NDArray[np.uint8], maps: Rectification) -> NDArray[np.uint8]:
    """The values of a map that covers the raw image, at the pixels of the pinhole image.

    Args:
        values: (h, w), of another size than the image possibly; numbers that must not be mixed.
        maps: of the image.

    Returns:
        (H', W'), each the nearest value.
    """
    cv2 = import_extra('cv2', 'cameras')
    down, right = np.array(values.shape) / maps.raw_size
    # a pixel's centre lies half a pixel from the edge in both sizes
    columns = ((maps.columns + 0.5) * right - 0.5).astype(np.float32)
    rows = ((maps.rows + 0.5) * down - 0.5).astype(np.float32)
    rectified: NDArray[np.uint8] = cv2.remap(
        values, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return rectified


def largest_valid_part(
    valid: NDArray[np.bool_], intrinsics: NDArray[np.float64]
) -> tuple[slice, slice]:
    """Rows and columns of a rectangle in which all pixels are valid.

    The edge with the largest share of invalid pixels is taken away until none is left.

    Args:
        valid: (H, W).
        intrinsics: (3, 3); only valid pixels connected with the one nearest to the principal
            point count: far outside a polynomial may come back into the image.
    """
    valid = _around_principal_point(valid, intrinsics)
    top, left = 0, 0
    bottom, right = valid.shape
    while top < bottom and left < right:
        inner = valid[top:bottom, left:right]
        shares = [edge.mean() for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1])]
        worst = int(np.argmin(shares))
        if shares[worst] == 1 and inner.all():
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return slice(top, bottom), slice(left, right)


def _around_principal_point(
    valid: NDArray[np.bool_], intrinsics: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The valid pixels that are connected with the one nearest to the principal point."""
    rows, columns = np.nonzero(valid)
    if len(rows) == 0:
        return valid
    distances = np.hypot(columns - intrinsics[0, 2], rows - intrinsics[1, 2])
    nearest = int(np.argmin(distances))
    regions, _ = import_extra('scipy.ndimage', 'cameras').label(valid)
    connected: NDArray[np.bool_] = regions == regions[rows[nearest], columns[nearest]]
    return connected


def _source_pixels(lens: Lens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) u and v in the raw image of each pixel of the pinhole image of the same size."""
    cv2 = import_extra('cv2', 'cameras')
    make = cv2 if lens.model == 'polynomial' else cv2.fisheye
    columns, rows = make.initUndistortRectifyMap(
        _matrix(lens.matrix),
        np.array(lens.coefficients),
        _matrix(lens.rotation),
        _matrix(lens.rectified_matrix),
        lens.image_size[::-1],
        cv2.CV_32FC1,
    )
    return columns, rows


def _seen(
    columns: NDArray[np.float32], rows: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """(H, W), which pixels of the pinhole image lie in the raw image, to half a pixel.

    Where the map turns the image over, the determinant of its derivative being negative, the
    polynomial is used beyond the angles for which it was fitted.
    """
    height, width = size
    inside = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5) & (rows <= height - 0.5)
    columns_down, columns_right = _gradient(columns)
    rows_down, rows_right = _gradient(rows)
    with np.errstate(all='ignore'):  # far outside the numbers may be infinite
        upright = columns_right * rows_down > columns_down * rows_right
    seen: NDArray[np.bool_] = inside & upright
    return seen


def _gradient(values: NDArray[np.float32]) -> list[NDArray[Any]]:
    with np.errstate(all='ignore'):
        return list(np.gradient(values))


def _matrix(numbers: Numbers) -> NDArray[np.float64]:
    return np.array(numbers, dtype=np.float64).reshape(3, 3)
