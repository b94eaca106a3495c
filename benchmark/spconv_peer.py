# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""spconv on the CPU as its users write a network: its own modules, which share maps by key.

The weights are copied once into spconv's order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spconv import pytorch as spconv
from spconv.core import ConvAlgo
from spconv.pytorch import ops
from torch import Tensor, nn

from benchmark.peer_jobs import Peer
from reldistill_ros.core.kernel_maps import NUM_LEVELS
from reldistill_ros.core.network import Convolution
from reldistill_ros.core.student import Bias, Shortcut, SparseConv

# Its backward pass asks for the CUDA stream, on the CPU as well.
ops.get_current_stream = lambda: 0

# Grids that halve without a rest, so that no voxel at the end loses its parent.
GRID_MULTIPLE = 2 ** (NUM_LEVELS - 1)


class SpconvMaps:
    """The voxels of every level, and the maps that spconv finds on its way; see `SparseMaps`.

    Args:
        coords: (V, 3) int32, not negative.
    """

    def __init__(self, coords: NDArray[np.int32]) -> None:
        indices = torch.from_numpy(np.pad(coords, ((0, 0), (1, 0))))  # batch index first
        shape = -(-(coords.max(axis=0) + 1) // GRID_MULTIPLE) * GRID_MULTIPLE
        self.levels: dict[int, tuple[Tensor, list[int]]] = {0: (indices, shape.tolist())}
        self._found: dict[str, Any] = {}

    def convolve(self, conv: nn.Module, x: Tensor, layer: Convolution) -> Tensor:
        """Rows of the layer's source level -> rows of its target level."""
        indices, shape = self.levels[layer.source_level]
        result = conv(spconv.SparseConvTensor(x, indices, shape, 1, indice_dict=self._found))
        self._found = result.indice_dict
        self.levels[layer.target_level] = result.indices, result.spatial_shape
        features: Tensor = result.features
        return features


class SpconvLayer(nn.Module):
    """Stands in for one of the student's layers."""

    def __init__(self, ours: SparseConv | Shortcut, layer: Convolution) -> None:
        super().__init__()
        self.layer = layer
        self.conv = _module(layer)
        self.conv.weight.data.copy_(in_spconv_order(ours.kernel.data))
        self.norm = InPlaceBias(ours.norm.bias) if isinstance(ours.norm, Bias) else ours.norm

    def forward(self, x: Tensor, maps: SpconvMaps, level: int) -> Tensor:
        linear = self.layer.kind == 'linear'
        rows = self.conv(x) if linear else maps.convolve(self.conv, x, self.layer)
        result: Tensor = self.norm(rows)
        return result


class InPlaceBias(nn.Module):
    """A folded batch norm; spconv's own bias is for CUDA and for training only."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(self.bias)


def _module(layer: Convolution) -> Any:
    channels = layer.c_in, layer.c_out
    if layer.kind == 'linear':
        return nn.Linear(*channels, bias=False)
    options: dict[str, Any] = {'bias': False, 'algo': ConvAlgo.Native}
    if layer.kind == 'submanifold':
        return spconv.SubMConv3d(*channels, 3, indice_key=f'same{layer.level}', **options)
    options['indice_key'] = f'down{layer.level}'
    if layer.kind == 'down':
        return spconv.SparseConv3d(*channels, 2, stride=2, **options)
    return spconv.SparseInverseConv3d(*channels, 2, **options)


def in_spconv_order(kernel: Tensor) -> Tensor:
    """(K, C_in, C_out) -> (C_out, kx, ky, kz, C_in); a linear one -> (C_out, C_in)."""
    if kernel.dim() == 2:
        return kernel.T
    if len(kernel) == 27:  # x fastest
        return kernel.reshape(3, 3, 3, *kernel.shape[1:]).permute(4, 2, 1, 0, 3)
    return kernel.reshape(2, 2, 2, *kernel.shape[1:]).permute(4, 0, 1, 2, 3)


def from_spconv_order(weight: Tensor) -> Tensor:
    """(C_out, 3, 3, 3, C_in) -> (27, C_in, C_out)."""
    return weight.permute(3, 2, 1, 4, 0).flatten(0, 2)


def build_maps(coords: NDArray[np.int32]) -> list[tuple[Tensor, ...]]:
    """The maps of all levels, as spconv's layers ask for them."""
    indices, shape = SpconvMaps(coords).levels[0]
    one, none = [1, 1, 1], [0, 0, 0]
    found = []
    for level in range(NUM_LEVELS):
        where = indices, 1, shape, ConvAlgo.Native
        found.append(ops.get_indice_pairs(*where, [3, 3, 3], one, none, one, none, True))
        if level < NUM_LEVELS - 1:
            two = [2, 2, 2]
            found.append(ops.get_indice_pairs(*where, two, two, none, one, none, False))
            indices, shape = found[-1][0], [size // 2 for size in shape]
    return found


PEER = Peer(
    open_maps=SpconvMaps,
    make_layer=SpconvLayer,
    build_maps=build_maps,
    first_gradient=lambda backbone: from_spconv_order(backbone.stem1.conv.weight.grad),
)
