# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Everything that `python -m trainer.inspect` finds out about a bag."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag import CAMERA_INFO, Bag, open_bag
from reldistill_ros.bags.bag_topics import find_lidar_topics
from reldistill_ros.bags.camera_topics import camera_name
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import parse_settings
from trainer.datasets.bag_topics import describe_topics
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.datasets.sample import Sample
from trainer.inspect.cameras import CameraFacts, Picture, measure_cameras
from trainer.inspect.hints import (
    Hindrance,
    hints_of_cameras,
    hints_of_motion,
    hints_of_points,
    hints_of_topics,
)
from trainer.inspect.points import CloudFacts, measure_clouds
from trainer.inspect.topics import (
    EdgeFacts,
    MotionFacts,
    TopicFacts,
    measure_edges,
    measure_motion,
    measure_topics,
)
from trainer.pairing import PairingSettings, sweeps_to_check

READER_LOGGER = 'trainer.datasets'


@dataclass(frozen=True)
class DriveFacts:
    """What a bag gives as a data set.

    Attributes:
        num_sweeps: of the drive.
        motion: of the car.
        cameras: that are used.
    """

    num_sweeps: int
    motion: MotionFacts
    cameras: list[CameraFacts]


@dataclass(frozen=True)
class Inspection:
    """What was found in a bag.

    Attributes:
        path: of the bag.
        topics: all of them, those that are used first.
        edges: transforms between coordinate frames.
        clouds: of the first lidar, None where no cloud can be read.
        drive: None where it cannot be opened.
        hindrances: what to do before training, first what stops it.
        settings: the lines for `train:` of a run.
        pictures: of each camera, the points drawn over an image.
    """

    path: str
    topics: list[TopicFacts]
    edges: list[EdgeFacts]
    clouds: CloudFacts | None
    drive: DriveFacts | None
    hindrances: list[Hindrance]
    settings: dict[str, Any]
    pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def can_be_trained(self) -> bool:
        return not any(hindrance.stops for hindrance in self.hindrances)


def inspect_bag(values: Mapping[str, Any], data_root: Path) -> Inspection:
    """Look into a bag.

    Args:
        values: keys of `RosbagSettings`; `format` and `intensity_max` may be missing.
        data_root: folder that its paths are relative to.

    Raises:
        InputError: the bag cannot be read at all, or the settings are not valid.
    """
    settings = _parse(values)
    problems: list[Hindrance] = []
    with open_bag(*(data_root / path for path in settings.paths)) as bag:
        clouds = _look_at_clouds(bag, settings, problems)
        edges = measure_edges(bag)
        chosen = _with_suggestions(values, clouds)
        settings = _parse(chosen)
        dataset = _open(settings, data_root, problems)
        topics = measure_topics(bag, describe_topics(bag, _uses(bag, dataset)))
    problems += hints_of_topics(topics)
    if clouds is not None:
        problems += hints_of_points(clouds, settings)
    drive: DriveFacts | None = None
    pictures: dict[str, Picture] = {}
    if dataset is not None:
        drive, pictures = _look_at_drive(dataset, settings, problems)
        if not any(problem.stops for problem in problems):
            problems += hints_of_cameras(drive.cameras, clouds.num_points if clouds else 0)
    problems.sort(key=lambda problem: not problem.stops)
    return Inspection(settings.name, topics, edges, clouds, drive, problems, chosen, pictures)


def _parse(values: Mapping[str, Any]) -> RosbagSettings:
    known = {'format': 'rosbag', **values}
    if 'preset' not in known:  # which may say how bright the points are
        known.setdefault('intensity_max', 1.0)
    return parse_settings(known, RosbagSettings, 'the settings of the bag')


def _with_suggestions(values: Mapping[str, Any], clouds: CloudFacts | None) -> dict[str, Any]:
    """The settings for training: what was given, and what was found where that was left out."""
    chosen = {'format': 'rosbag', 'path': values['path']}
    if clouds is not None and 'preset' not in values:
        bright = clouds.intensity
        chosen['intensity_max'] = 1.0 if bright is None else bright.suggested_max
        if bright is None:
            chosen['intensity'] = 'absent'
    return {**chosen, **values}


def _uses(bag: Bag, dataset: Rosbag | None) -> dict[str, str]:
    """What the topics are used for, and why."""
    if dataset is None:
        return {}
    infos = {camera_name(topic): topic for topic in bag.topics_of(CAMERA_INFO)}
    names = [camera.name for camera in dataset.cameras if camera.name in infos]
    return {**dataset.uses, **{infos[name]: f'calibration of {name}' for name in names}}


def _look_at_clouds(
    bag: Bag, settings: RosbagSettings, problems: list[Hindrance]
) -> CloudFacts | None:
    """The first lidar's clouds; what is wrong with them is added to the problems."""
    first = next(iter(settings.lidar_topics), None)
    try:
        topics = find_lidar_topics(bag, first, settings.label_topic)
        return measure_clouds(bag, topics.points)
    except InputError as error:
        problems.append(_problem(error))
        return None


def _open(settings: RosbagSettings, data_root: Path, problems: list[Hindrance]) -> Rosbag | None:
    """The drive, without cameras if they cannot be used; what is wrong is added."""
    without: dict[str, Any] = {'cameras': (), 'calibrations': {}}
    for attempt in (settings, settings.model_copy(update=without)):
        try:
            with _warnings() as warnings:
                dataset = Rosbag(attempt, data_root)
        except InputError as error:
            if _problem(error) not in problems:
                problems.append(_problem(error))
        else:
            problems += [Hindrance(False, warning, '') for warning in warnings]
            return dataset
    return None


def _look_at_drive(
    dataset: Rosbag, settings: RosbagSettings, problems: list[Hindrance]
) -> tuple[DriveFacts, dict[str, Picture]]:
    """Motion and cameras; what is wrong is added to the problems."""
    samples = _read_samples(dataset, problems)
    limit = settings.max_time_difference
    cameras, pictures = measure_cameras(dataset, samples, PairingSettings(), limit)
    drive = DriveFacts(len(dataset), measure_motion(dataset), cameras)
    problems += hints_of_motion(drive.motion, drive.num_sweeps, cameras)
    return drive, pictures


def _read_samples(dataset: Rosbag, problems: list[Hindrance]) -> list[Sample]:
    """A few sweeps all over the drive; those that cannot be read are added to the problems."""
    samples = []
    for number in sweeps_to_check(dataset):
        try:
            samples.append(dataset[number])
        except InputError as error:
            problems.append(_problem(error))
    return samples


def _problem(error: InputError) -> Hindrance:
    """What an error says, its last line being what to do."""
    what, _, fix = str(error).partition('\n  to do: ')
    return Hindrance(True, what, fix)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the readers warn of, which would be shown on the error stream otherwise."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger, collector = logging.getLogger(READER_LOGGER), Collector(logging.WARNING)
    propagate = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
