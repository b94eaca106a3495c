# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How many voxels the training sweeps have at each level: what engines are built for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.engine_sizes import SweepSizes
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.voxels import voxelise
from trainer.datasets.sample import Dataset
from trainer.run import Run

NUM_SWEEPS = 50  # of each drive


def measure_sweep_sizes(run: Run, datasets: Sequence[Dataset]) -> SweepSizes:
    """Count the voxels of sweeps spread over the drives; one without voxels is left out.

    Args:
        run: whose grid.
        datasets: the drives it was trained on; some voxel of theirs lies in the grid.
    """
    counts = []
    for dataset in datasets:
        chosen = np.linspace(0, len(dataset) - 1, NUM_SWEEPS).astype(int)
        for index in np.unique(chosen).tolist():
            counts.append(_count(run, dataset[index].points))
    return summarise(np.array([sizes for sizes in counts if sizes[0]]))


def summarise(counts: NDArray[np.int64]) -> SweepSizes:
    """Percentiles of voxel counts (S, 5), rounded up."""

    def percentile(q: float) -> list[int]:
        return [int(size) for size in np.ceil(np.percentile(counts, q, axis=0))]

    values = {
        'num_sweeps': len(counts),
        'small': percentile(1),
        'typical': percentile(50),
        'large': percentile(99),
        'largest': percentile(100),
    }
    return SweepSizes.model_validate(values)


def _count(run: Run, points: NDArray[np.float32]) -> list[int]:
    coords = voxelise(points, run.settings.voxel, run.settings.inputs).coords
    return [level.num_voxels for level in build_kernel_maps(coords)]
