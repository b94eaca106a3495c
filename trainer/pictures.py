# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of results: confusion matrix, bird's-eye view, labels over camera images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reldistill_ros.birds_eye import (
    add_class_legend,
    dark_figure,
    draw_birds_eye,
    label_colors,
    save_figure,
    scatter,
)
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.datasets.sample import CameraImage, Sample
from trainer.pairing import PairingSettings, pair_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    save_figure(draw_birds_eye(points, labels, vocabulary), path)


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
    figure = dark_figure(6.5 * columns, 6.5 * aspect * rows + 0.6)
    for axes, image in zip(np.ravel(np.atleast_1d(figure.subplots(rows, columns))), images):
        pairs = pair_points(sample.points, image, pairing)
        colors = label_colors(labels[pairs.point_indices], vocabulary)
        _draw_overlay(axes, image, pairs.pixels, colors)
    add_class_legend(figure, [labels], vocabulary)
    save_figure(figure, path)


def _draw_overlay(
    axes: Axes, image: CameraImage, pixels: NDArray[np.float32], colors: NDArray[np.float64]
) -> None:
    height, width = image.image.shape[:2]
    axes.imshow(image.image)
    scatter(axes, pixels[:, 0], pixels[:, 1], colors, size=5.0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_title(image.camera, color='white', fontsize=9)
