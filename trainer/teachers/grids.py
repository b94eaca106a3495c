# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From an image to the grid that a network makes of it: scaling, windows, keeping, reading out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.core.errors import InputError
from trainer.teachers.feature_cache import FeatureCache
from trainer.teachers.windows import WindowSettings, slide

Rgb = tuple[float, float, float]
Size = int | tuple[int, int]


class PatchNetwork(Protocol):
    """A frozen image network that says something of every patch.

    Attributes:
        name: identifies network, weights and what is read out of it.
        embedding_size: C.
        patch_size: sides of its input are multiples of so many pixels.
        mean: of RGB from 0 to 1 in its training.
        std: likewise.
        device: where it runs.
    """

    name: str
    embedding_size: int
    patch_size: int
    mean: Rgb
    std: Rgb
    device: str

    def __call__(self, pixels: Tensor) -> Tensor:
        """Grid (N, C, h, w) of normalised pixels (N, 3, H, W), which it covers edge to edge.

        Features have unit length along C, probabilities the sum 1.
        """


class ImageGrids:
    """A network's grids of whole images, computed by `network`.

    Args:
        network: what computes them.
        size: the image is scaled, its aspect ratio kept, until its shorter side has this many
            pixels; or the height and width that it is squeezed to.
        windows: that the scaled image is seen through; None to see it at once.
        cache: folder to keep the grid of every image in, None to compute it each time.

    Raises:
        InputError: a size is not a whole number of patches.
    """

    def __init__(
        self,
        network: PatchNetwork,
        *,
        size: Size,
        windows: WindowSettings | None = None,
        cache: Path | None = None,
    ) -> None:
        sides = (size,) if isinstance(size, int) else size
        for side in (*sides, *((windows.size, windows.stride) if windows else ())):
            check_side(side, network.patch_size)
        shown = 'x'.join(map(str, sides))
        seen = f'/windows {windows.size} by {windows.stride}' if windows else ''
        self.name = f'{network.name}/{shown}{seen}'
        self.embedding_size = network.embedding_size
        self.network = network
        self.cache = FeatureCache(cache, self.name) if cache else None
        self._size, self._windows = size, windows

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """Grid (1, C, h, w) of an image (H, W, 3), in half precision whether kept or not."""
        if self.cache is None:
            return self.compute(image)
        key = self.cache.key(image)
        grid = self.cache.read(key)
        if grid is None:
            grid = self.compute(image)
            self.cache.write(key, grid)
        return grid

    @torch.no_grad()
    def compute(self, image: NDArray[np.uint8]) -> Tensor:
        """The same without looking whether it was kept."""
        network = self.network
        size = self.input_size((image.shape[0], image.shape[1]))
        pixels = normalise(scale_image(image, size, network.device), network.mean, network.std)
        return self.see(pixels).half().cpu()

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that an image (H, W) is scaled to."""
        if isinstance(self._size, int):
            return scaled_size(image_size, self._size, self.network.patch_size)
        return self._size

    def see(self, pixels: Tensor) -> Tensor:
        """Grid (1, C, h, w) of a scaled and normalised image (1, 3, H, W)."""
        if self._windows:
            return slide(self.network, pixels, self._windows, self.network.patch_size)
        return self.network(pixels)


def sample_grid(grid: Tensor, pixels: NDArray[np.floating], size: tuple[int, int]) -> Tensor:
    """Read a grid out at pixels, bilinear between the centres of its cells.

    Args:
        grid: (1, C, h, w), covers the image edge to edge.
        pixels: (P, 2) on the image.
        size: H, W of the image.

    Returns:
        (P, C).
    """
    height, width = size
    # grid_sample counts from -1 to 1, edge to edge
    places = (pixels.astype(np.float64) + 0.5) * 2 / np.array([width, height]) - 1
    where = torch.from_numpy(places).to(grid)[None, None]  # (1, 1, P, 2)
    return F.grid_sample(grid, where, padding_mode='border', align_corners=False)[0, :, 0].T


def scale_image(image: NDArray[np.uint8], size: tuple[int, int], device: str) -> Tensor:
    """Scale an image (H, W, 3) to `size` (h, w): (1, 3, h, w) float32 from 0 to 1."""
    pixels = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    # Pillow's bicubic filter, which such networks are trained with, clips what overshoots.
    return F.interpolate(pixels, size, mode='bicubic', antialias=True).clamp(0, 1)


def normalise(scaled: Tensor, mean: Rgb, std: Rgb) -> Tensor:
    """Subtract the mean of each colour of (1, 3, h, w), and divide by its deviation."""
    shift, scale = (scaled.new_tensor(values).reshape(1, 3, 1, 1) for values in (mean, std))
    return (scaled - shift) / scale


def scaled_size(image_size: tuple[int, int], short_side: int, patch: int) -> tuple[int, int]:
    """Size (H, W) with the short side as asked and the other to the nearest whole patch."""
    scale = short_side / min(image_size)
    height, width = (max(1, round(side * scale / patch)) * patch for side in image_size)
    return height, width


def check_side(side: int, patch: int) -> None:
    """Refuse a side that is not a whole number of patches.

    Raises:
        InputError: it is not.
    """
    if side % patch:
        nearest = max(1, round(side / patch)) * patch
        raise InputError(
            'the size of the image for the teacher is not a whole number of patches',
            expected=f'a multiple of {patch}',
            got=side,
            fix=f'set {nearest}',
        )
