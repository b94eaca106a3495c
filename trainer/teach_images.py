# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The images of a run that a teacher has to look at, read by worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from trainer.datasets.sample import Dataset
from trainer.missing import READ_ERRORS, Unreadable
from trainer.teachers.feature_cache import FeatureCache
from trainer.worker_processes import follow_the_main_process


class FoundImage(NamedTuple):
    """An image of a sweep.

    Attributes:
        key: of its features.
        pixels: (H, W, 3), or None where its features are kept.
    """

    key: str
    pixels: NDArray[np.uint8] | None


Found = list[FoundImage] | Unreadable


class SweepImages(TorchDataset[Found]):
    """The images of every sweep of some drives.

    A worker process does not pass on the pixels of those whose features are kept. A sweep that
    cannot be read is said to be so: what it means, the main process decides.
    """

    def __init__(self, datasets: Sequence[Dataset], cache: FeatureCache) -> None:
        self._index = [(d, k) for d, dataset in enumerate(datasets) for k in range(len(dataset))]
        self._datasets, self._cache = datasets, cache

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Found:
        number, position = self._index[index]
        dataset = self._datasets[number]
        try:
            images = dataset[position].images
        except READ_ERRORS as error:
            return Unreadable(dataset.sample_ids[position], error)
        return [self._find(image.image) for image in images]

    def _find(self, pixels: NDArray[np.uint8]) -> FoundImage:
        key = self._cache.key(pixels)
        return FoundImage(key, None if self._cache.path(key).is_file() else pixels)


def load_images(images: SweepImages, sweeps: Sequence[int], workers: int) -> Iterable[Found]:
    """The images of some sweeps in order, read by `workers` processes, 0 for this one."""
    return DataLoader(
        Subset(images, sweeps),
        batch_size=None,
        collate_fn=_as_they_are,
        num_workers=workers,
        worker_init_fn=follow_the_main_process,
    )


def _as_they_are(found: Found) -> Found:
    return found
