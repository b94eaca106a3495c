# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Colours for classes that nobody chose a colour for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

# Far from what the pictures and the node show unlabelled points in, and from their background.
RESERVED: tuple[Color, ...] = ((96, 96, 96), (0, 0, 0), (255, 255, 255))
LEVELS = np.array([0, 40, 80, 120, 160, 190, 220, 255])  # of red, green and blue


def distinct_colors(num: int, taken: Sequence[Color]) -> list[Color]:
    """Choose colours one after the other, each as far as can be from all before it.

    Args:
        num: how many, so that `num` and `taken` are not more than the palette, 509.
        taken: those of other classes.

    Returns:
        RGB from 0 to 255; the first ones do not depend on how many follow.
    """
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing='ij'), axis=-1).reshape(-1, 3)
    distances = np.full(len(grid), np.inf)
    for color in (*RESERVED, *taken):
        distances = np.minimum(distances, _squared_distances(grid, color))
    colors: list[Color] = []
    for _ in range(num):
        red, green, blue = grid[distances.argmax()].tolist()
        colors.append((red, green, blue))
        distances = np.minimum(distances, _squared_distances(grid, colors[-1]))
    return colors


def _squared_distances(grid: NDArray[np.int64], color: Color) -> NDArray[np.float64]:
    """As the eye sees them, roughly: green differs most, blue least."""
    difference = (grid - np.array(color)) * np.sqrt([0.3, 0.5, 0.2])
    distances: NDArray[np.float64] = np.square(difference).sum(axis=1)
    return distances
