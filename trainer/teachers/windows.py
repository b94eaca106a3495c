# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sliding windows: a network sees a large image in pieces of the size that it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from pydantic import Field, model_validator
from torch import Tensor

from reldistill_ros.core.settings import Settings

BATCH_SIZE = 16


class WindowSettings(Settings):
    """Square windows over the scaled image.

    Attributes:
        size: edge in pixels, a multiple of the patch size; best what the network was trained
            with. A shorter side of the image is taken whole.
        stride: pixels from one window to the next, a multiple of the patch size. Where windows
            overlap their features are averaged.
    """

    size: int = Field(gt=0)
    stride: int = Field(gt=0)

    @model_validator(mode='after')
    def _windows_meet(self) -> WindowSettings:
        if self.stride > self.size:
            raise ValueError('between the windows there would be gaps: stride is above size')
        return self


def slide(
    network: Callable[[Tensor], Tensor], pixels: Tensor, windows: WindowSettings, patch_size: int
) -> Tensor:
    """Mean of what a network says of each patch in all windows that hold it.

    Args:
        network: (N, 3, H, W) to (N, C, H / patch, W / patch).
        pixels: (1, 3, H, W), normalised.
        windows: size and stride.
        patch_size: edge of a patch in pixels; divides all sides.

    Returns:
        (1, C, H / patch, W / patch).
    """
    height, width = (min(windows.size, side) for side in pixels.shape[2:])
    corners = list(product(*(window_starts(side, windows) for side in pixels.shape[2:])))
    rows, columns = (side // patch_size for side in pixels.shape[2:])
    total, count = pixels.new_zeros(()), pixels.new_zeros(rows, columns)
    for first in range(0, len(corners), BATCH_SIZE):
        batch = corners[first : first + BATCH_SIZE]
        seen = network(torch.cat([pixels[..., y : y + height, x : x + width] for y, x in batch]))
        if not total.ndim:
            total = seen.new_zeros(seen.shape[1], rows, columns)
        for (y, x), features in zip(batch, seen):
            top, left = y // patch_size, x // patch_size
            inside = slice(top, top + features.shape[1]), slice(left, left + features.shape[2])
            total[(slice(None), *inside)] += features
            count[inside] += 1
    return (total / count)[None]


def window_starts(side: int, windows: WindowSettings) -> list[int]:
    """Where windows along a side begin: at every stride, and so that the last ends with it."""
    last = max(side - windows.size, 0)
    return [*range(0, last, windows.stride), last]
