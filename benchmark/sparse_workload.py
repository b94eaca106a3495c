# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What every engine gets: one sweep, one student and the output that is right.

They lie in a folder, because every engine has a process to itself; see `sparse_reference` for who
writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.network import NETWORKS, Convolution, backbone_convolutions
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.voxels import Voxels, voxelise

INPUTS = InputSettings()


@dataclass(frozen=True)
class Workload:
    """A sweep and a student in a folder.

    Attributes:
        folder: where their files lie.
        case: name of the sweep.
        network: name of the student's widths and depths.
    """

    folder: Path
    case: str
    network: str

    @property
    def weights_path(self) -> Path:
        return self.folder / f'{self.network}.safetensors'

    @property
    def onnx_path(self) -> Path:
        return self.folder / f'{self.network}.onnx'

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """Points (N, 4) of the sweep."""
        points: NDArray[np.float32] = np.load(self.folder / f'{self.case}.points.npy')
        return points

    @cached_property
    def voxel(self) -> VoxelSettings:
        text = (self.folder / f'{self.case}.voxel.json').read_text(encoding='utf-8')
        return VoxelSettings.model_validate_json(text)

    @cached_property
    def voxels(self) -> Voxels:
        return voxelise(self.points, self.voxel, INPUTS)

    @cached_property
    def maps(self) -> KernelMaps:
        return build_kernel_maps(self.voxels.coords)

    @cached_property
    def output_gradient(self) -> NDArray[np.float32]:
        """What the backward pass starts from (V, D): noise, so that no direction is favoured."""
        shape = len(self.voxels.coords), NETWORKS[self.network][0][-1]
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    def load(self) -> None:
        """Read the sweep and make what belongs to it now."""
        _ = self.voxels, self.output_gradient

    def expected_path(self, mode: str) -> Path:
        """Where lies what a run in this mode should return."""
        return self.folder / f'{self.case}.{self.network}.{mode}.npy'


def write_sweep(
    folder: Path, case: str, points: NDArray[np.float32], voxel: VoxelSettings
) -> None:
    """Put a sweep into the folder."""
    np.save(folder / f'{case}.points.npy', points)
    (folder / f'{case}.voxel.json').write_text(voxel.model_dump_json(), encoding='utf-8')


def count_flops(network: str, maps: KernelMaps) -> dict[str, float]:
    """Useful floating-point operations by mode: two for each multiply-add of an existing pair.

    The backward pass computes two products for each of the forward pass, but no gradient of the
    input features. Of the labeller the network alone is counted.
    """
    layers = backbone_convolutions(network, INPUTS.num_features)
    flops = [2.0 * count_pairs(layer, maps) * layer.c_in * layer.c_out for layer in layers]
    forward = sum(flops)
    return {
        'forward': forward,
        'labeller': forward,
        'forward_backward': 3 * forward - flops[0],
    }


def count_pairs(layer: Convolution, maps: KernelMaps) -> int:
    """Pairs of an input and an output voxel that the layer multiplies."""
    level = maps[layer.level]
    if layer.kind == 'submanifold':
        return int((level.submanifold < level.num_voxels).sum())
    return level.num_voxels  # each has one parent, and itself


def mean_neighbours(maps: KernelMaps) -> list[float]:
    """Occupied voxels among the 27 around a voxel, itself included, by level."""
    return [
        float((level.submanifold < level.num_voxels).sum() / max(level.num_voxels, 1))
        for level in maps
    ]
