# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Prompt denoising (MaskCLIP, Zhou et al., ECCV 2022): no word for what the image does not show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainer.datasets.sample import CameraImage
from trainer.teachers.patches import PatchFeatures, PatchTeacher

LOGIT_SCALE = 100.0  # inverse temperature that CLIP's training ends with, as in MaskCLIP


class DenoisedTeacher:
    """A teacher of patches in a text space, silent where it reads a class that is not there.

    A class whose probability (softmax over all classes) stays below the threshold at every
    patch is taken to be absent from the image. MaskCLIP takes such a class out of its
    predictions; a teacher of features has none, so the pixels whose nearest class is absent
    carry no supervision. Features are kept, if they are, as they were before: words and
    threshold may change freely.

    Args:
        teacher: of patches.
        class_embeddings: (K, C) unit rows in its text space.
        threshold: 0 to 1; 0.5 in MaskCLIP.
    """

    def __init__(
        self, teacher: PatchTeacher, class_embeddings: NDArray[np.float32], threshold: float
    ) -> None:
        self.name = f'{teacher.name}/denoised below {threshold:g}'
        self.embedding_size = teacher.embedding_size
        self._teacher, self._threshold = teacher, threshold
        self._class_embeddings = class_embeddings

    def __call__(self, image: CameraImage) -> DenoisedFeatures:
        dense = self._teacher(image)
        seen = highest_probabilities(dense.patches, torch.from_numpy(self._class_embeddings))
        absent = (seen < self._threshold).numpy()
        return DenoisedFeatures(dense, self._class_embeddings, absent)


@dataclass(frozen=True)
class DenoisedFeatures:
    """The teacher's features of one image.

    Attributes:
        dense: before.
        class_embeddings: (K, C).
        absent: (K,) classes that the image does not show.
    """

    dense: PatchFeatures
    class_embeddings: NDArray[np.float32]
    absent: NDArray[np.bool_]

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features (P, C) at pixels (P, 2), zero where the nearest class is absent."""
        features = self.dense.at(pixels)
        nearest = (features @ self.class_embeddings.T).argmax(axis=1)
        features[self.absent[nearest]] = 0
        return features


def highest_probabilities(patches: Tensor, class_embeddings: Tensor) -> Tensor:
    """Highest probability (K,) of each class (K, C) over the patches (1, C, h, w) of an image."""
    features = F.normalize(patches[0].flatten(1), dim=0)  # (C, h * w)
    probabilities = (LOGIT_SCALE * class_embeddings @ features).softmax(dim=0)
    return probabilities.amax(dim=1)
