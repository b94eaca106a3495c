# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labelled points from above, and what all dark pictures of labels have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

BACKGROUND = '#101418'
UNLABELLED = (58, 64, 72)
HALF_WIDTH = 35.0  # metres shown to each side in a bird's-eye view
DPI = 110


def draw_birds_eye(
    points: NDArray[np.float32], labels: Mapping[str, NDArray[np.uint8]], vocabulary: Vocabulary
) -> Figure:
    """Draw labellings of a sweep side by side from above, x (forward) up.

    Args:
        points: (N, 4) in the lidar frame; rows may be not finite.
        labels: title of each view and its (N,) labels.
        vocabulary: colours.
    """
    figure = dark_figure(5.2 * len(labels), 6.1)
    order = np.argsort(points[:, 2])  # what is higher covers what is below
    for axes, (title, classes) in zip(
        np.atleast_1d(figure.subplots(1, len(labels))), labels.items()
    ):
        colors = label_colors(classes[order], vocabulary)
        scatter(axes, -points[order, 1], points[order, 0], colors, size=1.8)
        axes.set_title(title, color='white')
        axes.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect='equal')
    add_class_legend(figure, [*labels.values()], vocabulary, ncols=min(4 * len(labels), 8))
    return figure


def dark_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    module = import_extra('matplotlib.figure', 'replay')
    figure: Figure = module.Figure(
        figsize=(width, height), facecolor=BACKGROUND, layout='constrained'
    )
    return figure


def scatter(
    axes: Axes,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    colors: NDArray[np.float64],
    size: float,
) -> None:
    """Put coloured points (N,) on a dark ground without ticks."""
    axes.scatter(x, y, c=colors, s=size, linewidths=0, rasterized=True)
    axes.set_facecolor(BACKGROUND)
    axes.set_xticks([])
    axes.set_yticks([])


def label_colors(labels: NDArray[np.uint8], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """RGB from 0 to 1 of each label, (N, 3)."""
    colors: NDArray[np.float64] = vocabulary.color_table(UNLABELLED)[labels] / 255
    return colors


def add_class_legend(
    figure: Figure, labels: Sequence[NDArray[np.uint8]], vocabulary: Vocabulary, *, ncols: int = 8
) -> None:
    """Name the classes that are in any of the labellings, so many side by side."""
    line = import_extra('matplotlib.lines', 'replay').Line2D
    shown = np.unique(np.concatenate([np.unique(classes) for classes in labels]))
    handles = [
        line(
            [],
            [],
            marker='o',
            ls='',
            color=vocabulary.colors[k] / 255,
            label=vocabulary.class_names[k],
        )
        for k in shown[shown != IGNORE_INDEX]
    ]
    add_legend(figure, handles, ncols, 8)


def add_legend(figure: Figure, handles: Sequence[Line2D], ncols: int, fontsize: int) -> None:
    """Put a legend below a dark picture."""
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=ncols,
        fontsize=fontsize,
        labelcolor='white',
        facecolor=BACKGROUND,
        edgecolor=BACKGROUND,
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(as_png(figure))


def as_png(figure: Figure) -> bytes:
    """The bytes of the figure's PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()
