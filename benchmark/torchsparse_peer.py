# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""torchsparse 1.4.0 on the CPU with its own modules; it has no backward pass there.

The order of torchsparse's kernels is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchsparse import SparseTensor
from torchsparse.nn import Conv3d
from torchsparse.nn.functional import conv3d

from benchmark.peer_jobs import Peer
from reldistill_ros.core.kernel_maps import NUM_LEVELS
from reldistill_ros.core.network import Convolution, Kind
from reldistill_ros.core.student import Shortcut, SparseConv

Conv = Callable[[SparseTensor], SparseTensor]
SHAPES: dict[Kind, tuple[int, int]] = {  # kernel size, stride
    'submanifold': (3, 1),
    'down': (2, 2),
    'up': (2, 2),
    'linear': (1, 1),
}


class TorchsparseMaps:
    """The voxels of every level, and the maps that torchsparse finds on its way.

    Args:
        coords: (V, 3) int32.
    """

    def __init__(self, coords: NDArray[np.int32]) -> None:
        indices = torch.from_numpy(np.pad(coords, ((0, 0), (0, 1))))  # batch index last
        self._coords: dict[tuple[int, ...], Tensor] = {(1, 1, 1): indices}
        self._maps: dict[tuple[Any, ...], Any] = {}

    def convolve(self, conv: Conv, x: Tensor, level: int) -> Tensor:
        """Rows of a level -> rows of the level that the convolution leads to."""
        stride = (2**level,) * 3
        tensor = SparseTensor(x, self._coords[stride], stride)
        tensor.cmaps, tensor.kmaps = self._coords, self._maps
        features: Tensor = conv(tensor).feats
        return features


class TorchsparseLayer(nn.Module):
    """Stands in for one of the student's layers, batch norm folded."""

    def __init__(self, ours: SparseConv | Shortcut, layer: Convolution) -> None:
        super().__init__()
        self.source_level = layer.source_level
        self.conv = _module(layer.kind, layer.c_in, layer.c_out)
        self.conv.kernel, self.conv.bias = ours.kernel, ours.norm.bias

    def forward(self, x: Tensor, maps: TorchsparseMaps, level: int) -> Tensor:
        return maps.convolve(self.conv, x, self.source_level)


def _module(kind: Kind, c_in: int, c_out: int) -> Conv3d:
    size, stride = SHAPES[kind]
    return Conv3d(c_in, c_out, size, stride, bias=True, transposed=kind == 'up')


@torch.inference_mode()
def build_maps(coords: NDArray[np.int32]) -> TorchsparseMaps:
    """The maps of all levels: torchsparse finds them inside of a convolution, here of nothing."""
    maps, nothing = TorchsparseMaps(coords), torch.empty(len(coords), 0)
    same = partial(conv3d, weight=torch.empty(27, 0, 0), kernel_size=3)
    down = partial(conv3d, weight=torch.empty(8, 0, 0), kernel_size=2, stride=2)
    for level in range(NUM_LEVELS):
        maps.convolve(same, nothing, level)
        if level < NUM_LEVELS - 1:
            nothing = maps.convolve(down, nothing, level)
    return maps


PEER = Peer(open_maps=TorchsparseMaps, make_layer=TorchsparseLayer, build_maps=build_maps)
