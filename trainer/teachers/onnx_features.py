# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Patch features out of any ONNX graph that computes them on its way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reldistill_ros.core.errors import InputError
from trainer.teachers.grids import Rgb
from trainer.teachers.onnx_session import OnnxGraph


class OnnxNetwork:
    """A graph with images in and, somewhere inside, patch features; see `PatchNetwork`.

    Args:
        graph: cut at the features, (1, prefix + h * w, C) or (1, C, h, w).
        patch_size: edge of a patch in pixels.
        prefix_tokens: class and register tokens before the patches; unused for (1, C, h, w).
        mean: of RGB from 0 to 1 that the graph's weights were trained with.
        std: likewise.
        size: height and width to try the graph with.

    Raises:
        InputError: the tensor is not of the shape that is said here.
    """

    device = 'cpu'

    def __init__(
        self,
        graph: OnnxGraph,
        *,
        patch_size: int,
        prefix_tokens: int,
        mean: Rgb,
        std: Rgb,
        size: tuple[int, int],
    ) -> None:
        self.patch_size, self.mean, self.std = patch_size, mean, std
        self._prefix_tokens, self._graph = prefix_tokens, graph
        self.name = f'onnx_features/{graph.name}/mean {mean} std {std}'
        self.embedding_size: int = self(torch.zeros(1, 3, *size)).shape[1]

    def __call__(self, pixels: Tensor) -> Tensor:
        # one by one: a graph may have been exported for one image
        return torch.cat([F.normalize(self._patches(image[None]), dim=1) for image in pixels])

    def _patches(self, pixels: Tensor) -> Tensor:
        grid = (pixels.shape[2] // self.patch_size, pixels.shape[3] // self.patch_size)
        features = torch.from_numpy(self._graph(pixels.numpy())).float()
        if features.shape[:2] == (1, self._prefix_tokens + grid[0] * grid[1]):
            patches = features[:, self._prefix_tokens :]  # (1, h * w, C)
            features = patches.transpose(1, 2).reshape(1, -1, *grid)
        elif features.ndim != 4 or features.shape[2:] != grid:
            raise self._wrong_shape(tuple(features.shape), grid)
        return features

    def _wrong_shape(self, shape: tuple[int, ...], grid: tuple[int, int]) -> InputError:
        rows, columns = grid
        return InputError(
            'the tensor does not hold the patch features of the image',
            where=self._graph.where,
            expected=f'(1, {self._prefix_tokens} + {rows} * {columns}, C) or '
            f'(1, C, {rows}, {columns})',
            got=shape,
            fix='name another tensor, or correct patch_size or prefix_tokens',
        )
