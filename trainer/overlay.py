# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of lidar points over camera images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing

NEAREST_DEPTH, FARTHEST_DEPTH = 3.0, 80.0  # ends of the colour scale in metres
HIDDEN_COLOR = (255, 0, 255)
POINTS_PER_WIDTH = 640  # a point is drawn as wide as the image over this


def draw_overlay(
    image: NDArray[np.uint8],
    pixels: NDArray[np.floating[Any]],
    depths: NDArray[np.floating[Any]],
    hidden_pixels: NDArray[np.floating[Any]],
) -> NDArray[np.uint8]:
    """Draw points over an image: red is near, blue far, magenta hidden from the camera.

    Args:
        image: (H, W, 3) RGB.
        pixels: (P, 2) of the visible points.
        depths: (P,) in metres.
        hidden_pixels: (Q, 2) of the hidden points.

    Returns:
        (H, W, 3) RGB, the image darkened.
    """
    canvas = image // 2
    order = np.argsort(-depths)  # near points on top
    _draw_points(canvas, hidden_pixels, np.array([HIDDEN_COLOR], dtype=np.uint8))
    _draw_points(canvas, pixels[order], depth_colors(depths[order]))
    return canvas


def depth_colors(depths: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """(P, 3) RGB of depths in metres, over a logarithmic scale."""
    pillow = import_extra('PIL.Image', 'train')
    clipped = np.clip(depths, NEAREST_DEPTH, FARTHEST_DEPTH)
    share = np.log(clipped / NEAREST_DEPTH) / np.log(FARTHEST_DEPTH / NEAREST_DEPTH)
    hsv = np.full((1, len(depths), 3), 255, dtype=np.uint8)
    hsv[0, :, 0] = np.rint(share * 170)  # pillow's hue: red is 0, blue is 170
    colors: NDArray[np.uint8] = np.asarray(pillow.fromarray(hsv, 'HSV').convert('RGB'))[0]
    return colors


def write_png(pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write pictures (H, W, 3) below one another; the file appears when it is complete."""
    pillow = import_extra('PIL.Image', 'train')
    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        pillow.fromarray(np.concatenate(padded)).save(partial, format='PNG')


def _draw_points(
    canvas: NDArray[np.uint8], pixels: NDArray[np.floating[Any]], colors: NDArray[np.uint8]
) -> None:
    """Draw squares; of two in one place the later one stays."""
    height, width = canvas.shape[:2]
    half = max(0, round(width / POINTS_PER_WIDTH) - 1)
    columns, rows = np.rint(pixels).astype(np.int64).T
    for shift in np.ndindex(2 * half + 1, 2 * half + 1):
        shifted_rows = np.clip(rows + shift[0] - half, 0, height - 1)
        shifted_columns = np.clip(columns + shift[1] - half, 0, width - 1)
        canvas[shifted_rows, shifted_columns] = colors
