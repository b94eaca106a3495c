# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Teachers that see an image as patches, and reading out between the patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainer.datasets.sample import CameraImage
from trainer.teachers.grids import ImageGrids, sample_grid
from trainer.teachers.teacher import is_inside


class PatchTeacher:
    """A network's patch features as a teacher.

    Args:
        grids: the features of whole images.
    """

    def __init__(self, grids: ImageGrids) -> None:
        self.name = grids.name
        self.embedding_size = grids.embedding_size
        self._grids = grids

    def __call__(self, image: CameraImage) -> PatchFeatures:
        return PatchFeatures(self._grids(image.image).float(), image.image.shape[:2])


@dataclass(frozen=True)
class PatchFeatures:
    """The features of one image.

    Attributes:
        patches: (1, C, h, w), covers the image edge to edge.
        image_size: H, W of the camera image.
    """

    patches: Tensor
    image_size: tuple[int, int]

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Unit features (P, C) at pixels (P, 2), bilinear between the centres of patches."""
        inside = is_inside(pixels, self.image_size)
        features = np.zeros((len(pixels), self.patches.shape[1]), dtype=np.float32)
        sampled = sample_grid(self.patches, pixels[inside], self.image_size)
        features[inside] = F.normalize(sampled, dim=1).numpy()
        return features
