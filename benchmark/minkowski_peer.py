# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""MinkowskiEngine on the CPU with its own modules.

The student's own backbone is walked; only its layers are exchanged, with the weights copied once
into MinkowskiEngine's order.
"""

from __future__ import annotations

from typing import Any

import MinkowskiEngine as me
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.sparse_engines import Job, peer_inference_jobs
from benchmark.sparse_reference import load_student
from benchmark.sparse_workload import INPUTS, Workload
from reldistill_ros.core.kernel_maps import NUM_LEVELS
from reldistill_ros.core.network import Convolution, backbone_convolutions
from reldistill_ros.core.student import Backbone, Bias, Shortcut, SparseConv, folded_copy


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
    if len(kernel) != 8 or kernel.dim() == 2:
        return kernel
    return kernel.unflatten(0, (2, 2, 2)).transpose(0, 2).flatten(0, 2)


def exchange_layers(backbone: Backbone, network: str) -> Backbone:
    """Put MinkowskiEngine's layers in the place of ours."""
    for layer in backbone_convolutions(network, INPUTS.num_features):
        ours: Any = backbone.get_submodule(layer.name)
        backbone.set_submodule(layer.name, MinkowskiLayer(ours, layer))
    return backbone


def inference_jobs(workload: Workload) -> dict[str, Job]:
    """See `open_jobs`."""
    backbone = exchange_layers(folded_copy(load_student(workload)).backbone, workload.network)
    backbone.eval()

    @torch.inference_mode()
    def forward(feats: NDArray[np.float32], coords: NDArray[np.int32]) -> NDArray[np.float32]:
        features: Tensor = backbone(torch.from_numpy(feats), MinkowskiMaps(coords))
        return features.numpy()

    return peer_inference_jobs(workload, build_maps, forward)


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


def training_jobs(workload: Workload) -> dict[str, Job]:
    """See `open_jobs`."""
    student = load_student(workload).train()
    backbone: Any = exchange_layers(student.backbone, workload.network)
    feats, coords = torch.from_numpy(workload.voxels.feats), workload.voxels.coords
    output_gradient = torch.from_numpy(workload.output_gradient)

    def step() -> NDArray[np.float32]:
        backbone.zero_grad()
        backbone(feats, MinkowskiMaps(coords)).backward(output_gradient)
        gradient: Tensor = backbone.stem1.conv.kernel.grad
        return gradient.numpy()

    return {'forward_backward': step}
