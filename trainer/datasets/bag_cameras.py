# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cameras of a bag: which topics belong together, pinhole matrices, and decoding of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bag import CAMERA_INFO, COMPRESSED_IMAGE, Bag
from reldistill_ros.core.errors import InputError
from trainer.datasets.images import check_size, read_rgb

IMAGE = 'sensor_msgs/msg/Image'
# Encoding of sensor_msgs/Image -> number of channels and their order as R G B
ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    'rgb8': (3, (0, 1, 2)),
    'bgr8': (3, (2, 1, 0)),
    'mono8': (1, (0, 0, 0)),
}


@dataclass(frozen=True)
class BagCamera:
    """A camera of a bag.

    Attributes:
        name: namespace of its topics, `/` replaced by `_`, such as `camera_front`.
        topic: topic of its images.
        frame: optical coordinate frame.
        intrinsics: (3, 3) float64.
        image_size: height and width that the intrinsics are meant for.
    """

    name: str
    topic: str
    frame: str
    intrinsics: NDArray[np.float64]
    image_size: tuple[int, int]


def find_cameras(
    bag: Bag, names: tuple[str, ...] | None, image_topics: tuple[str, ...]
) -> tuple[BagCamera, ...]:
    """Find the cameras of a bag by the types of its topics.

    An image topic belongs to the CameraInfo topic whose namespace it lies in.

    Args:
        bag: an open bag.
        names: cameras to use, None for all.
        image_topics: which image topic to take of a camera that has several.

    Raises:
        InputError: a named camera does not exist, a camera has several image topics, or its
            CameraInfo cannot be used.
    """
    info_topics = {camera_name(topic): topic for topic in bag.topics_of(CAMERA_INFO)}
    images: dict[str, list[str]] = {}
    for topic in (*bag.topics_of(COMPRESSED_IMAGE), *bag.topics_of(IMAGE)):
        owners = [name for name, info in info_topics.items() if topic.startswith(_namespace(info))]
        if owners:  # of nested namespaces the innermost
            owner = max(owners, key=lambda name: len(_namespace(info_topics[name])))
            images.setdefault(owner, []).append(topic)
    selected = sorted(images) if names is None else names
    missing = sorted({*selected} - {*images})
    if missing:
        raise InputError(
            'the bag does not have the cameras that the settings name',
            where=bag.path,
            expected=missing,
            got=sorted(images) or 'no image topic beside a CameraInfo topic',
            fix='change `cameras` in the settings',
        )
    return tuple(
        _read_camera(bag, name, info_topics[name], _choose(bag, name, images[name], image_topics))
        for name in selected
    )


def camera_name(info_topic: str) -> str:
    """Name of the camera of a CameraInfo topic."""
    return _namespace(info_topic).strip('/').replace('/', '_') or 'camera'


def decode_image(message: Any, camera: BagCamera, where: str) -> NDArray[np.uint8]:
    """Decode an Image (rgb8, bgr8, mono8) or a CompressedImage (JPEG, PNG).

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: other encoding, incomplete data, or not the size of the CameraInfo.
    """
    if hasattr(message, 'encoding'):
        image = _decode_raw(message, where)
    else:
        image = read_rgb(bytes(message.data), where)
    check_size(image, camera.image_size, f'{where}, CameraInfo of {camera.name}')
    return image


def read_intrinsics(info: Any, is_rectified: bool, where: str) -> NDArray[np.float64]:
    """Pinhole matrix (3, 3): the left part of P for rectified images, else K.

    Raises:
        InputError: not calibrated, or the images are distorted.
    """
    projection = np.array(info.p, dtype=np.float64).reshape(3, 4)
    matrix = projection[:, :3] if is_rectified else np.array(info.k, np.float64).reshape(3, 3)
    if not matrix[0, 0] > 0 or not matrix[1, 1] > 0:
        raise InputError(
            'the camera is not calibrated', where=where, got=matrix.tolist(), fix='calibrate it'
        )
    if not is_rectified and np.any(info.d):
        raise InputError(
            'distorted images are not supported yet',
            where=where,
            expected='a rectified image topic, or distortion coefficients of zero',
            got=f'{info.distortion_model} {list(info.d)}',
            fix='rectify the images with image_proc and record image_rect',
        )
    if is_rectified and np.any(projection[:, 3]):
        raise InputError(
            'the second camera of a stereo pair is not supported yet',
            where=where,
            expected='a matrix P whose last column is zero',
            got=projection.tolist(),
            fix='leave the camera out of `cameras` in the settings',
        )
    return matrix


def _namespace(topic: str) -> str:
    """Topic without its last name, with the slash."""
    return topic.rsplit('/', maxsplit=1)[0] + '/'


def _choose(bag: Bag, name: str, topics: list[str], image_topics: tuple[str, ...]) -> str:
    """The named topic of a camera, or the only one."""
    chosen = [topic for topic in topics if topic in image_topics] or topics
    if len(chosen) > 1:
        raise InputError(
            'the camera has several image topics',
            where=f'{bag.path}: {name}',
            got=chosen,
            fix='name one of them in `image_topics` of the settings',
        )
    return chosen[0]


def _read_camera(bag: Bag, name: str, info_topic: str, topic: str) -> BagCamera:
    """Camera from the first CameraInfo of the bag."""
    info = next((message for _, message in bag.messages(info_topic)), None)
    if info is None:
        raise InputError('the bag has no CameraInfo of the camera', where=info_topic)
    where = f'{bag.path}: {info_topic}'
    # by ROS custom the names are image_rect, image_rect_color, image_rect/compressed
    is_rectified = 'rect' in topic.removeprefix(_namespace(info_topic))
    return BagCamera(
        name=name,
        topic=topic,
        frame=info.header.frame_id,
        intrinsics=read_intrinsics(info, is_rectified, where),
        image_size=(int(info.height), int(info.width)),
    )


def _decode_raw(message: Any, where: str) -> NDArray[np.uint8]:
    """Pixels of a sensor_msgs/Image; rows may be padded."""
    if message.encoding not in ENCODINGS:
        raise InputError(
            'the encoding of the image is not supported yet',
            where=where,
            expected=list(ENCODINGS),
            got=message.encoding,
            fix='record the images compressed, or convert them',
        )
    num_channels, order = ENCODINGS[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(bytes(message.data), dtype=np.uint8)
    if step < width * num_channels or len(data) < height * step:
        raise InputError(
            'the image is shorter than its size says',
            where=where,
            expected=f'{height} rows of {max(step, width * num_channels)} bytes',
            got=f'{len(data)} bytes in rows of {step}',
        )
    rows = data[: height * step].reshape(height, step)[:, : width * num_channels]
    return np.ascontiguousarray(rows.reshape(height, width, num_channels)[:, :, order])
