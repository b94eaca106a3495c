# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Random images and CameraInfos for `benchmark.fuzz`."""

from __future__ import annotations

import array
import io
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from reldistill_ros.cameras.image_encodings import BAYER, ENCODINGS
from reldistill_ros.cameras.overlay import OverlayStyle, draw_overlay
from reldistill_ros.cameras.visibility import PairingSettings, find_visible
from reldistill_ros.core.settings import parse_settings
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.settings import CameraSettings

MAX_PIXELS = 20_000
WORDS = Vocabulary(
    version=1,
    name='words',
    classes=tuple(VocabularyClass(name=name, color=(1, 2, 3)) for name in ('car', 'road', '月')),
)
UINT32 = st.integers(0, 40) | st.integers(0, 2**32 - 1) | st.sampled_from([16, 2**31, 2**32 - 1])
HEADERS = st.builds(
    lambda sec, nanosec: SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**32 - 1),
)
DATA = st.binary(max_size=2000) | st.binary(min_size=64, max_size=64).map(lambda data: 30 * data)
SIZE = st.integers(1, 12)
ENCODING = st.sampled_from([*ENCODINGS, *BAYER]) | st.sampled_from(
    ['', '32FC1', '16UC1', 'yuv422', 'bayer_rggb12']
)


def _image(size: tuple[int, int], encoding: str, changes: dict[str, Any]) -> SimpleNamespace:
    """A sensor_msgs/Image that is well-formed but for the changes."""
    num_channels, _, bits = ENCODINGS.get(encoding, (1, (), BAYER.get(encoding, 8)))
    step = size[1] * num_channels * bits // 8
    values = {'height': size[0], 'width': size[1], 'step': step, 'is_bigendian': 0}
    data = array.array('B', bytes(index % 251 for index in range(size[0] * step)))
    return SimpleNamespace(**{**values, 'encoding': encoding, 'data': data, **changes})


def _compressed(size: tuple[int, int], kind: str, damage: list[tuple[int, int]]) -> Any:
    """A sensor_msgs/CompressedImage with some bytes replaced, and cut off at a negative one."""
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), 77, np.uint8)).save(stream, kind)
    data = bytearray(stream.getvalue())
    for place, value in damage:
        if value < 0:
            del data[place % len(data) + 1 :]
        data[place % len(data)] = value % 256
    return SimpleNamespace(format=kind.lower(), data=array.array('B', bytes(data)))


def _with_header(message: Any, header: Any) -> Any:
    message.header = header
    message.header.frame_id = 'front'
    return message


def _info(size: tuple[int, int], changes: dict[str, Any]) -> SimpleNamespace:
    """A sensor_msgs/CameraInfo that is well-formed but for the changes."""
    height, width = size
    k = [10.0, 0.0, width / 2, 0.0, 10.0, height / 2, 0.0, 0.0, 1.0]
    part = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0)
    values = {
        'header': SimpleNamespace(frame_id='front'),
        'height': height,
        'width': width,
        'distortion_model': 'plumb_bob',
        'd': [0.0] * 5,
        'k': k,
        'r': [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        'p': [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
        'binning_x': 0,
        'binning_y': 0,
        'roi': part,
    }
    return SimpleNamespace(**{**values, **changes})


def _numbers(count: int) -> st.SearchStrategy[list[float]]:
    one = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 10.0, 1e-300, 1e300, math.nan])
    return st.lists(one, min_size=count, max_size=count)


SIZES = st.integers(0, 4).flatmap(
    lambda choice: st.just((6, 8)) if choice else st.tuples(SIZE, SIZE)
)


def _changes(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """No change, one, or any number of them."""
    single = st.sampled_from(sorted(values)).flatmap(
        lambda name: st.fixed_dictionaries({name: values[name]})
    )
    return st.just({}) | single | single | st.fixed_dictionaries({}, optional=values)


RAW = st.builds(
    _image,
    SIZES,
    ENCODING,
    _changes(
        {
            'height': UINT32,
            'width': UINT32,
            'step': UINT32,
            'is_bigendian': st.integers(0, 255),
            'data': DATA.map(lambda data: array.array('B', data)),
            'encoding': ENCODING | st.text(max_size=12),
        }
    ),
)
PACKED = st.builds(
    _compressed,
    SIZES,
    st.sampled_from(['PNG', 'PNG', 'JPEG', 'JPEG', 'WEBP', 'WEBP', 'BMP', 'GIF', 'TIFF']),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(-1, 255)), max_size=4),
)
INFOS = st.builds(
    _info,
    SIZES,
    _changes(
        {
            'height': UINT32,
            'width': UINT32,
            'distortion_model': st.sampled_from(['rational_polynomial', 'equidistant', 'fisheye'])
            | st.text(max_size=5),
            'd': st.sampled_from([4, 5, 8, 12, 14]).flatmap(_numbers)
            | st.lists(st.floats(-1, 1), max_size=14),
            'k': _numbers(9),
            'r': _numbers(9),
            'p': _numbers(12),
            'binning_x': UINT32,
            'binning_y': UINT32,
            'roi': st.builds(
                SimpleNamespace, x_offset=UINT32, y_offset=UINT32, height=UINT32, width=UINT32
            ),
        }
    ),
)
IMAGES = st.tuples(
    st.builds(_with_header, RAW | PACKED, HEADERS),
    INFOS,
    st.fixed_dictionaries(
        {}, optional={'is_rectified': st.booleans(), 'is_second': st.booleans()}
    ),
)
SCENE = np.random.default_rng(0).uniform((-3, -3, 0, 0), (3, 3, 9, 1), (60, 4)).astype(np.float32)


def try_image(case: tuple[Any, Any, dict[str, Any]]) -> None:
    """What the node does with an image and a CameraInfo but for the network."""
    message, info, values = case
    camera = Camera('front', parse_settings(values, CameraSettings, 'fuzz'), MAX_PIXELS)
    camera.take_info(info)
    look, image = camera.look(message, keeps_picture=True)
    if image.shape != (*look.image_size, 3) or image.dtype != np.uint8:
        raise AssertionError(image.shape)
    pairs = find_visible(SCENE, look.pinhole(np.eye(4)), PairingSettings())
    class_ids = np.arange(len(pairs)).astype(np.uint8) % 3
    draw_overlay(image, pairs, class_ids, WORDS, OverlayStyle())
