# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training batches: augmented sweeps as voxels and maps, with the pixels they are paired with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from reldistill_ros.core.kernel_maps import (
    KernelMaps,
    build_kernel_maps,
    concatenate_maps,
    coordinates_only,
)
from reldistill_ros.core.voxels import voxelise
from trainer.augment import augment_image, augment_points
from trainer.datasets.sample import CameraImage, Dataset, Sample
from trainer.distributed import own_share
from trainer.draws import Draw, draw_batches
from trainer.missing import READ_ERRORS, Unreadable
from trainer.pairing import pair_points
from trainer.settings import RunSettings
from trainer.superpixels import MOST_SEGMENTS, Superpixels, segments_at
from trainer.worker_processes import follow_the_main_process

NO_ROWS, NO_COORDS = np.zeros(0, np.int64), np.zeros((0, 3), np.int32)


@dataclass(frozen=True)
class Batch:
    """One augmented sweep, or several stacked one after the other.

    Attributes:
        sample_ids: of the sweeps.
        feats: (V, F) float32 input features.
        maps: kernel maps of the V voxels.
        images: augmented images.
        pixels: per image (P_i, 2) float32.
        voxel_rows: (P,) voxel of each pair, image after image.
        segments: (P,) int64 superpixel of each pair, no id in two images; None where the pairs
            were prepared without.
        unreadable: sweeps that the batch lacks because they cannot be read.
        sizes: (B,) voxels of each sweep.
    """

    sample_ids: tuple[str, ...]
    feats: NDArray[np.float32]
    maps: KernelMaps
    images: tuple[CameraImage, ...]
    pixels: tuple[NDArray[np.float32], ...]
    voxel_rows: NDArray[np.int64]
    segments: NDArray[np.int64] | None = None
    unreadable: tuple[Unreadable, ...] = ()
    sizes: tuple[int, ...] = ()


class TrainingSweeps(TorchDataset[Batch]):
    """All sweeps of the training drives, varied by epoch.

    With `balance_drives` an epoch goes several times through the shorter drives, so that each
    drive counts about the same. A draw depends on seed, epoch and index alone, so a resumed run
    sees what an uninterrupted one would, whatever the number of workers. A sweep that cannot be
    read gives an empty batch that says so: what it means, the training process decides.

    Voxels are found in numba here, in the workers: it takes half a millisecond a sweep. Kernel maps
    are more than 20 times as large as coordinates: without `tables` the GPU builds them itself.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        settings: RunSettings,
        superpixels: Superpixels | None = None,
        *,
        tables: bool = True,
    ) -> None:
        self._datasets = datasets
        self._tables = tables
        self._settings = settings
        self._superpixels = superpixels
        longest = max(len(dataset) for dataset in datasets)
        self._index = [
            (number, position)
            for number, dataset in enumerate(datasets)
            for _ in range(longest // len(dataset) if settings.balance_drives else 1)
            for position in range(len(dataset))
        ]

    def __len__(self) -> int:
        return len(self._index)

    def sample(self, index: int) -> Sample:
        """The sweep as its reader gives it."""
        dataset, position = self._index[index]
        return self._datasets[dataset][position]

    def __getitem__(self, draw: Draw) -> Batch:
        epoch, index = draw
        rng = np.random.default_rng([self._settings.seed, epoch, index])
        try:
            sample = self.sample(index)
        except READ_ERRORS as error:
            dataset, position = self._index[index]
            sweep = Unreadable(self._datasets[dataset].sample_ids[position], error)
            return empty_batch(sweep, self._settings.inputs.num_features)
        return prepare_sweep(sample, self._settings, rng, self._superpixels, tables=self._tables)


def prepare_sweep(
    sample: Sample,
    settings: RunSettings,
    rng: np.random.Generator,
    superpixels: Superpixels | None = None,
    *,
    tables: bool = True,
) -> Batch:
    """Pair, augment and voxelise a sweep, and draw its share of the batch's candidates.

    With superpixels, which are found in the images as they were, all pairs are kept. Without
    `tables` the kernel maps hold the coordinates alone.
    """
    points, kept = augment_points(sample.points, settings.augment, rng)
    points[~kept] = np.nan  # keeps the order, which the pairs refer to
    voxels = voxelise(points, settings.voxel, settings.inputs)
    images, pixels, rows, segments = [], [], [], []
    for number, image in enumerate(sample.images):
        pairs = pair_points(sample.points, image, settings.pairing)
        original = image.image
        image, moved, inside = augment_image(image, pairs.pixels, settings.augment, rng)
        voxel = voxels.point_to_voxel[pairs.point_indices]
        keep = np.flatnonzero(inside & (voxel >= 0))
        images.append(image)
        pixels.append(moved[keep])
        rows.append(voxel[keep].astype(np.int64))
        if superpixels is not None:
            found = segments_at(superpixels(original), pairs.pixels[keep])
            segments.append(found + number * MOST_SEGMENTS)
    if superpixels is None:
        chosen = _draw_pairs(rows, settings.candidates // settings.batch_size, rng)
    else:
        chosen = [np.arange(len(r)) for r in rows]
    return Batch(
        (sample.sample_id,),
        voxels.feats,
        build_kernel_maps(voxels.coords) if tables else coordinates_only(voxels.coords),
        tuple(images),
        tuple(p[c] for p, c in zip(pixels, chosen)),
        np.concatenate([NO_ROWS, *(r[c] for r, c in zip(rows, chosen))]),
        None if superpixels is None else np.concatenate([NO_ROWS, *segments]),
        sizes=(len(voxels.coords),),
    )


def _draw_pairs(
    rows: Sequence[NDArray[np.int64]], num: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Up to `num` pairs over all images, one for each voxel; indices into each image's pairs."""
    sizes = [len(r) for r in rows]
    order = rng.permutation(sum(sizes))
    voxels = np.concatenate([NO_ROWS, *rows])[order]
    _, first = np.unique(voxels, return_index=True)  # of the shuffled pairs, so any may win
    chosen = np.sort(order[rng.permutation(first)[:num]])
    starts = np.cumsum([0, *sizes])
    return [chosen[(chosen >= a) & (chosen < b)] - a for a, b in pairwise(starts)]


def empty_batch(sweep: Unreadable, num_features: int) -> Batch:
    """A batch of a sweep that cannot be read: no voxels, which a network may yet be asked for."""
    feats, maps = np.zeros((0, num_features), np.float32), build_kernel_maps(NO_COORDS)
    return Batch((), feats, maps, (), (), NO_ROWS, None, (sweep,))


def collate(sweeps: Sequence[Batch]) -> Batch:
    """Stack sweeps into a batch."""
    unreadable = tuple(entry for sweep in sweeps for entry in sweep.unreadable)
    read = [sweep for sweep in sweeps if sweep.sample_ids]
    if not read:
        return replace(sweeps[0], unreadable=unreadable)
    sweeps = read
    starts = np.cumsum([0, *(len(sweep.feats) for sweep in sweeps)])
    return Batch(
        tuple(name for sweep in sweeps for name in sweep.sample_ids),
        np.concatenate([sweep.feats for sweep in sweeps]),
        concatenate_maps([sweep.maps for sweep in sweeps]),
        tuple(image for sweep in sweeps for image in sweep.images),
        tuple(pixels for sweep in sweeps for pixels in sweep.pixels),
        np.concatenate([sweep.voxel_rows + start for sweep, start in zip(sweeps, starts)]),
        _stack_segments(sweeps),
        unreadable,
        tuple(size for sweep in sweeps for size in sweep.sizes),
    )


def _stack_segments(sweeps: Sequence[Batch]) -> NDArray[np.int64] | None:
    """Superpixels of all sweeps; each image has its own range of ids."""
    starts = MOST_SEGMENTS * np.cumsum([0, *(len(sweep.images) for sweep in sweeps)])
    pairs = zip(sweeps, starts)
    found = [sweep.segments + start for sweep, start in pairs if sweep.segments is not None]
    return np.concatenate(found) if found else None


def load_batches(
    sweeps: TrainingSweeps, settings: RunSettings, first_step: int = 0
) -> DataLoader[Batch]:
    """Batches in order, of each this process's share, prepared by `settings.workers` others."""
    draws = draw_batches(settings, len(sweeps), first_step)
    return DataLoader(
        sweeps,
        batch_sampler=[list(own_share(drawn)) for drawn in draws],
        collate_fn=collate,
        num_workers=settings.workers,
        worker_init_fn=follow_the_main_process,
        prefetch_factor=4 if settings.workers else None,
    )
