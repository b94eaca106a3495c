# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A ROS 2 bag (MCAP or sqlite3) as a data set: clouds, the images nearest in time, labels.

A cloud is taken to stand in the lidar frame at its stamp; it is not freed from the motion during
the sweep, as it is not on the robot. An image that is far from the sweep in time, or without a
pose around its time, is left out; a warning tells how many when the bag is opened.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.bag import Bag, BagEntry, open_bag
from reldistill_ros.bag_topics import find_lidar_topics, read_label_names, read_labels
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from reldistill_ros.point_cloud import read_points, read_times
from trainer.datasets.bag_cameras import BagCamera, decode_image, find_cameras
from trainer.datasets.bag_topics import read_tf
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import (
    SweepRange,
    Sweeps,
    check_points,
    select_sweeps,
)

LOGGER = logging.getLogger(__name__)


class RosbagSettings(Settings):
    """One bag. Topics that are not named are found by their types.

    Attributes:
        path: folder of the bag, or one `.mcap` or `.db3` file, relative to the data root.
        intensity_max: largest raw intensity of the lidar's driver, often 1, 100 or 255.
        label_maps: folder with the maps of a 2D network, one folder per camera in it, files
            named after the image's stamp in nanoseconds; relative to the data root.
        cameras: which cameras are read: the namespaces of their topics, `/` replaced by `_`;
            all where absent.
        sweeps: which sweeps are read, counted from 0 in order of time.
        lidar_topic: a PointCloud2 with x, y, z.
        label_topic: a PointCloud2 with the single field `label`, same stamps and sizes.
        label_info_topic: a String with the JSON `{"class_names": [...]}`; `label_info` beside
            the label topic where absent.
        image_topics: which image topic to take of a camera that has several.
        max_time_difference: between sweep and image, in seconds.
    """

    format: Literal['rosbag']
    path: Path
    intensity_max: float = Field(gt=0)
    label_maps: Path | None = None
    cameras: tuple[str, ...] | None = None
    sweeps: Sweeps = SweepRange()
    lidar_topic: str | None = None
    label_topic: str | None = None
    label_info_topic: str | None = None
    image_topics: tuple[str, ...] = ()
    max_time_difference: float = Field(default=0.1, ge=0)


class Rosbag:
    """Implements `Dataset`; messages are read when they are asked for.

    It can be sent to another process, which then opens the bag for itself.

    Args:
        settings: which bag.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: the bag cannot be read, or topics are missing or ambiguous.
    """

    name = 'rosbag'

    def __init__(self, settings: RosbagSettings, data_root: Path) -> None:
        self.intensity_max = settings.intensity_max
        self._settings = settings
        self._path = data_root / settings.path
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        self._files = ExitStack()
        self._bag: Bag | None = None
        self._process = 0
        bag = self._open()
        topics = find_lidar_topics(bag, settings.lidar_topic, settings.label_topic)
        clouds = bag.index(topics.points)
        selected = select_sweeps(settings.sweeps, {topics.points: range(len(clouds))}, self._path)
        self._clouds = [clouds[number] for number in selected]
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{cloud.stamp_ns}' for cloud in self._clouds
        )
        self._labels = {}
        self.label_names: tuple[str, ...] = ()
        if topics.labels is not None:
            self._labels = {entry.stamp_ns: entry for entry in bag.index(topics.labels)}
            self.label_names = read_label_names(bag, topics.labels, settings.label_info_topic)
        self._cameras = find_cameras(bag, settings.cameras, settings.image_topics)
        self._images = {camera.name: bag.index(camera.topic) for camera in self._cameras}
        self._tf = read_tf(bag)
        self._tell_missing_images(bag.read(self._clouds[0]).header.frame_id)

    def __len__(self) -> int:
        return len(self._clouds)

    def __getitem__(self, index: int) -> Sample:
        entry = self._clouds[index]
        sample_id = self.sample_ids[index]
        message = self._open().read(entry)
        points = read_points(message, self.intensity_max)
        check_points(points, sample_id)
        images = (
            self._read_image(camera, entry.stamp_ns, message.header.frame_id)
            for camera in self._cameras
        )
        return Sample(
            sample_id=sample_id,
            stamp_ns=entry.stamp_ns,
            points=points,
            times=read_times(message),
            images=tuple(image for image in images if image is not None),
            labels=self._read_labels(entry.stamp_ns, len(points)) if self._labels else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_bag': None, '_files': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _files=ExitStack())

    def close(self) -> None:
        """Close the bag; it opens again when it is asked for a sweep."""
        self._files.close()
        self._bag = None

    def _open(self) -> Bag:
        """The bag, opened by this process: a fork would share the position in the file."""
        if self._bag is None or self._process != os.getpid():
            self._files = ExitStack()
            self._bag = self._files.enter_context(open_bag(self._path))
            self._process = os.getpid()
        return self._bag

    def _read_labels(self, stamp_ns: int, num_points: int) -> NDArray[np.uint8]:
        """(N,) uint8 of the cloud with the same stamp."""
        where = f'{self._path}: the cloud of {stamp_ns} ns'
        if stamp_ns not in self._labels:
            raise InputError('the cloud has no labels with the same stamp', where=where)
        message = self._open().read(self._labels[stamp_ns])
        return read_labels(message, num_points, where)

    def _read_image(self, camera: BagCamera, stamp_ns: int, frame: str) -> CameraImage | None:
        """Image nearest in time, None where none is near or the car's motion is unknown."""
        entry = self._find_image(camera, stamp_ns)
        if entry is None:
            return None
        camera_from_lidar = self._tf.transform(camera.frame, entry.stamp_ns, frame, stamp_ns)
        if camera_from_lidar is None:
            return None
        class_map = confidence = None
        if self._label_maps is not None:
            class_map, confidence = read_label_maps(
                self._label_maps / camera.name, str(entry.stamp_ns)
            )
        return CameraImage(
            camera=camera.name,
            image_id=f'{self._settings.path.as_posix()}/{camera.name}/{entry.stamp_ns}',
            image=decode_image(self._open().read(entry), camera, f'{self._path}: {entry}'),
            intrinsics=camera.intrinsics,
            camera_from_lidar=camera_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )

    def _find_image(self, camera: BagCamera, stamp_ns: int) -> BagEntry | None:
        """Where the image nearest in time stands, None where none is near enough."""
        entry = nearest(self._images[camera.name], stamp_ns)
        limit_ns = round(self._settings.max_time_difference * 1e9)
        return None if entry is None or abs(entry.stamp_ns - stamp_ns) > limit_ns else entry

    def _tell_missing_images(self, frame: str) -> None:
        """Warn of the sweeps that come without an image of a camera."""
        stamps = [cloud.stamp_ns for cloud in self._clouds]
        for camera in self._cameras:
            images = {stamp: self._find_image(camera, stamp) for stamp in stamps}
            found = {stamp: entry for stamp, entry in images.items() if entry is not None}
            placed = sum(
                self._tf.knows(camera.frame, entry.stamp_ns, frame, stamp)
                for stamp, entry in found.items()
            )
            if placed < len(images):
                LOGGER.warning(
                    f'{self._path}: {len(images) - placed} of {len(images)} sweeps come without '
                    f'an image of {camera.name}: {len(images) - len(found)} have none within '
                    f'{self._settings.max_time_difference} s, {len(found) - placed} have one '
                    'but no /tf around its time'
                )


def nearest(entries: list[BagEntry], stamp_ns: int) -> BagEntry | None:
    """Entry nearest in time of entries in order of time, None of none."""
    after = bisect_left(entries, stamp_ns, key=lambda entry: entry.stamp_ns)
    around = entries[max(after - 1, 0) : after + 1]
    return min(around, key=lambda entry: abs(entry.stamp_ns - stamp_ns), default=None)
