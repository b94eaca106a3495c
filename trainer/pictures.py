# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of results: confusion matrix, bird's-eye view, labels over camera images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reldistill_ros.core.files import replacing
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.sample import CameraImage, Sample
from trainer.pairing import PairingSettings, pair_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BACKGROUND = '#101418'
UNLABELLED = (58, 64, 72)
HALF_WIDTH = 35.0  # metres shown to each side in a bird's-eye view
DPI = 110


def save_confusion(confusion: NDArray[np.int64], class_names: tuple[str, ...], path: Path) -> None:
    """Draw a confusion matrix (K, K + 1) as shares of each true class that the truth holds."""
    present = np.flatnonzero(confusion.sum(axis=1))
    shares = confusion[present] / confusion[present].sum(axis=1, keepdims=True)
    columns = [*class_names, 'none']
    figure = Figure(figsize=(9, 7.5), layout='constrained')
    axes = figure.add_subplot()
    if len(present):
        axes.imshow(shares, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha='right')
    axes.set_yticks(range(len(present)), [class_names[k] for k in present])
    axes.set(xlabel='predicted', ylabel='true', title='share of the true class')
    for row, column in zip(*np.nonzero(shares >= 0.01)):
        value = shares[row, column]
        shade = 'white' if value > 0.5 else 'black'
        axes.text(column, row, f'{value:.2f}', ha='center', va='center', color=shade, fontsize=7)
    save_figure(figure, path)


def save_birds_eye(
    points: NDArray[np.float32],
    labels: Mapping[str, NDArray[np.uint8]],
    vocabulary: Vocabulary,
    path: Path,
) -> None:
    """Draw labellings of a sweep side by side from above, x (forward) up.

    Args:
        points: (N, 4) in the lidar frame.
        labels: title of each view and its (N,) labels.
        vocabulary: colours.
        path: PNG to write.
    """
    figure = Figure(figsize=(5.2 * len(labels), 6.1), facecolor=BACKGROUND, layout='constrained')
    order = np.argsort(points[:, 2])  # what is higher covers what is below
    for axes, (title, classes) in zip(
        np.atleast_1d(figure.subplots(1, len(labels))), labels.items()
    ):
        colors = _colors(classes[order], vocabulary)
        _scatter(axes, -points[order, 1], points[order, 0], colors, size=1.8)
        axes.set_title(title, color='white')
        axes.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect='equal')
    shown = np.unique(np.concatenate([np.unique(classes) for classes in labels.values()]))
    _legend(figure, shown[shown != IGNORE_INDEX], vocabulary)
    save_figure(figure, path)


def save_overlay(
    sample: Sample,
    labels: NDArray[np.uint8],
    vocabulary: Vocabulary,
    path: Path,
    *,
    pairing: PairingSettings,
) -> None:
    """Draw the labels of the points that `pairing` finds visible over the camera images."""
    images = sample.images
    if not images:
        return
    columns = min(len(images), 2)
    rows = -(-len(images) // columns)
    aspect = images[0].image.shape[0] / images[0].image.shape[1]
    figure = Figure(
        figsize=(6.5 * columns, 6.5 * aspect * rows + 0.6),
        facecolor=BACKGROUND,
        layout='constrained',
    )
    for axes, image in zip(np.ravel(np.atleast_1d(figure.subplots(rows, columns))), images):
        pairs = pair_points(sample.points, image, pairing)
        _draw_overlay(axes, image, pairs.pixels, _colors(labels[pairs.point_indices], vocabulary))
    shown = np.unique(labels)
    _legend(figure, shown[shown != IGNORE_INDEX], vocabulary)
    save_figure(figure, path)


def _draw_overlay(
    axes: Axes, image: CameraImage, pixels: NDArray[np.float32], colors: NDArray[np.float64]
) -> None:
    height, width = image.image.shape[:2]
    axes.imshow(image.image)
    _scatter(axes, pixels[:, 0], pixels[:, 1], colors, size=5.0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_title(image.camera, color='white', fontsize=9)


def _scatter(
    axes: Axes,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    colors: NDArray[np.float64],
    size: float,
) -> None:
    axes.scatter(x, y, c=colors, s=size, linewidths=0, rasterized=True)
    axes.set_facecolor(BACKGROUND)
    axes.set_xticks([])
    axes.set_yticks([])


def _colors(labels: NDArray[np.uint8], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """RGB from 0 to 1 of each label, (N, 3)."""
    colors: NDArray[np.float64] = vocabulary.color_table(UNLABELLED)[labels] / 255
    return colors


def _legend(figure: Figure, classes: NDArray[np.uint8], vocabulary: Vocabulary) -> None:
    handles = [
        Line2D(
            [],
            [],
            marker='o',
            ls='',
            color=vocabulary.colors[k] / 255,
            label=vocabulary.class_names[k],
        )
        for k in classes
    ]
    add_legend(figure, handles, 8, 8)


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
        figure.savefig(partial, dpi=DPI, facecolor=figure.get_facecolor())
