# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pixels of sensor_msgs/Image and sensor_msgs/CompressedImage, whatever the camera's driver wrote.

16-bit images keep their upper byte, whatever their darkest and brightest pixel, so that one object
looks the same in all images of a drive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.images import as_rgb, check_num_pixels, read_pixels, upper_byte
from reldistill_ros.core.errors import InputError, import_extra

Order = tuple[int, ...]
# Encoding of sensor_msgs/Image without Bayer -> number of channels, their order as R G B, bits
ENCODINGS: Mapping[str, tuple[int, Order, int]] = {
    f'{name}{bits}': (channels, order, bits)
    for bits in (8, 16)
    for name, channels, order in (
        ('rgb', 3, (0, 1, 2)),
        ('bgr', 3, (2, 1, 0)),
        ('rgba', 4, (0, 1, 2)),
        ('bgra', 4, (2, 1, 0)),
        ('mono', 1, (0, 0, 0)),
    )
} | {'8UC1': (1, (0, 0, 0), 8), '8UC3': (3, (2, 1, 0), 8)}  # OpenCV's names
BAYER_PATTERNS = ('rggb', 'bggr', 'gbrg', 'grbg')
BAYER = {f'bayer_{pattern}{bits}': bits for pattern in BAYER_PATTERNS for bits in (8, 16)}
# of compressed images; pillow reads many more, some by starting other programs
FORMATS = ('JPEG', 'PNG', 'WEBP')
DEPTH_ENCODINGS = ('16UC1', '32FC1')  # REP 118: distances, not colours


def decode_raw(message: Any, where: object) -> NDArray[np.uint8]:
    """Pixels of a sensor_msgs/Image; rows may be padded.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: other encoding, or fewer bytes than the size says.
    """
    encoding = str(message.encoding)
    if encoding in BAYER:
        return demosaic(_read_rows(message, 1, BAYER[encoding], where)[:, :, 0], encoding)
    if encoding not in ENCODINGS:
        raise _unknown_encoding(encoding, where)
    num_channels, order, bits = ENCODINGS[encoding]
    pixels = _read_rows(message, num_channels, bits, where)[:, :, order]
    return np.ascontiguousarray(upper_byte(pixels))


def decode_image(message: Any, where: object, max_pixels: int) -> NDArray[np.uint8]:
    """Pixels of an Image or a CompressedImage from anywhere, see `decode_raw`.

    Raises:
        InputError: see there; or the image has more than `max_pixels`, which is found before
            memory is allocated for them.
    """
    if hasattr(message, 'encoding'):
        check_num_pixels((int(message.height), int(message.width)), max_pixels, where)
        return decode_raw(message, where)
    return decode_compressed(message, where, max_pixels)


def decode_compressed(
    message: Any, where: object, max_pixels: int | None = None
) -> NDArray[np.uint8]:
    """Pixels of a sensor_msgs/CompressedImage: a JPEG, PNG or WebP file.

    `image_transport` writes the encoding before compression first, as in
    `bayer_rggb8; jpeg compressed`: a grey file then holds the pattern, a coloured one does not.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: not a complete image, or a depth image.
    """
    if is_depth(message):
        raise _unknown_encoding(message.format, where)
    pixels = read_pixels(bytes(message.data), where, max_pixels=max_pixels, formats=FORMATS)
    encoding = str(message.format).partition(';')[0].strip()
    if encoding in BAYER and pixels.ndim == 2:
        return demosaic(pixels, encoding)
    return as_rgb(pixels)


def is_depth(message: Any) -> bool:
    """Whether an Image or a CompressedImage holds distances."""
    if hasattr(message, 'encoding'):
        return message.encoding in DEPTH_ENCODINGS
    encoding, _, compression = str(message.format).partition(';')
    return 'compressedDepth' in compression or encoding.strip() in DEPTH_ENCODINGS


def demosaic(pattern: NDArray[Any], encoding: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a Bayer pattern (H, W) uint8 or uint16, interpolated linearly."""
    cv2 = import_extra('cv2', 'cameras')
    name = encoding.removeprefix('bayer_').rstrip('0123456789').upper()
    return upper_byte(cv2.cvtColor(pattern, getattr(cv2, f'COLOR_Bayer{name}2RGB')))


def _read_rows(message: Any, num_channels: int, bits: int, where: object) -> NDArray[Any]:
    """(H, W, channels) uint8 or uint16 of native byte order, without the ends of the rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    pixel = num_channels * bits // 8
    if not height * width:
        raise InputError('the image has no pixels', where=where, got=f'{width} x {height}')
    if step < width * pixel or len(message.data) < height * step:
        raise InputError(
            'the image is shorter than its size says',
            where=where,
            expected=f'{height} rows of {max(step, width * pixel)} bytes',
            got=f'{len(message.data)} bytes in rows of {step}',
        )
    order = '>' if message.is_bigendian else '<'
    rows: NDArray[Any] = np.ndarray(
        (height, width, num_channels),
        np.dtype(f'{order}u{bits // 8}'),
        buffer=memoryview(message.data),
        strides=(step, pixel, bits // 8),
    )
    return rows.astype(f'u{bits // 8}')


def _unknown_encoding(encoding: str, where: object) -> InputError:
    return InputError(
        'the encoding of the image is not supported yet',
        where=where,
        expected=[*ENCODINGS, *BAYER, 'or a CompressedImage with a JPEG or PNG'],
        got=encoding,
        fix='record the images compressed, or convert them',
    )
