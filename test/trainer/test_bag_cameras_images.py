# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Images of a bag in every encoding, as written by a driver and by image_transport."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_bag import compressed, header, make, raw_image

from reldistill_ros.cameras.image_encodings import (
    BAYER,
    ENCODINGS,
    decode_compressed,
    decode_raw,
    is_depth,
)
from reldistill_ros.cameras.images import read_rgb
from reldistill_ros.core.errors import InputError

FRAME = 'optical'
PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[40:160:10, 30:190:10], 90), -1).astype(np.uint8)


def stored(pixels, encoding, big_endian=False):
    """A sensor_msgs/Image of uint8 or uint16 pixels (H, W, C), with padded rows."""
    order = '>' if big_endian else '<'
    as_bytes = pixels.astype(pixels.dtype.newbyteorder(order)).view(np.uint8)
    message = raw_image(0, FRAME, as_bytes.reshape(*pixels.shape[:2], -1), encoding, padding=6)
    return replace(message, is_bigendian=int(big_endian))


def channels_of(encoding):
    """The channels of PIXELS as an encoding orders them."""
    return {
        'rgb': PIXELS,
        'bgr': PIXELS[..., ::-1],
        'rgba': np.dstack([PIXELS, PIXELS[..., 0]]),
        'bgra': np.dstack([PIXELS[..., ::-1], PIXELS[..., 0]]),
        'mono': PIXELS[..., :1],
        '8UC': PIXELS[..., :1] if encoding == '8UC1' else PIXELS[..., ::-1],
    }[encoding.rstrip('13') if encoding.startswith('8UC') else encoding.rstrip('0123456789')]


def bayer(pixels, encoding):
    """(H, W), of each pixel the one channel that a sensor behind the pattern sees."""
    pattern = np.empty(pixels.shape[:2], pixels.dtype)
    for place, color in enumerate(encoding.removeprefix('bayer_')[:4]):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        pattern[rows, columns] = pixels[rows, columns, 'rgb'.index(color)]
    return pattern


def png(pixels, image_format):
    """A CompressedImage of (H, W) or (H, W, 3) RGB pixels of 8 or 16 bits."""
    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    data = np.frombuffer(cv2.imencode('.png', ordered)[1].tobytes(), np.uint8)
    return make(
        'sensor_msgs/msg/CompressedImage',
        header=header(0, FRAME),
        format=image_format,
        data=data,
    )


@pytest.mark.parametrize(
    'encoding', [name for name, (_, _, bits) in ENCODINGS.items() if bits == 8]
)
def test_every_8_bit_encoding_gives_the_same_colours(encoding):
    expected = PIXELS[..., [0, 0, 0]] if encoding in ('mono8', '8UC1') else PIXELS
    image = decode_raw(stored(channels_of(encoding), encoding), 'x')
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('encoding', ['rgb16', 'bgr16', 'rgba16', 'bgra16', 'mono16'])
def test_16_bits_keep_their_upper_byte_in_both_byte_orders(encoding, big_endian):
    deep = (channels_of(encoding).astype(np.uint16) << 8) + 201
    image = decode_raw(stored(deep, encoding, big_endian), 'x')
    expected = PIXELS[..., [0, 0, 0]] if encoding == 'mono16' else PIXELS
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('encoding', BAYER)
def test_bayer_patterns_give_back_the_colours(encoding):
    pattern = bayer(SMOOTH, encoding)[..., None]
    if BAYER[encoding] == 16:
        pattern = pattern.astype(np.uint16) << 8
    for big_endian in (False, True):
        image = decode_raw(stored(pattern, encoding, big_endian), 'x')
        inner = np.abs(image.astype(int) - SMOOTH)[2:-2, 2:-2]
        assert inner.max() <= 1  # linear colours are interpolated exactly


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_files_in_colour_and_grey_are_decoded(kind):
    for pixels, expected in ((SMOOTH, SMOOTH), (SMOOTH[..., 1], SMOOTH[..., [1, 1, 1]])):
        image = decode_compressed(compressed(0, FRAME, pixels, kind), 'x')
        assert np.abs(image.astype(int) - expected).max() <= (0 if kind == 'png' else 12)


def test_png_files_of_16_bits_keep_their_upper_byte(tmp_path):
    deep = (PIXELS.astype(np.uint16) << 8) + 201
    image = decode_compressed(png(deep, 'rgb16; png compressed bgr16'), 'x')
    np.testing.assert_array_equal(image, PIXELS)
    image = decode_compressed(png(deep[..., 0], 'mono16; png compressed '), 'x')
    np.testing.assert_array_equal(image, PIXELS[..., [0, 0, 0]])
    (tmp_path / 'grey.png').write_bytes(bytes(png(deep[..., 0], '').data))
    np.testing.assert_array_equal(read_rgb(tmp_path / 'grey.png', 'x'), PIXELS[..., [0, 0, 0]])


def test_a_compressed_pattern_is_demosaiced_and_a_compressed_colour_image_is_not():
    pattern = bayer(SMOOTH, 'bayer_gbrg8')
    image = decode_compressed(png(pattern, 'bayer_gbrg8; png compressed '), 'x')
    assert np.abs(image.astype(int) - SMOOTH)[2:-2, 2:-2].max() <= 1
    deep = png(pattern.astype(np.uint16) << 8, 'bayer_gbrg16; png compressed ')
    np.testing.assert_array_equal(decode_compressed(deep, 'x'), image)
    image = decode_compressed(png(SMOOTH, 'bayer_rggb8; jpeg compressed bgr8'), 'x')
    np.testing.assert_array_equal(image, SMOOTH)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_a_truncated_file_is_refused_wherever_it_ends(kind):
    whole = compressed(0, FRAME, PIXELS, kind)
    for length in (0, 5, 60, len(whole.data) // 2, len(whole.data) * 9 // 10):
        with pytest.raises(InputError, match=r'(?s)cannot be decoded.*at 3 s'):
            decode_compressed(replace(whole, data=whole.data[:length]), 'at 3 s')


def test_a_raw_image_that_contradicts_itself_is_refused():
    whole = stored(PIXELS, 'rgb8')
    for broken in (
        replace(whole, data=whole.data[:-1]),
        replace(whole, step=16 * 3 - 1),
        replace(whole, encoding='rgba16'),
    ):
        with pytest.raises(InputError, match='shorter than its size'):
            decode_raw(broken, 'x')


@pytest.mark.parametrize('encoding', ['yuv422', 'bayer_rggb32', 'RGB8', ''])
def test_other_encodings_are_refused_with_those_that_are_known(encoding):
    with pytest.raises(InputError, match=r'(?s)not supported.*bgr8.*bayer_rggb8'):
        decode_raw(replace(stored(PIXELS, 'rgb8'), encoding=encoding), 'x')


def test_depth_images_are_told_from_pictures():
    assert is_depth(replace(stored(PIXELS, 'rgb8'), encoding='16UC1'))
    assert is_depth(png(PIXELS[..., 0], '16UC1; compressedDepth png'))
    assert not is_depth(stored(PIXELS, 'rgb8'))
    assert not is_depth(png(PIXELS, 'jpeg'))
    with pytest.raises(InputError, match='not supported'):
        decode_compressed(png(PIXELS[..., 0], '16UC1; compressedDepth png'), 'x')


def test_a_palette_image_keeps_its_colours(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).quantize(16).save(stream, 'png')
    expected = np.array(Image.open(stream).convert('RGB'))
    np.testing.assert_array_equal(read_rgb(stream.getvalue(), 'x'), expected)
