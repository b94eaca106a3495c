# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Teachers that see an image as patches: scaling, reading out between patches, keeping them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.core.errors import InputError
from trainer.datasets.sample import CameraImage
from trainer.teachers.feature_cache import FeatureCache
from trainer.teachers.teacher import is_inside

Rgb = tuple[float, float, float]


class PatchNetwork(Protocol):
    """A frozen vision transformer without words, such as DINOv2.

    Attributes:
        name: identifies network and weights.
        embedding_size: C.
        patch_size: edge of a square patch in pixels.
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
        """Features (1, C, h, w) of normalised pixels (1, 3, h * patch, w * patch)."""


class PatchTeacher:
    """A network's patch features as a teacher.

    Args:
        network: what computes them.
        size: the image is scaled, its aspect ratio kept, until its shorter side has this many
            pixels; or the height and width that it is squeezed to.
        cache: folder to keep the features of every image in, None to compute them each time.

    Raises:
        InputError: `size` is not a whole number of patches.
    """

    def __init__(
        self, network: PatchNetwork, *, size: int | tuple[int, int], cache: Path | None = None
    ) -> None:
        for side in (size,) if isinstance(size, int) else size:
            check_short_side(side, network.patch_size)
        shown = size if isinstance(size, int) else f'{size[0]}x{size[1]}'
        self.name = f'{network.name}/{shown}'
        self.embedding_size = network.embedding_size
        self._network, self._size = network, size
        self._cache = FeatureCache(cache, self.name) if cache else None

    def __call__(self, image: CameraImage) -> PatchFeatures:
        pixels = image.image
        kept = self._cache(pixels, self._compute) if self._cache else self._compute(pixels)
        return PatchFeatures(kept.float(), pixels.shape[:2])

    @torch.no_grad()
    def _compute(self, image: NDArray[np.uint8]) -> Tensor:
        """Features (1, C, h, w), unit length, in half precision whether kept or not."""
        network, size = self._network, self._size
        if isinstance(size, int):
            size = scaled_size(image.shape[:2], size, network.patch_size)
        scaled = scale_image(image, size, network.device)
        mean, std = (scaled.new_tensor(v).reshape(1, 3, 1, 1) for v in (network.mean, network.std))
        return F.normalize(network((scaled - mean) / std).float(), dim=1).half().cpu()


@dataclass(frozen=True)
class PatchFeatures:
    """The features of one image.

    Attributes:
        patches: (1, C, h, w) unit length along C, covers the image edge to edge.
        image_size: H, W of the camera image.
    """

    patches: Tensor
    image_size: tuple[int, int]

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features (P, C) at pixels (P, 2), bilinear between the centres of patches."""
        inside = is_inside(pixels, self.image_size)
        features = np.zeros((len(pixels), self.patches.shape[1]), dtype=np.float32)
        height, width = self.image_size
        # grid_sample counts from -1 to 1, edge to edge.
        grid = (pixels[inside].astype(np.float64) + 0.5) * 2 / np.array([width, height]) - 1
        grid_tensor = torch.from_numpy(grid).to(self.patches)[None, None]  # (1, 1, P, 2)
        sampled = F.grid_sample(
            self.patches, grid_tensor, padding_mode='border', align_corners=False
        )
        features[inside] = F.normalize(sampled[0, :, 0].T, dim=1).cpu().numpy()
        return features


def scale_image(image: NDArray[np.uint8], size: tuple[int, int], device: str) -> Tensor:
    """Scale an image (H, W, 3) to `size` (h, w): (1, 3, h, w) float32 from 0 to 1."""
    pixels = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    # Pillow's bicubic filter, which such networks are trained with, clips what overshoots.
    return F.interpolate(pixels, size, mode='bicubic', antialias=True).clamp(0, 1)


def scaled_size(image_size: tuple[int, int], short_side: int, patch: int) -> tuple[int, int]:
    """Size (H, W) with the short side as asked and the other to the nearest whole patch."""
    scale = short_side / min(image_size)
    height, width = (max(1, round(side * scale / patch)) * patch for side in image_size)
    return height, width


def check_short_side(short_side: int, patch: int) -> None:
    """Refuse a side that is not a whole number of patches.

    Raises:
        InputError: it is not.
    """
    if short_side % patch:
        nearest = max(1, round(short_side / patch)) * patch
        raise InputError(
            'the size of the image for the teacher is not a whole number of patches',
            expected=f'a multiple of {patch}',
            got=short_side,
            fix=f'set {nearest}',
        )
