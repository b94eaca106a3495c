# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels of lidar points drawn on a camera's image, with what their colours mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.visibility import Pairs
from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary

LEGEND_ENTRIES = 24
LINE_HEIGHT = 18  # pixels
MARGIN = 6
NAME_LENGTH = 28
PANEL = (24, 24, 24)
TEXT = (235, 235, 235)
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class OverlayStyle:
    """How to draw.

    Attributes:
        width: larger images are scaled down to this many pixels.
        point_size: edge of a point in pixels.
        opacity: of the points.
    """

    width: int = 960
    point_size: int = 4
    opacity: float = 0.8


def draw_overlay(
    picture: Image,
    pairs: Pairs,
    class_ids: NDArray[np.uint8],
    vocabulary: Vocabulary,
    style: OverlayStyle,
) -> Image:
    """Draw the labelled points over an image, near ones over far ones; unlabelled ones are not.

    Args:
        picture: (H, W, 3), the pinhole image.
        pairs: P points that the camera sees, and where.
        class_ids: (P,) their classes.
        vocabulary: of the classes.
        style: see there.

    Returns:
        (H', W', 3) RGB, with a legend of the classes in the picture.
    """
    drawn, scale = scale_down(picture, style.width)
    labelled = class_ids != IGNORE_INDEX
    seen, classes = pairs.select(labelled), class_ids[labelled]
    colors = vocabulary.color_table(PANEL)[classes]
    _stamp(drawn, (seen.pixels + 0.5) * scale, colors, depths=seen.depths, style=style)
    _draw_legend(drawn, np.unique(classes), vocabulary)
    return drawn


def scale_down(picture: Image, width: int) -> tuple[Image, float]:
    """A copy of an image that is at most so wide, and its scale."""
    scale = min(width / picture.shape[1], 1.0)
    if scale == 1.0:
        return picture.copy(), scale
    cv2 = import_extra('cv2', 'cameras')
    size = (width, max(round(picture.shape[0] * scale), 1))
    smaller: Image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return smaller, scale


def _stamp(
    image: Image,
    places: NDArray[np.float32],
    colors: Image,
    *,
    depths: NDArray[np.float32],
    style: OverlayStyle,
) -> None:
    """Paint a square at each place (P, 2), the nearest last."""
    order = np.argsort(-depths, kind='stable')
    reach = np.arange(style.point_size) - (style.point_size - 1) // 2
    down, right = (grid.ravel() for grid in np.meshgrid(reach, reach, indexing='ij'))
    corners = np.floor(places[order]).astype(np.int64)
    rows = np.clip(corners[:, 1:] + down, 0, image.shape[0] - 1).ravel()
    columns = np.clip(corners[:, :1] + right, 0, image.shape[1] - 1).ravel()
    # of several values for one pixel the last counts
    nearest = np.full(image.shape[:2], -1, np.int64)
    nearest[rows, columns] = np.repeat(order, len(down))
    hit = nearest >= 0
    mixed = (1 - style.opacity) * image[hit] + style.opacity * colors[nearest[hit]]
    image[hit] = np.rint(mixed).astype(np.uint8)


def _draw_legend(image: Image, classes: NDArray[np.uint8], vocabulary: Vocabulary) -> None:
    """Name the classes in the upper left corner, as many as there is room for."""
    pillow, draw, font = (
        import_extra(f'PIL.{module}', 'cameras') for module in ('Image', 'ImageDraw', 'ImageFont')
    )
    room = (image.shape[0] - 2 * MARGIN) // LINE_HEIGHT
    shown = classes[: min(room, LEGEND_ENTRIES)].tolist()
    names = [vocabulary.class_names[index][:NAME_LENGTH] for index in shown]
    if not names:
        return
    letters = font.load_default(LINE_HEIGHT - 5)
    width = int(max(map(letters.getlength, names))) + LINE_HEIGHT + 3 * MARGIN
    panel = pillow.new('RGB', (width, len(names) * LINE_HEIGHT + 2 * MARGIN), PANEL)
    pen = draw.Draw(panel)
    for line, (index, name) in enumerate(zip(shown, names)):
        top = MARGIN + line * LINE_HEIGHT
        box = (MARGIN, top + 2, MARGIN + LINE_HEIGHT - 4, top + LINE_HEIGHT - 3)
        pen.rectangle(box, fill=vocabulary.classes[index].color, outline=TEXT)
        pen.text((2 * MARGIN + LINE_HEIGHT - 4, top), name, fill=TEXT, font=letters)
    pixels = np.asarray(panel)[: image.shape[0], : image.shape[1]]
    image[: pixels.shape[0], : pixels.shape[1]] = pixels
