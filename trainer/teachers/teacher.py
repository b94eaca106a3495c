# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a 2D teacher is: an image in, unit features at any pixel out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.sample import CameraImage


class DenseFeatures(Protocol):
    """One image's features, asked for where lidar points fall."""

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Read features at pixels.

        Args:
            pixels: (P, 2) float, u right and v down in pixels of the image; the centre of the
                top left pixel is (0, 0).

        Returns:
            (P, C) unit rows; all-zero rows carry no supervision (outside the image, too).
        """


class Teacher(Protocol):
    """A frozen 2D network whose features lie in the space of a text encoder, or in its own.

    Attributes:
        name: identifies network, weights and space.
        embedding_size: C.
    """

    @property
    def name(self) -> str: ...

    @property
    def embedding_size(self) -> int: ...

    def __call__(self, image: CameraImage) -> DenseFeatures:
        """Look at an image; InputError where it lacks what the teacher needs."""


def is_inside(pixels: NDArray[np.floating], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixels (P, 2) lie on an image of `image_size` (H, W); NaN lies outside."""
    height, width = image_size
    u, v = pixels[:, 0], pixels[:, 1]
    return (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
