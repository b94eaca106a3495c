# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a 2D network takes pixels for, as cosines to the words in use.

An image knows few things: what each of its patches looks like, or the classes that its network
tells apart. So its opinions are a table with a row for each of these, and a pixel refers to the
rows that it is made of: what depends on the words is done for the rows, not for every point.
A network that gives features in the text space speaks through `PatchOpinions`; one that knows
classes, on board or as class maps in files, through `ClassOpinions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.compiled import as_kernel_array, compiled
from reldistill_ros.core.prompts import center, unit_rows


@dataclass(frozen=True, eq=False)
class Opinions:
    """Opinions on P pixels, each a mixture of J rows of a table.

    Attributes:
        table: (R, M) float32, cosines of each row to each prompt.
        rows: (P, J) int32, rows of the table.
        weights: (P, J) float32, of these rows; they sum to 1.
        confidences: (P,) float32 from 0 (no opinion) to 1, as the network states it.
    """

    table: NDArray[np.float32]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    confidences: NDArray[np.float32]

    @property
    def cosines(self) -> NDArray[np.float32]:
        """(P, M), to each prompt."""
        mixed: NDArray[np.float32] = np.einsum(
            'pj,pjm->pm', self.weights, self.table[self.rows], dtype=np.float32
        )
        return mixed


def single_rows(
    table: NDArray[np.float32], rows: NDArray[np.integer], confidences: NDArray[np.float32]
) -> Opinions:
    """Opinions (P,) that are one row of a table each."""
    column = rows.astype(np.int32)[:, None]
    weights = np.ones(column.shape, np.float32)
    return Opinions(table, column, weights, np.asarray(confidences, np.float32))


class PixelOpinions(Protocol):
    """One image's opinions, asked for where lidar points fall."""

    @property
    def table(self) -> NDArray[np.float32]:
        """(R, M), that of all its `Opinions`."""

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        """Opinions at pixels (P, 2) inside the image; the centre of the top left is (0, 0)."""


class Encoded(Protocol):
    """One encoded image, to be compared with any words.

    Attributes:
        num_bytes: that it keeps.
        stretch: how much wider the image was, by its height, than what the network sees.
    """

    num_bytes: int
    stretch: float

    def opinions(self, prompts: NDArray[np.float32]) -> PixelOpinions:
        """Opinions in terms of prompts (M, C): some milliseconds."""


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

    @property
    def table(self) -> NDArray[np.float32]:
        return self.cosines

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        classes = nearest_cells(self.class_map, pixels, self.image_size)
        cells = nearest_cells(self.confidences, pixels, self.image_size)
        stated = cells.astype(np.float32) / 255
        return single_rows(self.cosines, classes, np.where(self.known[classes], stated, 0))


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

    @property
    def table(self) -> NDArray[np.float32]:
        return self.cosines.reshape(-1, self.cosines.shape[2])

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        rows = np.empty((len(pixels), 4), np.int32)
        weights = np.empty((len(pixels), 4), np.float32)
        grid = (self.cosines.shape[0], self.cosines.shape[1])
        _interpolate(as_kernel_array(pixels, np.float32), self.image_size, grid, rows, weights)
        return Opinions(self.table, rows, weights, np.ones(len(pixels), np.float32))


def unit_features(features: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows (h w, C) of patch features (C, h, w) of any length, centred with `mean` (C,).

    Args:
        features: in the text space.
        mean: what the prompts were centred with; zeros where they were not.
    """
    return center(unit_rows(features.reshape(len(features), -1).T), mean)


@compiled()
def _interpolate(
    pixels: NDArray[np.float32],
    image_size: tuple[int, int],
    grid: tuple[int, int],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """The four patches around each pixel, at the edge the same ones twice, and their shares."""
    height, width = grid
    for i in range(len(pixels)):
        x = min(max((float(pixels[i, 0]) + 0.5) * width / image_size[1] - 0.5, 0.0), width - 1.0)
        y = min(max((float(pixels[i, 1]) + 0.5) * height / image_size[0] - 0.5, 0.0), height - 1.0)
        left, top = int(x), int(y)
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        dx, dy = x - left, y - top
        rows[i, 0], weights[i, 0] = top * width + left, (1 - dy) * (1 - dx)
        rows[i, 1], weights[i, 1] = top * width + right, (1 - dy) * dx
        rows[i, 2], weights[i, 2] = bottom * width + left, dy * (1 - dx)
        rows[i, 3], weights[i, 3] = bottom * width + right, dy * dx
