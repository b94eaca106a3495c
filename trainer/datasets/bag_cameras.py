# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cameras of a bag: which topics belong together, where they look, and decoding of images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import CAMERA_INFO, Bag
from reldistill_ros.bags.camera_topics import ImageTopics, group_image_topics, is_rectified
from reldistill_ros.cameras.calibration_file import read_calibration_file
from reldistill_ros.cameras.camera_info import Calibration, read_camera_info
from reldistill_ros.cameras.camera_model import make_camera_model
from reldistill_ros.cameras.image_encodings import decode_compressed, decode_raw
from reldistill_ros.cameras.images import check_size
from reldistill_ros.cameras.lens import (
    Lens,
    Rectification,
    find_rectification,
    rectify_classes,
    rectify_image,
)
from reldistill_ros.core.errors import InputError

LOGGER = logging.getLogger(__name__)
NO_CALIBRATIONS: Mapping[str, Path] = {}
LENSES_KEPT = 16  # whose maps a process keeps


@dataclass(frozen=True)
class BagCamera:
    """A camera of a bag.

    Attributes:
        name: namespace of its topics, `/` replaced by `_`, such as `camera_front`.
        topic: topic of its images.
        frame: coordinate frame that the bag places.
        intrinsics: (3, 3) float64 of the rectified image.
        image_size: height and width of its images as they are recorded.
        lens: what the recorded images are rectified by; None where they are pinhole images.
        camera_from_frame: (4, 4) float64, from `frame` to the camera of the rectified image.
    """

    name: str
    topic: str
    frame: str
    intrinsics: NDArray[np.float64]
    image_size: tuple[int, int]
    lens: Lens | None = None
    camera_from_frame: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))


def find_cameras(
    bag: Bag,
    names: tuple[str, ...] | None,
    image_topics: tuple[str, ...],
    calibrations: Mapping[str, Path] = NO_CALIBRATIONS,
    *,
    rectified_topics: tuple[str, ...] = (),
) -> tuple[BagCamera, ...]:
    """Find the cameras of a bag by the types of its topics.

    Images without a CameraInfo are left out with a warning where there are other cameras.

    Args:
        bag: an open bag.
        names: cameras to use, None for all.
        image_topics: which image topic to take of a camera that has several.
        calibrations: files of `camera_calibration` by the name of the camera, for cameras
            without a CameraInfo or with a wrong one.
        rectified_topics: image topics with rectified images whose names do not say so.

    Raises:
        InputError: a named camera does not exist, a camera has several image topics, or its
            calibration is missing or cannot be used.
    """
    found = group_image_topics(bag)
    selected = tuple(sorted(found)) if names is None else names
    missing = sorted(({*selected} | {*calibrations}) - {*found})
    if missing:
        raise InputError(
            'the bag does not have the cameras that the settings name',
            where=bag.path,
            expected=missing,
            got=sorted(found) or 'no image topic',
            fix='change `cameras` or `calibrations` in the settings',
        )
    known = {topic for camera in found.values() for topic in camera.topics}
    if not known.issuperset(image_topics):
        raise InputError(
            'the bag does not have the image topics that the settings name',
            where=bag.path,
            expected=sorted(known) or 'no image topic',
            got=sorted({*image_topics} - known),
            fix='change `image_topics` in the settings',
        )
    without = [name for name in selected if not (found[name].info or name in calibrations)]
    if without and (names is not None or len(without) == len(selected)):
        raise _no_camera_info(bag, {name: found[name] for name in without})
    if without:
        LOGGER.warning(str(_no_camera_info(bag, {name: found[name] for name in without})))
    infos = _CameraInfos(bag, found, calibrations, rectified_topics)
    return tuple(
        infos.camera(name, _choose(bag, name, found[name].topics, image_topics))
        for name in selected
        if name not in without
    )


def decode_image(message: Any, camera: BagCamera, where: str) -> NDArray[np.uint8]:
    """Decode an Image or a CompressedImage, and rectify it.

    Returns:
        (H, W, 3) uint8, RGB, a pinhole image with the camera's intrinsics.

    Raises:
        InputError: unknown encoding, incomplete data, or not the size of the CameraInfo.
    """
    decode = decode_raw if hasattr(message, 'encoding') else decode_compressed
    image = decode(message, where)
    check_size(image, camera.image_size, f'{where}, CameraInfo of {camera.name}')
    return image if camera.lens is None else rectify_image(image, _maps_of(camera.lens))


def rectify_map(values: NDArray[np.uint8], camera: BagCamera) -> NDArray[np.uint8]:
    """A class map or a confidence (h, w) of the recorded image, for the rectified one."""
    return values if camera.lens is None else rectify_classes(values, _maps_of(camera.lens))


@lru_cache(maxsize=LENSES_KEPT)
def _maps_of(lens: Lens) -> Rectification:
    """The maps of a lens, once per process: a camera goes to the workers without them."""
    return find_rectification(lens)


class _CameraInfos:
    """Calibrations of a bag's cameras."""

    def __init__(
        self,
        bag: Bag,
        found: Mapping[str, ImageTopics],
        calibrations: Mapping[str, Path],
        rectified_topics: tuple[str, ...],
    ) -> None:
        self._bag, self._found, self._files = bag, found, calibrations
        self._rectified_topics = rectified_topics
        first = {topic: _find_message(bag, topic) for topic in bag.topics_of(CAMERA_INFO)}
        self._frames = {
            topic: message.header.frame_id
            for topic, message in first.items()
            if message is not None
        }

    def camera(self, name: str, topic: str) -> BagCamera:
        """Camera with the first CameraInfo of the bag, or with its file."""
        info_topic = self._found[name].info
        if name in self._files:
            calibration = read_calibration_file(self._files[name])
            frame, is_second = _first_message(self._bag, topic).header.frame_id, False
        else:
            assert info_topic is not None
            calibration = self._read(info_topic)
            frame, is_second = self._frames[info_topic], self._is_second(info_topic, calibration)
        rectified = topic in self._rectified_topics or is_rectified(topic, info_topic)
        model = make_camera_model(calibration, rectified, is_second, find_maps=_maps_of)
        return BagCamera(
            name=name,
            topic=topic,
            frame=frame,
            intrinsics=model.intrinsics,
            image_size=model.image_size,
            lens=model.lens,
            camera_from_frame=model.camera_from_frame,
        )

    def _read(self, topic: str) -> Calibration:
        return read_camera_info(_first_message(self._bag, topic), f'{self._bag.path}: {topic}')

    def _is_second(self, topic: str, calibration: Calibration) -> bool:
        """Whether this is the second camera of a stereo pair, in the frame of the first.

        By custom both are recorded in the frame of the first, and P says how far the second is
        from it (`image_geometry::StereoCameraModel` relies on it). Drivers that give the second
        one a frame of its own place it by /tf.
        """
        if not calibration.offset.any():
            return False
        frames = [frame for other, frame in self._frames.items() if other != topic]
        if not frames or self._frames[topic] in frames:  # alone, nothing contradicts P
            return True
        LOGGER.warning(
            f'{calibration.where}: P places the camera {np.round(calibration.offset, 3).tolist()} '
            f'm from another one, but no other is in its frame {self._frames[topic]!r}: /tf counts'
        )
        return False


def _find_message(bag: Bag, topic: str) -> Any:
    """First message of a topic, None of none."""
    return next((message for _, message in bag.messages(topic)), None)


def _first_message(bag: Bag, topic: str) -> Any:
    message = _find_message(bag, topic)
    if message is None:
        raise InputError(
            'a topic of a camera has no message',
            where=f'{bag.path}: {topic}',
            fix='record it, or leave the camera out of `cameras` in the settings',
        )
    return message


def _no_camera_info(bag: Bag, cameras: Mapping[str, ImageTopics]) -> InputError:
    example = next(iter(cameras))
    return InputError(
        'images have no CameraInfo',
        where=bag.path,
        expected='a CameraInfo topic in the namespace of the images',
        got={name: list(camera.topics) for name, camera in cameras.items()},
        fix=f'record it, name a file of camera_calibration in the settings, such as '
        f'`calibrations: {{{example}: {example}.yaml}}`, or leave the camera out of `cameras`',
    )


def _choose(bag: Bag, name: str, topics: tuple[str, ...], image_topics: tuple[str, ...]) -> str:
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
