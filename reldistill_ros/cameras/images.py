# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Decoding images with pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra


def read_rgb(source: Path | bytes, where: object) -> NDArray[np.uint8]:
    """Decode a colour or grey image of 8 or 16 bits.

    Args:
        source: an image file, or its content.
        where: the image, for the error.

    Returns:
        (H, W, 3) uint8; of 16 bits the upper byte.

    Raises:
        InputError: no such file, or not a complete image.
    """
    return as_rgb(read_pixels(source, where))


def read_pixels(
    source: Path | bytes,
    where: object,
    *,
    max_pixels: int | None = None,
    formats: tuple[str, ...] | None = None,
) -> NDArray[Any]:
    """Decode an image and leave a grey one as it is.

    Args:
        source: an image file, or its content.
        where: the image, for the error.
        max_pixels: a larger image is refused before memory is allocated for it.
        formats: names of pillow; None for all that it reads.

    Returns:
        (H, W, 3) uint8 of an image in colour, of 16 bits the upper byte; (H, W) uint8 or uint16
        of a grey one.

    Raises:
        InputError: no such file, or not a complete image, or too large.
    """
    with _opened(source, where, formats) as image:
        check_num_pixels((image.height, image.width), max_pixels, where)
        if image.mode == 'L':
            return np.array(image, dtype=np.uint8)
        if image.mode.startswith('I'):  # 16 bits, which pillow's conversion would clip at 255
            return np.array(image).astype(np.uint16)
        return np.array(image.convert('RGB'), dtype=np.uint8)  # of 16 bits the upper byte


def check_num_pixels(size: tuple[int, int], most: int | None, where: object) -> None:
    """Refuse an image by what it says of its size, height and width.

    Raises:
        InputError: it has more pixels than `most`, of which None is no limit.
    """
    if most is not None and size[0] * size[1] > most:
        raise InputError(
            'the image has too many pixels',
            where=where,
            expected=f'at most {most}',
            got=f'height and width {size}',
            fix='raise the parameter max_image_pixels',
        )


def as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of what `read_pixels` gives."""
    grey = upper_byte(pixels)
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def upper_byte(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The upper byte of 16 bits; 8 bits as they are."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def read_grey(source: Path, where: object) -> NDArray[np.uint8]:
    """Read the numbers of an 8-bit image with one channel, unchanged.

    Returns:
        (H, W) uint8; of a palette image, the indices.

    Raises:
        InputError: no such file, not a complete image, or not one channel of 8 bits.
    """
    with _opened(source, where) as image:
        if image.mode not in ('L', 'P'):
            raise InputError(
                'the image is not 8 bits with one channel', where=where, got=image.mode
            )
        return np.array(image, dtype=np.uint8)


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


@contextmanager
def _opened(
    source: Path | bytes, where: object, formats: tuple[str, ...] | None = None
) -> Iterator[Any]:
    """An image of pillow; whatever is wrong with it is told, also while it is decoded."""
    pillow = import_extra('PIL.Image', 'cameras')
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with pillow.open(file, formats=formats) as image:
            yield image
    except FileNotFoundError as error:
        raise InputError(
            'the image does not exist', where=where, fix='complete the drive, or leave it out'
        ) from error
    except InputError:
        raise
    # pillow raises these of damaged files
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise InputError(
            'the image cannot be decoded',
            where=where,
            got=error,
            fix='restore the file, or leave such sweeps out with --allow-missing N',
        ) from error
