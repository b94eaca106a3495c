# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A bag (MCAP, sqlite3, ROS 1), or many as one drive, as a data set.

A sweep comes with the images nearest in time, and with labels where there are some. A cloud is
taken to stand in the lidar frame at its stamp; it is not freed from the motion during the sweep,
as it is not on the robot, unless the settings ask for it. An image that is far from the sweep in
time, or without a pose around its time, is left out; a warning tells how many when the bag is
opened.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import TF_MESSAGE, Bag, BagEntry, open_bag
from reldistill_ros.bags.bag_topics import (
    LidarTopics,
    find_lidar_topics,
    read_label_names,
    read_labels,
)
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from trainer.datasets.bag_cameras import BagCamera, decode_image, find_cameras, rectify_map
from trainer.datasets.bag_gaps import (
    check_unique,
    tell_missing,
    tell_repeated,
    tell_standing_still,
)
from trainer.datasets.bag_topics import TopicRow, describe_topics, format_topics
from trainer.datasets.ego_motion import add_ego_motion, read_frames
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.lidars import Lidars, nearest
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import check_points, select_sweeps

LOGGER = logging.getLogger(__name__)


class Rosbag:
    """Implements `Dataset`; messages are read when they are asked for.

    It can be sent to another process, which then opens the bag for itself.

    Args:
        settings: which bags.
        data_root: folder that the settings' paths are relative to.

    Attributes:
        uses: what each used topic is used for, and why it was chosen.
        lidars: those that are read.
        clouds: of the first lidar, one for each sweep.
        cameras: those that are read.
        images: of each camera by its name, in order of time.
        frames: the coordinate frames.
        motion: topic that the motion of the car is taken from, None where there is none.

    Raises:
        InputError: a bag cannot be read, or topics are missing or ambiguous.
    """

    name = 'rosbag'

    def __init__(self, settings: RosbagSettings, data_root: Path) -> None:
        self.intensity_max = settings.intensity_max_of(0)
        self._settings = settings
        self._paths = tuple(data_root / path for path in settings.paths)
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        self._files = ExitStack()
        self._bag: Bag | None = None
        self._process = 0
        bag = self._open()
        first = next(iter(settings.lidar_topics), None)
        topics = find_lidar_topics(bag, first, settings.label_topic)
        self.lidars = Lidars(bag, settings.lidar_topics or (topics.points,), settings)
        self.clouds = self._select_clouds()
        self.sample_ids = tuple(f'{settings.name}/{cloud.stamp_ns}' for cloud in self.clouds)
        self._labels: dict[int, BagEntry] = {}
        self.label_names: tuple[str, ...] = ()
        if topics.labels is not None:
            self._labels = {entry.stamp_ns: entry for entry in bag.index(topics.labels)}
            self.label_names = read_label_names(bag, topics.labels, settings.label_info_topic)
        calibrations = {name: data_root / path for name, path in settings.calibrations.items()}
        self.cameras = find_cameras(
            bag,
            settings.cameras,
            settings.image_topics,
            calibrations,
            rectified_topics=settings.rectified_topics,
        )
        self.images = {camera.name: bag.index(camera.topic) for camera in self.cameras}
        self.frames = read_frames(bag, settings.extrinsics, settings.max_tf_gap)
        self.motion = add_ego_motion(
            bag, self.frames, self.lidars.first.frame, settings.odometry_topic
        )
        if settings.deskew and self.motion is None:
            raise InputError(
                '`deskew` needs the motion of the car',
                where=self._paths[0],
                expected='a frame of /tf that moves, or a nav_msgs/Odometry',
                fix='set `deskew: false`',
            )
        self.uses = self._find_uses(bag, topics, self.motion)
        self._tell(self.motion)

    def __len__(self) -> int:
        return len(self.clouds)

    def __getitem__(self, index: int) -> Sample:
        entry = self.clouds[index]
        sample_id = self.sample_ids[index]
        clouds = self.lidars.read(self._open(), self.frames, entry)
        points, times = map(np.concatenate, zip(*clouds))
        check_points(points, sample_id)
        images = (self._read_image(camera, entry.stamp_ns) for camera in self.cameras)
        labels = None
        if self._labels:
            labels = np.full(len(points), IGNORE_INDEX, dtype=np.uint8)
            num_first = len(clouds[0][0])
            labels[:num_first] = self._read_labels(entry.stamp_ns, num_first)
        return Sample(
            sample_id=sample_id,
            stamp_ns=entry.stamp_ns,
            points=points,
            times=times,
            images=tuple(image for image in images if image is not None),
            labels=labels,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_bag': None, '_files': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _files=ExitStack())

    def describe_topics(self) -> list[TopicRow]:
        """All topics of the bag, and what they are used for."""
        return describe_topics(self._open(), self.uses)

    def close(self) -> None:
        """Close the bag; it opens again when it is asked for a sweep."""
        self._files.close()
        self._bag = None

    def _open(self) -> Bag:
        """The bag, opened by this process: a fork would share what the files remember."""
        if self._bag is None or self._process != os.getpid():
            self._files = ExitStack()
            # at the end of a program, before the modules that closing needs are gone
            weakref.finalize(self, self._files.close)
            self._bag = self._files.enter_context(open_bag(*self._paths))
            self._process = os.getpid()
        return self._bag

    def _select_clouds(self) -> list[BagEntry]:
        """The clouds of the first lidar that the settings select."""
        clouds, topic = self.lidars.first.entries, self.lidars.first.topic
        present = {topic: range(len(clouds))}
        numbers = select_sweeps(self._settings.sweeps, present, self._paths[0])
        selected = [clouds[number] for number in numbers]
        check_unique(selected, numbers, f'{self._paths[0]}: {topic}')
        return selected

    def _read_labels(self, stamp_ns: int, num_points: int) -> NDArray[np.uint8]:
        """(N,) uint8 of the cloud with the same stamp."""
        where = f'{self._paths[0]}: the cloud of {stamp_ns} ns'
        if stamp_ns not in self._labels:
            raise InputError('the cloud has no labels with the same stamp', where=where)
        message = self._open().read(self._labels[stamp_ns])
        return read_labels(message, num_points, where)

    def _read_image(self, camera: BagCamera, stamp_ns: int) -> CameraImage | None:
        """Image nearest in time, None where none is near or the car's motion is unknown."""
        entry = self._find_image(camera.name, stamp_ns)
        if entry is None:
            return None
        lidar_frame = self.lidars.first.frame
        frame_from_lidar = self.frames.transform(
            camera.frame, entry.stamp_ns, lidar_frame, stamp_ns
        )
        if frame_from_lidar is None:
            return None
        class_map = confidence = None
        if self._label_maps is not None:
            folder, stem = self._label_maps / camera.name, str(entry.stamp_ns)
            maps = read_label_maps(folder, stem)
            class_map, confidence = (rectify_map(values, camera) for values in maps)
        return CameraImage(
            camera=camera.name,
            image_id=f'{self._settings.name}/{camera.name}/{entry.stamp_ns}',
            image=decode_image(self._open().read(entry), camera, f'{self._paths[0]}: {entry}'),
            intrinsics=camera.intrinsics,
            camera_from_lidar=camera.camera_from_frame @ frame_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )

    def _find_image(self, camera: str, stamp_ns: int) -> BagEntry | None:
        """Where the image nearest in time stands, None where none is near enough."""
        return nearest(self.images[camera], stamp_ns, self._settings.max_time_difference)

    def _find_uses(self, bag: Bag, topics: LidarTopics, motion: str | None) -> dict[str, str]:
        named = ', named in the settings'
        uses = dict.fromkeys(bag.topics_of(TF_MESSAGE), 'coordinate frames')
        for number, lidar in enumerate(self.lidars.all):
            found = named if self._settings.lidar_topics else ', the clouds with x, y, z'
            uses[lidar.topic] = ('another lidar' if number else 'lidar') + found
        if topics.labels is not None:
            found = named if self._settings.label_topic else ', the clouds with only `label`'
            uses[topics.labels] = 'labels' + found
        for camera in self.cameras:
            found = named if camera.topic in self._settings.image_topics else ', by its namespace'
            uses[camera.topic] = f'images of {camera.name}{found}'
        if motion in bag.topics:
            found = named if self._settings.odometry_topic else ', as /tf holds none'
            uses[str(motion)] = 'motion of the car' + found
        return uses

    def _tell(self, motion: str | None) -> None:
        """Log what was chosen, and warn of what is missing."""
        if LOGGER.isEnabledFor(logging.INFO):
            LOGGER.info('%s:\n%s', self._paths[0], format_topics(self.describe_topics()))
        first, *others = self.lidars.all
        sweeps = [cloud.stamp_ns for cloud in self.clouds]
        sentences: list[str | None] = []
        finders: list[Callable[[int], BagEntry | None]] = []
        for camera in self.cameras:
            finders.append(partial(self._find_image, camera.name))
            placed = partial(self.frames.knows_pairs, camera.frame, first.frame)
            what = f'an image of {camera.name}'
            sentences.append(tell_missing(what, sweeps, finders[-1], placed))
            sentences.append(tell_repeated(self.images[camera.name], f'images of {camera.name}'))
        for lidar in others:
            finders.append(partial(self.lidars.partner, lidar))
            placed = partial(self.frames.knows_pairs, lidar.frame, first.frame)
            what = f'a cloud of {lidar.topic}'
            sentences.append(tell_missing(what, sweeps, finders[-1], placed))
        sentences.append(None if motion else tell_standing_still(sweeps, finders))
        for sentence in filter(None, sentences):
            LOGGER.warning(f'{self._paths[0]}: {sentence}')
