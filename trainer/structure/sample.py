# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A fixed sample of matched features of a run's teacher and student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.prompts import center, unit_rows
from reldistill_ros.core.student import Student
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.core.voxels import voxelise
from trainer.compute import fastest_backend
from trainer.datasets.sample import Dataset, Sample
from trainer.pairing import pair_points
from trainer.run import Run
from trainer.supervision import FEWEST_PAIRS, no_pairs
from trainer.teachers.teacher import Teacher

SEED = 0  # not the run's: all runs with the same teacher are measured on the same points
NUM_PAIRS = 4096
MAX_SWEEPS = 64


@dataclass(frozen=True)
class MatchedFeatures:
    """Points that a camera sees; rows belong together.

    Attributes:
        student: K (N, C) unit rows, embeddings of the points' voxels.
        teacher: Q (N, C) unit rows, centred as the run centres.
        labels: (N,) uint8, true class of the run's vocabulary, 255 where not known.
    """

    student: NDArray[np.float32]
    teacher: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.int64]) -> MatchedFeatures:
        """The points of these rows."""
        return MatchedFeatures(self.student[rows], self.teacher[rows], self.labels[rows])


class FeatureSampler:
    """Draws matched features from sweeps.

    Args:
        run: its settings say how points become voxels and which camera sees them.
        student: trained.
        teacher: the run's.
        mean: (C,), subtracted from the teacher's features.
    """

    def __init__(
        self, run: Run, student: Student, teacher: Teacher, mean: NDArray[np.float32]
    ) -> None:
        self._run, self._teacher, self._mean = run, teacher, mean
        self._backend, self._head = fastest_backend(student), student.head

    def sample(self, datasets: Sequence[Dataset]) -> MatchedFeatures:
        """Draw about `NUM_PAIRS` points evenly from up to `MAX_SWEEPS` evenly spread sweeps.

        Raises:
            InputError: no camera sees a point that the teacher knows.
        """
        every = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        spread = np.linspace(0, len(every) - 1, min(len(every), MAX_SWEEPS))
        chosen = [every[int(position)] for position in spread]
        share = math.ceil(NUM_PAIRS / len(chosen))
        parts, sample_ids = [], []
        for number, (dataset, index) in enumerate(tqdm(chosen, desc='structure', unit='sweep')):
            sample = dataset[index]
            rng = np.random.default_rng([SEED, number])
            parts.append(self._sweep(sample, self._labels(sample, dataset), share, rng))
            sample_ids.append(sample.sample_id)
        features = MatchedFeatures(
            np.concatenate([part.student for part in parts]),
            np.concatenate([part.teacher for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )
        if len(features) < FEWEST_PAIRS:
            raise no_pairs(sample_ids)
        return features.select(np.random.default_rng(SEED).permutation(len(features)))

    def _sweep(
        self, sample: Sample, labels: NDArray[np.uint8], num: int, rng: np.random.Generator
    ) -> MatchedFeatures:
        """Up to `num` points of a sweep, no two of one voxel."""
        settings = self._run.settings
        voxels = voxelise(sample.points, settings.voxel, settings.inputs)
        points, teacher = self._see(sample, voxels.point_to_voxel >= 0)
        order = rng.permutation(len(points))
        _, first = np.unique(voxels.point_to_voxel[points[order]], return_index=True)
        drawn = order[rng.permutation(first)[:num]]
        rows = voxels.point_to_voxel[points[drawn]]
        student = np.zeros((0, len(self._mean)), np.float32)
        if len(rows):
            student = self._embed(
                self._backend(voxels.feats, build_kernel_maps(voxels.coords))[rows]
            )
        return MatchedFeatures(student, center(teacher[drawn], self._mean), labels[points[drawn]])

    def _see(
        self, sample: Sample, inside: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Points (P,) of those inside that cameras see, and the teacher's features (P, C)."""
        points: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        features = [np.zeros((0, len(self._mean)), np.float32)]
        for image in sample.images:
            pairs = pair_points(sample.points, image, self._run.settings.pairing)
            pairs = pairs.select(inside[pairs.point_indices])
            seen = self._teacher(image).at(pairs.pixels)
            known = seen.any(axis=1)
            points.append(pairs.point_indices[known])
            features.append(seen[known])
        return np.concatenate(points), np.concatenate(features)

    def _embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The head's unit embeddings (P, C) of the backbone's features (P, D)."""
        weight, bias = (w.detach().cpu().numpy() for w in (self._head.weight, self._head.bias))
        return unit_rows(features @ weight.T + bias)

    def _labels(self, sample: Sample, dataset: Dataset) -> NDArray[np.uint8]:
        """Class (N,) of each point, 255 where the drive has no labels."""
        if sample.labels is None:
            return np.full(len(sample.points), IGNORE_INDEX, np.uint8)
        table = self._run.vocabulary.label_table(dataset.name, dataset.label_names)
        return table[sample.labels]
