# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student: a sparse residual U-Net (MinkUNet) with a projection head to the text space.

The network says what is computed; how a sparse convolution is carried out is left to the
`SparseMaps` that the caller passes in (pairs for training, tables for export).
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from reldistill_ros.core.network import NETWORKS
from reldistill_ros.core.settings import StudentSettings


class SparseMaps(Protocol):
    """Kernel maps of a batch together with a way to convolve along them."""

    def submanifold(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """3x3x3 on the same voxels: x (V, C_in), kernel (27, C_in, C_out) -> (V, C_out)."""

    def down(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """2x2x2 stride 2 from `level` to the coarser one: (V, C_in) -> (U, C_out)."""

    def up(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """Inverse of `down`, back to `level`: (U, C_in) -> (V, C_out)."""

    def linear(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """1x1x1: x (V, C_in), kernel (C_in, C_out) -> (V, C_out)."""


class SparseConv(nn.Module):
    """Kernel (K, C_in, C_out) in torchsparse's order and batch norm; no bias of its own."""

    def __init__(self, kind: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.kind = kind
        volume = {'submanifold': 27, 'down': 8, 'up': 8}[kind]
        self.kernel = nn.Parameter(torch.empty(volume, in_channels, out_channels))
        self.norm: nn.Module = nn.BatchNorm1d(out_channels)
        # A lidar voxel has about a third of its neighbours, and a child exactly one parent.
        live = {'submanifold': 9, 'down': 3, 'up': 1}[kind]
        nn.init.normal_(self.kernel, std=(2.0 / (live * in_channels)) ** 0.5)

    def forward(self, x: Tensor, maps: SparseMaps, level: int) -> Tensor:
        convolve = {'submanifold': maps.submanifold, 'down': maps.down, 'up': maps.up}[self.kind]
        result: Tensor = self.norm(convolve(level, x, self.kernel))
        return result


class Shortcut(nn.Module):
    """1x1x1 convolution (kernel (C_in, C_out)) and batch norm: the way around a block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(in_channels, out_channels))
        self.norm: nn.Module = nn.BatchNorm1d(out_channels)
        nn.init.normal_(self.kernel, std=(1.0 / in_channels) ** 0.5)

    def forward(self, x: Tensor, maps: SparseMaps, level: int) -> Tensor:
        result: Tensor = self.norm(maps.linear(level, x, self.kernel))
        return result


class ResidualBlock(nn.Module):
    """Two submanifold convolutions around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SparseConv('submanifold', in_channels, out_channels)
        self.conv2 = SparseConv('submanifold', out_channels, out_channels)
        same = in_channels == out_channels
        self.shortcut = None if same else Shortcut(in_channels, out_channels)

    def forward(self, x: Tensor, maps: SparseMaps, level: int) -> Tensor:
        y = torch.relu(self.conv1(x, maps, level))
        y = self.conv2(y, maps, level)
        around = x if self.shortcut is None else self.shortcut(x, maps, level)
        return torch.relu(y + around)


class Stage(nn.Module):
    """Residual blocks at one level."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * num_blocks]
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor, maps: SparseMaps, level: int) -> Tensor:
        for block in self.blocks:
            x = block(x, maps, level)
        return x


class Backbone(nn.Module):
    """MinkUNet (Res16UNet of Choy et al., CVPR 2019): four levels down, four up, skips."""

    def __init__(self, settings: StudentSettings, num_features: int) -> None:
        super().__init__()
        p, b = NETWORKS[settings.network]
        self.stem1 = SparseConv('submanifold', num_features, p[0])
        self.stem2 = SparseConv('submanifold', p[0], p[0])
        self.downs = nn.ModuleList(SparseConv('down', p[i], p[i]) for i in range(4))
        self.encoders = nn.ModuleList(Stage(p[i], p[i + 1], b[i]) for i in range(4))
        self.ups = nn.ModuleList(SparseConv('up', p[4 + i], p[5 + i]) for i in range(4))
        self.decoders = nn.ModuleList(
            Stage(p[5 + i] + p[3 - i], p[5 + i], b[4 + i]) for i in range(4)
        )

    def forward(self, feats: Tensor, maps: SparseMaps) -> Tensor:
        """Input features (V, F) -> point features (V, D) of the finest level."""
        x = torch.relu(self.stem1(feats, maps, 0))
        x = torch.relu(self.stem2(x, maps, 0))
        skips = []
        for level, (down, encoder) in enumerate(zip(self.downs, self.encoders)):
            skips.append(x)
            x = torch.relu(down(x, maps, level))  # (V_level, C) -> (V_level+1, C)
            x = encoder(x, maps, level + 1)
        for level, up, decoder in zip((3, 2, 1, 0), self.ups, self.decoders):
            x = torch.relu(up(x, maps, level))  # (V_level+1, C) -> (V_level, C)
            x = decoder(torch.cat([x, skips[level]], dim=1), maps, level)
        return x


class Student(nn.Module):
    """Backbone and linear projection head; the head is applied only where embeddings are needed.

    On board the head is folded into the prompts (`core.zero_shot`), so that nothing of size
    voxels x embedding is ever computed there.
    """

    def __init__(self, settings: StudentSettings, num_features: int) -> None:
        super().__init__()
        self.network = settings.network
        self.backbone = Backbone(settings, num_features)
        self.head = nn.Linear(NETWORKS[settings.network][0][-1], settings.embedding_size)

    def forward(self, feats: Tensor, maps: SparseMaps, rows: Tensor | None = None) -> Tensor:
        """Input features (V, F) -> embeddings of the voxels `rows` (P,), or else of all.

        They are (P, C) or (V, C), not normalised.
        """
        features = self.backbone(feats, maps)
        embeddings: Tensor = self.head(
            features if rows is None else features.index_select(0, rows)
        )
        return embeddings


class Bias(nn.Module):
    """What is left of a batch norm after folding."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def folded_copy(student: Student) -> Student:
    """The student for inference: a copy in evaluation mode, batch norm folded."""
    copy = deepcopy(student).eval()
    fold_batch_norm(copy)
    return copy


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> None:
    """Move every batch norm's scale into its kernel, in place; only for inference.

    `norm(x W) = x (W s) + (beta - mean s)` with `s = gamma / sqrt(var + eps)`.
    """
    for layer in module.modules():
        if isinstance(layer, SparseConv | Shortcut) and isinstance(layer.norm, nn.BatchNorm1d):
            norm = layer.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            layer.kernel.mul_(scale)
            layer.norm = Bias(norm.bias - norm.running_mean * scale)
