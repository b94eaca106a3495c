# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Decoding images with pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra


def read_rgb(source: Path | bytes, where: object) -> NDArray[np.uint8]:
    """Decode a colour or grey image.

    Args:
        source: an image file, or its content.
        where: the image, for the error.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: no such file, or not a complete image.
    """
    return _decode(source, 'RGB', where)


def read_grey(source: Path, where: object) -> NDArray[np.uint8]:
    """Read the numbers of an 8-bit image with one channel, unchanged.

    Returns:
        (H, W) uint8; of a palette image, the indices.

    Raises:
        InputError: no such file, not a complete image, or not one channel of 8 bits.
    """
    return _decode(source, None, where)


def check_size(image: NDArray[np.uint8], size: tuple[int, int], where: object) -> None:
    """Reject an image that its calibration was not made for: its pixels would be others.

    Args:
        image: (H, W, 3).
        size: height and width by the calibration.
        where: the image, for the error.

    Raises:
        InputError: the sizes differ.
    """
    if image.shape[:2] != size:
        raise InputError(
            'the image and its calibration do not belong together',
            where=where,
            expected=f'height and width {size}',
            got=image.shape[:2],
            fix='use the calibration of the same image stream, and images of their original size',
        )


def _decode(source: Path | bytes, mode: str | None, where: object) -> NDArray[np.uint8]:
    pillow = import_extra('PIL.Image', 'train')
    try:
        with pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if mode is None and image.mode not in ('L', 'P'):
                raise InputError(
                    'the image is not 8 bits with one channel', where=where, got=image.mode
                )
            return np.array(image.convert(mode) if mode else image, dtype=np.uint8)
    except FileNotFoundError as error:
        raise InputError(
            'the image does not exist', where=where, fix='complete the drive, or leave it out'
        ) from error
    except (OSError, SyntaxError, pillow.DecompressionBombError) as error:
        raise InputError('the image cannot be decoded', where=where, got=error) from error
