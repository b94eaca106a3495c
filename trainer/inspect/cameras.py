# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How the cameras of a bag fit its lidar: in time, and by the pairs of points and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.bag_cameras import BagCamera
from trainer.datasets.bag_gaps import count_placed
from trainer.datasets.lidars import nearest
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.sample import Sample
from trainer.pairing import PairingSettings
from trainer.show_pairs import draw_pairs

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class CameraFacts:
    """A camera.

    Attributes:
        name: of the camera.
        topic: of its images.
        frame: coordinate frame that it is placed by.
        recorded_size: width and height of the recorded images.
        rectified_size: width and height of the pinhole images, the same where they are those.
        lens: how the images are rectified.
        horizontal_view: angle in degrees that the pinhole image shows from left to right.
        offset: when the images were taken after their sweeps: 5 %, median, 95 % in milliseconds;
            None where no image is near a sweep.
        sweeps_without: share of the sweeps without an image that is near and placed.
        num_in_view: points of a sweep that lie in the image, mean of the sweeps that were read.
        num_pairs: those of them that the camera sees.
        brightness: mean of the pixels, 0 to 255.
    """

    name: str
    topic: str
    frame: str
    recorded_size: tuple[int, int]
    rectified_size: tuple[int, int]
    lens: str
    horizontal_view: float
    offset: tuple[float, float, float] | None
    sweeps_without: float
    num_in_view: int
    num_pairs: int
    brightness: float


def measure_cameras(
    dataset: Rosbag, samples: Sequence[Sample], pairing: PairingSettings, limit: float
) -> tuple[list[CameraFacts], dict[str, Picture]]:
    """Look at the cameras of a bag.

    Args:
        dataset: the bag.
        samples: sweeps of it to pair.
        pairing: limits of pairs.
        limit: longest time between sweep and image in seconds.

    Returns:
        The facts, and of each camera that has an image the pairs of the middle one drawn over it.
    """
    facts, pictures = [], {}
    for camera in dataset.cameras:
        images = [(s.points, i) for s in samples for i in s.images if i.camera == camera.name]
        drawn = [draw_pairs(points, image, pairing) for points, image in images]
        if drawn:
            pictures[camera.name] = drawn[len(drawn) // 2].picture
        size = images[0][1].image.shape[:2] if images else camera.image_size
        num_pairs = _mean([pairs.num_visible for pairs in drawn])
        facts.append(
            CameraFacts(
                name=camera.name,
                topic=camera.topic,
                frame=camera.frame,
                recorded_size=camera.image_size[::-1],
                rectified_size=(size[1], size[0]),
                lens=_describe_lens(camera),
                horizontal_view=_horizontal_view(camera, size[1]),
                offset=_offsets(dataset, camera, limit),
                sweeps_without=_share_without(dataset, camera, limit),
                num_in_view=round(num_pairs + _mean([pairs.num_hidden for pairs in drawn])),
                num_pairs=round(num_pairs),
                brightness=round(_mean([float(image.image.mean()) for _, image in images]), 1),
            )
        )
    return facts, pictures


def pairs_per_sweep(cameras: Sequence[CameraFacts]) -> int:
    """Pairs of a sweep over all cameras."""
    return sum(camera.num_pairs for camera in cameras)


def _describe_lens(camera: BagCamera) -> str:
    if camera.lens is None:
        return 'pinhole images as recorded'
    coefficients = ' '.join(f'{number:.4g}' for number in camera.lens.coefficients)
    return f'rectified here, {camera.lens.model} {coefficients}'


def _horizontal_view(camera: BagCamera, width: int) -> float:
    focal_length, centre = camera.intrinsics[0, 0], camera.intrinsics[0, 2]
    edges = np.arctan2([centre + 0.5, width - 0.5 - centre], focal_length)
    return round(float(np.degrees(edges.sum())), 1)


def _offsets(
    dataset: Rosbag, camera: BagCamera, limit: float
) -> tuple[float, float, float] | None:
    """5 %, median and 95 % of the times from sweep to image in milliseconds."""
    images = dataset.images[camera.name]
    found = [
        entry.stamp_ns - cloud.stamp_ns
        for cloud in dataset.clouds
        if (entry := nearest(images, cloud.stamp_ns, limit)) is not None
    ]
    if not found:
        return None
    low, median, high = np.quantile(np.array(found) / 1e6, [0.05, 0.5, 0.95])
    return round(float(low), 2), round(float(median), 2), round(float(high), 2)


def _share_without(dataset: Rosbag, camera: BagCamera, limit: float) -> float:
    """Share of the sweeps without an image that is near in time and has a place."""
    stamps = [cloud.stamp_ns for cloud in dataset.clouds]
    _, num_placed = count_placed(
        stamps,
        lambda stamp: nearest(dataset.images[camera.name], stamp, limit),
        partial(dataset.frames.knows_pairs, camera.frame, dataset.lidars.first.frame),
    )
    return round(1.0 - num_placed / len(stamps), 4)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
