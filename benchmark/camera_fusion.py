# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What cameras cost the label stream, by points, cameras and prompts; see `benchmark.cameras`.

A sweep of random directions around a car, half of it ground, and cameras of 1920 x 1080 all
around; opinions on 37 x 66 patches are random. Times are those of the processor in the one
thread that works, so that other work on the machine does not enter.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.ensemble import Ensemble, EnsembleSettings
from reldistill_ros.cameras.opinions import PatchOpinions
from reldistill_ros.cameras.poll import SpokenView
from reldistill_ros.cameras.transforms import from_quaternion, invert
from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible
from reldistill_ros.core.settings import VoxelSettings
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from reldistill_ros.core.zero_shot import Labels

VOXEL = VoxelSettings(voxel_size=0.1, point_cloud_range=(-60.0, -60.0, -4.0, 60.0, 60.0, 4.0))
IMAGE_SIZE, FOCAL_LENGTH = (1080, 1920), 1200.0
GRID = (37, 66)
FORWARD = (-0.5, 0.5, -0.5, 0.5)  # the optical axes in a frame with x forward and z up
RUNS = 15
# points, cameras, classes, prompts of each
CASES = [
    (points, cameras, *words)
    for words in ((16, 1), (30, 4))
    for points in (35_000, 115_000)
    for cameras in (1, 6)
]


@dataclass(frozen=True, eq=False)
class FusionCase:
    """What is fused.

    Attributes:
        points: (N, 4).
        labels: of the student.
        cameras: how they stand.
        opinions: of each.
        words: K classes.
    """

    points: NDArray[np.float32]
    labels: Labels
    cameras: list[PinholeCamera]
    opinions: list[PatchOpinions]
    words: Vocabulary


def measure_fusion() -> list[dict[str, float]]:
    """Median milliseconds of each stage in each of `CASES`."""
    return [
        {
            'points': points,
            'cameras': cameras,
            'prompts': classes * each,
            **_measure(make_case(points, cameras, words_of(classes, each))),
        }
        for points, cameras, classes, each in CASES
    ]


def make_case(num_points: int, num_cameras: int, words: Vocabulary) -> FusionCase:
    """A case, always the same."""
    rng = np.random.default_rng(0)
    shape = (*GRID, len(words.prompts))
    cosines = [rng.normal(0, 0.1, shape).astype(np.float32) for _ in range(num_cameras)]
    labels = Labels(
        rng.integers(0, len(words.classes), num_points).astype(np.uint8),
        np.full(num_points, 0.5, np.float32),
        np.ones(num_points, np.float32),
    )
    return FusionCase(
        random_sweep(num_points, rng),
        labels,
        [_camera(2 * np.pi * index / num_cameras) for index in range(num_cameras)],
        [PatchOpinions(IMAGE_SIZE, of_camera) for of_camera in cosines],
        words,
    )


def random_sweep(num: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points (N, 4) on the ground 1.8 m below and around, up to 60 m away."""
    azimuth = rng.uniform(-np.pi, np.pi, num)
    elevation = np.radians(rng.uniform(-25, 5, num))
    ground = np.minimum(1.8 / np.maximum(np.sin(-elevation), 1e-3), 60)
    distance = np.where(elevation < -0.02, ground, rng.uniform(5, 60, num))
    flat = distance * np.cos(elevation)
    columns = (flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation))
    return np.stack([*columns, rng.uniform(0, 1, num)], axis=1).astype(np.float32)


def words_of(num_classes: int, prompts: int) -> Vocabulary:
    """Classes with so many prompts each."""
    classes = tuple(
        VocabularyClass(
            name=f'class {k}',
            prompts=tuple(f'word {k} {i}' for i in range(prompts)),
            color=(8 * k, 99, 255 - 8 * k),
        )
        for k in range(num_classes)
    )
    return Vocabulary(version=1, name='random', classes=classes)


def _camera(yaw: float) -> PinholeCamera:
    height, width = IMAGE_SIZE
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix = np.array(
        [[FOCAL_LENGTH, 0, width / 2], [0, FOCAL_LENGTH, height / 2], [0, 0, 1]], np.float64
    )
    pose = turned @ from_quaternion(FORWARD, (0, 0, -0.3))
    return PinholeCamera(IMAGE_SIZE, matrix, invert(pose))


def _measure(case: FusionCase) -> dict[str, float]:
    ensemble = Ensemble(EnsembleSettings(student_weight=1.0), case.words, case.words, VOXEL)
    tables = [ensemble.spoken(opinions.table) for opinions in case.opinions]
    times = []
    for _ in range(RUNS + 1):  # the first one compiles
        stamps = [time.thread_time()]
        pairs = [find_visible(case.points, camera, PairingSettings()) for camera in case.cameras]
        stamps.append(time.thread_time())
        found = [one.at(seen.pixels) for one, seen in zip(case.opinions, pairs)]
        stamps.append(time.thread_time())
        views = [
            SpokenView(seen.point_indices, one.rows, one.weights, one.confidences, table, 0.05)
            for seen, one, table in zip(pairs, found, tables)
        ]
        ensemble(case.points, case.labels, views)
        stamps.append(time.thread_time())
        times.append([1e3 * took for took in np.diff(stamps)])
    columns = [statistics.median(column) for column in zip(*times[1:])]
    names = ('visible_ms', 'opinions_ms', 'ensemble_ms')
    return {
        'visible_points': sum(map(len, pairs)),
        **dict(zip(names, columns)),
        'total_ms': sum(columns),
    }
