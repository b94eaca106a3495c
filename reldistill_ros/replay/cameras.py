# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which cameras of a bag the node is to look through, and how it is told so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reldistill_ros.bags.bag import COMPRESSED_IMAGE, Bag
from reldistill_ros.bags.camera_topics import ImageTopics, group_image_topics, is_rectified
from reldistill_ros.core.errors import InputError

ALL = 'all'


@dataclass(frozen=True)
class PlayedCamera:
    """A camera of the bag.

    Attributes:
        name: as the node calls it.
        image: topic of its images.
        info: topic of its CameraInfo.
        transport: `raw` or `compressed`.
        is_rectified: whether its images are.
    """

    name: str
    image: str
    info: str
    transport: str
    is_rectified: bool


def choose_cameras(bag: Bag, wanted: str) -> tuple[PlayedCamera, ...]:
    """Find cameras by the names and types of the bag's topics.

    Args:
        bag: an open bag.
        wanted: `all` that have a CameraInfo; or names of cameras and of image topics, parted by
            commas.

    Raises:
        InputError: no such camera, or none at all, or several image topics to choose from.
    """
    found = group_image_topics(bag)
    if wanted != ALL:
        return tuple(_find(bag, found, word.strip()) for word in wanted.split(','))
    with_info = [name for name, topics in found.items() if topics.info]
    if not with_info:
        raise InputError(
            'the bag has no camera',
            where=bag.path,
            expected='image topics, and a CameraInfo in the same namespace',
            got={name: list(topics.topics) for name, topics in found.items()} or 'no images',
            fix='leave out --cameras',
        )
    return tuple(_find(bag, found, name) for name in sorted(with_info))


def camera_arguments(cameras: Sequence[PlayedCamera]) -> list[str]:
    """What the node is given after `--ros-args`."""
    parameters = [f'cameras:=[{",".join(camera.name for camera in cameras)}]']
    remaps = []
    for camera in cameras:
        prefix = f'camera.{camera.name}'
        parameters.append(f'{prefix}.transport:={camera.transport}')
        parameters.append(f'{prefix}.is_rectified:={str(camera.is_rectified).lower()}')
        remaps.append(f'~/input/{camera.name}/image:={camera.image}')
        remaps.append(f'~/input/{camera.name}/camera_info:={camera.info}')
    return [
        *(word for parameter in parameters for word in ('-p', parameter)),
        *(word for remap in remaps for word in ('-r', remap)),
    ]


def _find(bag: Bag, found: dict[str, ImageTopics], word: str) -> PlayedCamera:
    """A camera by its name or by one of its image topics."""
    owners = [name for name, topics in found.items() if word == name or word in topics.topics]
    if not owners:
        raise InputError(
            'the bag has no such camera',
            where=f'--cameras: {word!r}',
            expected=f'all, or some of {", ".join(sorted(found)) or "none"}, or image topics',
            got={name: list(topics.topics) for name, topics in found.items()} or 'no images',
        )
    name, topics = owners[0], found[owners[0]]
    images = (word,) if word in topics.topics else topics.topics
    if len(images) > 1:
        raise InputError(
            'the camera has several image topics',
            where=f'{bag.path}: {name}',
            got=list(images),
            fix=f'name one of them: --cameras {images[0]}',
        )
    if topics.info is None:
        raise InputError(
            'the images have no CameraInfo', where=f'{bag.path}: {images[0]}', fix='record it'
        )
    return PlayedCamera(
        name,
        images[0],
        topics.info,
        'compressed' if bag.topics[images[0]] == COMPRESSED_IMAGE else 'raw',
        is_rectified(images[0], topics.info),
    )
