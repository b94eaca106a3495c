# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which image topics of a bag belong to which camera, by their names and types."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reldistill_ros.bags.bag import CAMERA_INFO, COMPRESSED_IMAGE, Bag
from reldistill_ros.cameras.image_encodings import is_depth

IMAGE = 'sensor_msgs/msg/Image'


@dataclass(frozen=True)
class ImageTopics:
    """What a bag has of a camera.

    Attributes:
        topics: topics of its images.
        info: topic of its CameraInfo, or None.
    """

    topics: tuple[str, ...]
    info: str | None


def group_image_topics(bag: Bag) -> dict[str, ImageTopics]:
    """The image topics of a bag by the camera that they belong to.

    An image topic belongs to the CameraInfo topic whose namespace it lies in, of nested ones the
    innermost. Depth images are no cameras.
    """
    infos: dict[str, str] = {}
    for topic in bag.topics_of(CAMERA_INFO):  # of several in a namespace the first
        infos.setdefault(camera_name(topic), topic)
    images: dict[str, list[str]] = {}
    for topic in (*bag.topics_of(COMPRESSED_IMAGE), *bag.topics_of(IMAGE)):
        if not _holds_depth(bag, topic):
            owners = [name for name, info in infos.items() if topic.startswith(_namespace(info))]
            innermost = max(owners, key=lambda name: len(_namespace(infos[name])), default=None)
            images.setdefault(innermost or _name_without_info(topic), []).append(topic)
    return {name: ImageTopics(tuple(topics), infos.get(name)) for name, topics in images.items()}


def camera_name(info_topic: str) -> str:
    """Name of the camera of a CameraInfo topic."""
    return _namespace(info_topic).strip('/').replace('/', '_') or 'camera'


def is_rectified(topic: str, info_topic: str | None) -> bool:
    """Whether a topic holds rectified images.

    By custom the names are `image_rect`, `image_rect_color`, `image_rect/compressed`.
    """
    within = topic.removeprefix(_namespace(info_topic)) if info_topic else topic
    return any(part.startswith('rect') for part in re.split('[/_]', within))


def _namespace(topic: str) -> str:
    """Topic without its last name, with the slash."""
    return topic.rsplit('/', maxsplit=1)[0] + '/'


def _name_without_info(topic: str) -> str:
    """Name of the camera of an image topic without CameraInfo: of its namespace if it has one."""
    base = topic.removesuffix('/compressed')
    return (_namespace(base).strip('/') or base.strip('/')).replace('/', '_')


def _holds_depth(bag: Bag, topic: str) -> bool:
    message = next((message for _, message in bag.messages(topic)), None)
    return message is not None and is_depth(message)
