# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student with a peer's layers: its own backbone is walked, only its layers are exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.sparse_engines import Job, read_prompts
from benchmark.sparse_reference import load_student
from benchmark.sparse_workload import INPUTS, Workload
from reldistill_ros.core.network import Convolution, backbone_convolutions
from reldistill_ros.core.student import Backbone, Shortcut, SparseConv, folded_copy
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines


@dataclass(frozen=True)
class Peer:
    """What a library puts in the place of ours.

    Attributes:
        open_maps: from coords (V, 3) to what its layers take as `SparseMaps`.
        make_layer: from one of our layers to its own with the same weights.
        build_maps: from coords (V, 3) to the maps of all levels.
        first_gradient: the gradient of the backbone's first kernel (27, F, C); None where the
            peer has no backward pass.
    """

    open_maps: Callable[[NDArray[np.int32]], object]
    make_layer: Callable[[SparseConv | Shortcut, Convolution], nn.Module]
    build_maps: Callable[[NDArray[np.int32]], object]
    first_gradient: Callable[[Any], Tensor] | None = None


def _exchange_layers(backbone: Backbone, network: str, peer: Peer) -> Any:
    for layer in backbone_convolutions(network, INPUTS.num_features):
        ours: Any = backbone.get_submodule(layer.name)
        backbone.set_submodule(layer.name, peer.make_layer(ours, layer))
    return backbone


def inference_jobs(peer: Peer, workload: Workload) -> dict[str, Job]:
    """See `open_jobs`.

    Around the network it labels as `Labeller` does where no point lies outside the range; in the
    sweeps of the benchmark none does.
    """
    projection, words = read_prompts(workload)
    head = fold_head(projection.weight, projection.bias, words.prompt_embeddings)
    voxels = workload.voxels
    student = folded_copy(load_student(workload))
    backbone = _exchange_layers(student.backbone, workload.network, peer).eval()

    @torch.inference_mode()
    def forward(feats: NDArray[np.float32], coords: NDArray[np.int32]) -> NDArray[np.float32]:
        features: Tensor = backbone(torch.from_numpy(feats), peer.open_maps(coords))
        return features.numpy()

    def label() -> tuple[NDArray[Any], ...]:
        voxels = voxelise(workload.points, workload.voxel, INPUTS)
        cosines = prompt_cosines(forward(voxels.feats, voxels.coords), head)
        labels = label_cosines(cosines, words.vocabulary.prompt_classes, 1.0)
        per_voxel = labels.class_ids, labels.probabilities, labels.entropies
        return tuple(values[voxels.point_to_voxel] for values in per_voxel)

    return {
        'maps': lambda: peer.build_maps(voxels.coords),
        'forward': lambda: forward(voxels.feats, voxels.coords),
        'labeller': label,
    }


def training_jobs(peer: Peer, workload: Workload) -> dict[str, Job]:
    """See `open_jobs`."""
    first_gradient = peer.first_gradient
    assert first_gradient is not None
    student = load_student(workload).train()
    backbone = _exchange_layers(student.backbone, workload.network, peer)
    feats, coords = torch.from_numpy(workload.voxels.feats), workload.voxels.coords
    output_gradient = torch.from_numpy(workload.output_gradient)

    def step() -> NDArray[np.float32]:
        backbone.zero_grad()
        backbone(feats, peer.open_maps(coords)).backward(output_gradient)
        return first_gradient(backbone).numpy()

    return {'forward_backward': step}
