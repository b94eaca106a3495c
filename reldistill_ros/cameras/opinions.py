# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a 2D network takes pixels for, as cosines to the words in use.

A network that gives features in the text space speaks through `PatchOpinions`; one that knows
classes, on board or as class maps in files, through `ClassOpinions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.prompts import center, unit_rows


@dataclass(frozen=True, eq=False)
class Opinions:
    """Opinions on P pixels.

    Attributes:
        cosines: (P, M) float32, to each prompt.
        confidences: (P,) float32 from 0 (no opinion) to 1, as the network states it.
    """

    cosines: NDArray[np.float32]
    confidences: NDArray[np.float32]


class PixelOpinions(Protocol):
    """One image's opinions, asked for where lidar points fall."""

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        """Opinions at pixels (P, 2) inside the image; the centre of the top left is (0, 0)."""


class Encoded(Protocol):
    """One encoded image, to be compared with any words."""

    def opinions(self, prompts: NDArray[np.float32]) -> PixelOpinions:
        """Opinions in terms of prompts (M, C); kept while the array is the same one."""


@dataclass(frozen=True, eq=False)
class ClassOpinions:
    """Class maps: an opinion is that of the nearest cell.

    Attributes:
        image_size: H, W of the camera image.
        class_map: (h, w) uint8, covers the image, any size.
        confidences: (h', w') uint8, the network's probability of the class times 255.
        cosines: (256, M) of each class, see `class_cosines`.
        known: (256,) bool, classes that are an opinion.
    """

    image_size: tuple[int, int]
    class_map: NDArray[np.uint8]
    confidences: NDArray[np.uint8]
    cosines: NDArray[np.float32]
    known: NDArray[np.bool_]

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        classes = nearest_cells(self.class_map, pixels, self.image_size)
        cells = nearest_cells(self.confidences, pixels, self.image_size)
        stated = cells.astype(np.float32) / 255
        return Opinions(self.cosines[classes], np.where(self.known[classes], stated, 0))


def nearest_cells(
    cells: NDArray[np.uint8], pixels: NDArray[np.floating], image_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Cells (P,) of a map (h, w) under pixels (P, 2) of an image (H, W) that it covers entirely."""
    size = np.array(cells.shape[::-1])
    places = (pixels.astype(np.float64) + 0.5) * size / np.array(image_size[::-1])
    # the last pixel's far edge may round up to one past the end
    columns, rows = np.clip(places.astype(np.int64), 0, size - 1).T
    found: NDArray[np.uint8] = cells[rows, columns]
    return found


def class_cosines(
    embeddings: NDArray[np.float32], prompts: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Tables for `ClassOpinions`.

    Args:
        embeddings: (L, C) unit rows of the network's L classes, centred as the prompts are; a
            zero row stands for a class that is no opinion, such as the sky.
        prompts: (M, C) unit rows.

    Returns:
        (256, M) cosines and (256,) which classes are opinions; those from L on are none.
    """
    cosines = np.zeros((256, len(prompts)), np.float32)
    cosines[: len(embeddings)] = embeddings @ prompts.T
    known = np.zeros(256, np.bool_)
    known[: len(embeddings)] = embeddings.any(axis=1)
    return cosines, known


@dataclass(frozen=True, eq=False)
class PatchOpinions:
    """Cosines of patches: an opinion is interpolated bilinearly between their centres.

    Attributes:
        image_size: H, W of the camera image.
        cosines: (h, w, M) float32; the patches cover the image edge to edge.
    """

    image_size: tuple[int, int]
    cosines: NDArray[np.float32]

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        size = np.array(self.cosines.shape[1::-1])
        places = (pixels.astype(np.float64) + 0.5) * size / self.image_size[::-1] - 0.5
        places = np.clip(places, 0, size - 1)
        low = places.astype(np.int64)
        high = np.minimum(low + 1, size - 1)
        right, down = (places - low).astype(np.float32).T[..., None]
        upper, lower = (
            self.cosines[row, low[:, 0]] * (1 - right) + self.cosines[row, high[:, 0]] * right
            for row in (low[:, 1], high[:, 1])
        )
        return Opinions(upper * (1 - down) + lower * down, np.ones(len(pixels), np.float32))


def patch_cosines(
    features: NDArray[np.float32], mean: NDArray[np.float32], prompts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosines (h, w, M) of patch features (C, h, w) of any length, centred with `mean` (C,).

    Args:
        features: in the text space.
        mean: what the prompts were centred with; zeros where they were not.
        prompts: (M, C) unit rows.
    """
    rows = unit_rows(features.reshape(len(features), -1).T)
    cosines = center(rows, mean) @ prompts.T
    return cosines.reshape(*features.shape[1:], len(prompts))
