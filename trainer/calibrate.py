# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which cosines are usual: quantiles for each class over training sweeps, without any labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.backend import Backend
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.unknown import Calibration
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines
from trainer.compute import fastest_backend
from trainer.datasets.sample import Dataset
from trainer.run import TrainedRun

NUM_SWEEPS = 20  # of each drive: quantiles of a per cent settle long before
FEWEST_POINTS = 1000  # of a class, for quantiles of its own
SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def calibrate(trained: TrainedRun, datasets: Sequence[Dataset]) -> Calibration:
    """Label training sweeps and note how sure the student was of each class.

    Args:
        trained: student and words.
        datasets: the drives it was trained on.

    Raises:
        InputError: no point of the drives lies in the student's range, or a cosine is no number.
    """
    backend = fastest_backend(trained.student)
    measured = [found for points in _sweeps(datasets) for found in _best(trained, backend, points)]
    if not measured:
        raise InputError(
            'no point of the training sweeps lies in the range of the student',
            where=trained.run.folder,
        )
    class_ids = np.concatenate([ids for ids, _ in measured])
    cosines = np.concatenate([best for _, best in measured])
    if not np.isfinite(cosines).all():
        raise InputError('the student gives no numbers on its training sweeps')
    by_class = {
        name: cosines[class_ids == index]
        for index, name in enumerate(trained.run.vocabulary.class_names)
    }
    return Calibration(
        shares=SHARES,
        overall=_quantiles(cosines),
        classes={
            name: _quantiles(values)
            for name, values in by_class.items()
            if len(values) >= FEWEST_POINTS
        },
        num_points=len(cosines),
    )


def _sweeps(datasets: Sequence[Dataset]) -> Iterator[NDArray[np.float32]]:
    for dataset in datasets:
        chosen = np.linspace(0, len(dataset) - 1, NUM_SWEEPS).astype(int)
        for index in np.unique(chosen).tolist():
            yield dataset[index].points


def _best(
    trained: TrainedRun, backend: Backend, points: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Class and cosine of each point in the range, (N',) each; nothing where there is none."""
    settings, head = trained.run.settings, trained.student.head
    voxels = voxelise(points, settings.voxel, settings.inputs)
    if not len(voxels.coords):
        return
    features = backend(voxels.feats, build_kernel_maps(voxels.coords))
    folded = fold_head(head.weight.detach().numpy(), head.bias.detach().numpy(), trained.prompts)
    cosines = prompt_cosines(features, folded)
    labels = label_cosines(cosines, trained.run.vocabulary.prompt_classes, 1.0)
    voxel = voxels.point_to_voxel[voxels.point_to_voxel >= 0]
    yield labels.class_ids[voxel], cosines.max(axis=1)[voxel]


def _quantiles(cosines: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(np.quantile(cosines, SHARES).round(6).tolist())
