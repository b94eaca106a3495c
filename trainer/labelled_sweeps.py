# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labelled sweeps as voxels with classes: what the protocols with few labels learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps, concatenate_maps
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.voxels import voxelise
from trainer.augment import augment_points
from trainer.datasets.sample import Dataset, Sample
from trainer.draws import Draw, draw_batches, steps_per_epoch
from trainer.settings import RunSettings
from trainer.splits import Split, check_sweeps, keep_sectors, true_classes


@dataclass(frozen=True)
class LabelledBatch:
    """One sweep, or several stacked one after the other.

    Attributes:
        feats: (V, F) float32 input features.
        maps: kernel maps of the V voxels.
        classes: (V,) uint8, class of most labelled points of each voxel; `IGNORE_INDEX` where
            it holds none.
    """

    feats: NDArray[np.float32]
    maps: KernelMaps
    classes: NDArray[np.uint8]


class LabelledSweeps(TorchDataset[LabelledBatch]):
    """The sweeps that hold labels to learn from, varied by epoch.

    Args:
        datasets: labelled drives.
        vocabulary: the classes.
        split: which labels may be used, None for all.
        settings: seed, grid, input features and augmentation.

    Raises:
        InputError: a drive has no labels that the vocabulary knows, or lacks sweeps of the split.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        vocabulary: Vocabulary,
        split: Split | None,
        settings: RunSettings,
    ) -> None:
        self._datasets, self._split, self.settings = datasets, split, settings
        self._tables = [
            vocabulary.label_table(dataset.name, dataset.label_names) for dataset in datasets
        ]
        sample_ids = {name for dataset in datasets for name in dataset.sample_ids}
        used = sample_ids if split is None else set(split.sectors)
        if split is not None:
            check_sweeps(split, sample_ids)
        self._index = [
            (number, position)
            for number, dataset in enumerate(datasets)
            for position, name in enumerate(dataset.sample_ids)
            if name in used
        ]

    def __len__(self) -> int:
        return len(self._index)

    @property
    def num_steps(self) -> int:
        """Batches of all epochs."""
        return self.settings.epochs * steps_per_epoch(len(self), self.settings.batch_size)

    def labelled(self, index: int) -> tuple[Sample, NDArray[np.uint8]]:
        """The sweep as its reader gives it, and the class (N,) of its points."""
        dataset, position = self._index[index]
        sample = self._datasets[dataset][position]
        classes = true_classes(sample, self._tables[dataset])
        if self._split is not None:
            classes = keep_sectors(sample.points, classes, self._split.sectors[sample.sample_id])
        return sample, classes

    def count_labels(self, num_classes: int) -> NDArray[np.int64]:
        """Labelled points of each class, (K,).

        Raises:
            InputError: there is none at all.
        """
        counts = np.zeros(256, np.int64)
        for index in range(len(self)):
            counts += np.bincount(self.labelled(index)[1], minlength=256)
        if not counts[:num_classes].any():
            raise InputError('the training drives have no labelled point in the chosen sectors')
        return counts[:num_classes]

    def __getitem__(self, draw: Draw) -> LabelledBatch:
        epoch, index = draw
        rng = np.random.default_rng([self.settings.seed, epoch, index])
        sample, classes = self.labelled(index)
        points, kept = augment_points(sample.points, self.settings.augment, rng)
        points[~kept] = np.nan
        return to_voxels(points, classes, self.settings)


def to_voxels(
    points: NDArray[np.float32], classes: NDArray[np.uint8], settings: RunSettings
) -> LabelledBatch:
    """Voxelise a sweep of points (N, 4) with classes (N,)."""
    voxels = voxelise(points, settings.voxel, settings.inputs)
    voted = vote_classes(voxels.point_to_voxel, classes, len(voxels.coords))
    return LabelledBatch(voxels.feats, build_kernel_maps(voxels.coords), voted)


def vote_classes(
    point_to_voxel: NDArray[np.int32], classes: NDArray[np.uint8], num_voxels: int
) -> NDArray[np.uint8]:
    """Class (V,) of most labelled points of each voxel, of the lowest where several have most.

    Args:
        point_to_voxel: (N,), -1 outside.
        classes: (N,), `IGNORE_INDEX` for points that do not vote.
        num_voxels: V.
    """
    votes = (point_to_voxel >= 0) & (classes != IGNORE_INDEX)
    cells = point_to_voxel[votes].astype(np.int64) * 256 + classes[votes]
    cells, counts = np.unique(cells, return_counts=True)
    voxels, candidates = np.divmod(cells, 256)
    order = np.lexsort((-candidates, counts))  # the last to be written wins
    voted = np.full(num_voxels, IGNORE_INDEX, np.uint8)
    voted[voxels[order]] = candidates[order]
    return voted


def stack(sweeps: Sequence[LabelledBatch]) -> LabelledBatch:
    """Stack sweeps into a batch."""
    return LabelledBatch(
        np.concatenate([sweep.feats for sweep in sweeps]),
        concatenate_maps([sweep.maps for sweep in sweeps]),
        np.concatenate([sweep.classes for sweep in sweeps]),
    )


def load_labelled(sweeps: LabelledSweeps) -> DataLoader[LabelledBatch]:
    """The shuffled batches of all epochs, prepared by `settings.workers` processes."""
    settings = sweeps.settings
    return DataLoader(
        sweeps,
        batch_sampler=list(draw_batches(settings, len(sweeps), 0)),
        collate_fn=stack,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
    )
