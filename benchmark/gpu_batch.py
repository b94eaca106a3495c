# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The batch and the clock of the benchmarks on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmark.sparse_workload import INPUTS
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps, concatenate_maps
from reldistill_ros.core.voxels import voxelise

NO_CUDA = 'there is no CUDA device on this machine: nothing was measured'
NO_GPU_EXIT = 3


@dataclass(frozen=True)
class Voxels:
    """A batch of sweeps.

    Attributes:
        feats: (V, F) float32 input features.
        coords: (V, 3) int32, sweep after sweep.
        sizes: (B,) voxels of each sweep.
    """

    feats: NDArray[np.float32]
    coords: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @cached_property
    def maps(self) -> KernelMaps:
        sweeps = np.split(self.coords, np.cumsum(self.sizes)[:-1])
        return concatenate_maps([build_kernel_maps(coords) for coords in sweeps])


def cast_batch(num_sweeps: int, case: str = '32') -> Voxels:
    """Voxels of different sweeps of the synthetic town."""
    from benchmark.lidar_sweep import CASES, cast_sweep

    lidar = CASES[case]
    sweeps = [
        voxelise(cast_sweep(replace(lidar, sweep=number)), lidar.voxel, INPUTS)
        for number in tqdm(range(num_sweeps), desc='cast', unit='sweep')
    ]
    return Voxels(
        np.concatenate([sweep.feats for sweep in sweeps]),
        np.concatenate([sweep.coords for sweep in sweeps]),
        np.array([len(sweep.coords) for sweep in sweeps]),
    )


def read_batch(path: Path) -> Voxels:
    """What `--write` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Voxels(arrays['feats'], arrays['coords'], arrays['sizes'])


def timed(action: Callable[[], object]) -> float:
    """Seconds until the device has done it."""
    make: Any = torch.cuda.Event
    start, end = make(enable_timing=True), make(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    action()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3
