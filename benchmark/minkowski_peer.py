# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""MinkowskiEngine on the CPU with its own modules.

The weights are copied once into MinkowskiEngine's order.
"""

from __future__ import annotations

from typing import Any

import MinkowskiEngine as me
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.peer_jobs import Peer
from reldistill_ros.core.kernel_maps import NUM_LEVELS
from reldistill_ros.core.network import Convolution
from reldistill_ros.core.student import Bias, Shortcut, SparseConv


class MinkowskiMaps:
    """The voxels of every level; MinkowskiEngine keeps the maps that it finds on its way.

    Args:
        coords: (V, 3) int32.
    """

    def __init__(self, coords: NDArray[np.int32]) -> None:
        indices = torch.from_numpy(np.pad(coords, ((0, 0), (1, 0))))  # batch index first
        self.manager = me.CoordinateManager(D=3, coordinate_map_type=me.CoordinateMapType.CPU)
        self.levels = {0: self.manager.insert_and_map(indices, 1)[0]}

    def convolve(self, conv: nn.Module, x: Tensor, layer: Convolution) -> Tensor:
        """Rows of the layer's source level -> rows of its target level."""
        where = {'coordinate_map_key': self.levels[layer.source_level]}
        result = conv(me.SparseTensor(x, **where, coordinate_manager=self.manager))
        self.levels[layer.target_level] = result.coordinate_map_key
        features: Tensor = result.F
        return features


class MinkowskiLayer(nn.Module):
    """Stands in for one of the student's layers; a folded batch norm becomes its own bias."""

    def __init__(self, ours: SparseConv | Shortcut, layer: Convolution) -> None:
        super().__init__()
        self.layer, self.norm = layer, ours.norm
        self.conv = _module(layer, bias=isinstance(ours.norm, Bias))
        self.conv.kernel.data.copy_(in_minkowski_order(ours.kernel.data))
        if isinstance(ours.norm, Bias):
            self.conv.bias.data.copy_(ours.norm.bias.data)
            self.norm = nn.Identity()

    def forward(self, x: Tensor, maps: MinkowskiMaps, level: int) -> Tensor:
        result: Tensor = self.norm(maps.convolve(self.conv, x, self.layer))
        return result


def _module(layer: Convolution, bias: bool) -> Any:
    options: dict[str, Any] = {'bias': bias, 'dimension': 3}
    if layer.kind == 'up':
        return me.MinkowskiConvolutionTranspose(layer.c_in, layer.c_out, 2, 2, **options)
    size, stride = {'submanifold': (3, 1), 'down': (2, 2), 'linear': (1, 1)}[layer.kind]
    return me.MinkowskiConvolution(layer.c_in, layer.c_out, size, stride, **options)


def in_minkowski_order(kernel: Tensor) -> Tensor:
    """A kernel (8, C_in, C_out) from z fastest to x fastest; the others are in order."""
    if kernel.dim() == 2 or len(kernel) == 27:
        return kernel
    return kernel.reshape(2, 2, 2, *kernel.shape[1:]).transpose(0, 2).flatten(0, 2)


def build_maps(coords: NDArray[np.int32]) -> list[dict[int, Tensor]]:
    """The maps of all levels, as MinkowskiEngine's layers ask for them."""
    maps = MinkowskiMaps(coords)
    manager, key = maps.manager, maps.levels[0]
    found = []
    for level in range(NUM_LEVELS):
        found.append(manager.kernel_map(key, key, stride=1, kernel_size=3))
        if level < NUM_LEVELS - 1:
            coarser = manager.stride(key, 2)
            found.append(manager.kernel_map(key, coarser, stride=2, kernel_size=2))
            key = coarser
    return found


PEER = Peer(
    open_maps=MinkowskiMaps,
    make_layer=MinkowskiLayer,
    build_maps=build_maps,
    first_gradient=lambda backbone: backbone.stem1.conv.kernel.grad,
)
