# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of the two spaces of a run: relations between points, and a map of the points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reldistill_ros.birds_eye import BACKGROUND, add_legend, save_figure
from reldistill_ros.core.errors import import_extra
from trainer.structure.groups import Groups
from trainer.structure.sample import SEED, MatchedFeatures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 1000  # of each space in a picture
STRIP = 0.025  # width of the coloured strip beside a matrix, over the matrix's width
MODALITIES = {'teacher (2D)': ('o', '#35c4dc'), 'student (3D)': ('^', '#ff9d3c')}
PERPLEXITY = 30
EDGE = '#c8d0da'  # around marks, whose colours may be as dark as the background
MARK = 20.0  # area of a mark in square points


def save_relations(features: MatchedFeatures, groups: Groups, path: Path) -> None:
    """Draw the cosines of both spaces side by side, points ordered by group, and their gap.

    Args:
        features: sampled points.
        groups: what to order by.
        path: PNG to write.
    """
    rows = groups.pick(MAX_POINTS)
    teacher, student = (x[rows] @ x[rows].T for x in (features.teacher, features.student))
    gap = np.abs(student - teacher)
    low, high = float(np.quantile(teacher, 0.01)), float(np.quantile(gap, 0.99))
    figure = Figure(figsize=(18, 6.4), layout='compressed')
    panels = figure.subplots(1, 3)
    panels[0].imshow(teacher, cmap='viridis', vmin=low, vmax=1)
    cosines = panels[1].imshow(student, cmap='viridis', vmin=low, vmax=1)
    differences = panels[2].imshow(gap, cmap='magma', vmin=0, vmax=high)
    titles = ('teacher (2D)', 'student (3D)', '|3D \N{MINUS SIGN} 2D|')
    for axes, title in zip(panels, titles):
        axes.set_title(title)
        _mark_groups(axes, groups, rows, named=axes is panels[0])
    figure.colorbar(cosines, ax=panels[1], label='cosine', shrink=0.9, pad=0.02)
    figure.colorbar(differences, ax=panels[2], label='difference', shrink=0.9, pad=0.02)
    panels[0].set_ylabel(f'{len(rows)} points, ordered by {groups.title}')
    save_figure(figure, path)


def _mark_groups(axes: Axes, groups: Groups, rows: NDArray[np.int64], *, named: bool) -> None:
    """Colour and name the blocks of a matrix along its left and lower edge."""
    present, starts = np.unique(groups.ids[rows], return_index=True)
    ends = [*starts[1:], len(rows)]
    width = STRIP * len(rows)
    names = [groups.names[group] for group in present]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends)]
    for group, start, end in zip(present, starts, ends):
        color, length = groups.colors[group], end - start
        left = Rectangle((-0.5 - width, start - 0.5), width, length, color=color, clip_on=False)
        below = Rectangle(
            (start - 0.5, len(rows) - 0.5), length, width, color=color, clip_on=False
        )
        axes.add_patch(left)
        axes.add_patch(below)
        axes.axhline(start - 0.5, color='white', lw=0.4)
        axes.axvline(start - 0.5, color='white', lw=0.4)
    axes.set_xticks(middles, names, rotation=90)
    axes.set_yticks(middles, names if named else [''] * len(names))
    axes.tick_params(length=0, pad=12, labelsize=8)
    axes.spines[:].set_visible(False)


def save_embedding(features: MatchedFeatures, groups: Groups, path: Path) -> None:
    """Draw both spaces in one plane: t-SNE (van der Maaten and Hinton, 2008) of all together.

    Equal features of a teacher that knows few are one mark that grows with their number:
    t-SNE would drive them apart.

    Args:
        features: sampled points.
        groups: what to colour by.
        path: PNG to write.
    """
    rows = groups.pick(MAX_POINTS)
    ids = groups.ids[rows]
    teacher, teacher_ids, counts = _distinct(features.teacher[rows], ids)
    plane = _to_plane(np.concatenate([teacher, features.student[rows]]))
    figure = Figure(figsize=(15, 8), facecolor=BACKGROUND, layout='constrained')
    panels = figure.subplots(1, 2)
    for axes, title in zip(panels, (groups.title, 'space')):
        axes.set_title(f'coloured by {title}', color='white', fontsize=11)
        axes.set(xticks=[], yticks=[], facecolor=BACKGROUND)
        axes.spines[:].set_color('#3a4048')
    places = np.split(plane, [len(teacher)])
    areas = MARK * np.sqrt(counts)
    _scatter(panels, 'teacher (2D)', places[0], colors=groups.colors[teacher_ids], areas=areas)
    _scatter(panels, 'student (3D)', places[1], colors=groups.colors[ids], areas=MARK)
    _legend(figure, groups, np.unique(ids))
    figure.suptitle(f't-SNE of {len(rows)} points in both spaces', color='white')
    save_figure(figure, path)


def _scatter(
    panels: Sequence[Axes],
    modality: str,
    places: NDArray[np.float32],
    *,
    colors: NDArray[np.float64],
    areas: NDArray[np.float64] | float,
) -> None:
    """Draw one space into both panels: by group, and by the space itself."""
    marker, modality_color = MODALITIES[modality]
    for axes, color in zip(panels, (colors, modality_color)):
        marks = axes.scatter(places[:, 0], places[:, 1], areas, marker=marker, alpha=0.9)
        marks.set(facecolor=color, edgecolor=EDGE, linewidth=0.3)


def _distinct(
    features: NDArray[np.float32], ids: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct rows (U, C), the most frequent group of each (U,) and how often it comes (U,)."""
    rows, inverse, counts = np.unique(features, axis=0, return_inverse=True, return_counts=True)
    groups = [np.bincount(ids[inverse == row]).argmax() for row in range(len(rows))]
    return rows, np.array(groups, np.int64), counts


def _to_plane(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Places (M, 2) of features (M, C)."""
    tsne = import_extra('sklearn.manifold', 'train').TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3), init='pca', random_state=SEED
    )
    places: NDArray[np.float32] = tsne.fit_transform(features)
    return places


def _legend(figure: Figure, groups: Groups, present: NDArray[np.uint8]) -> None:
    handles = [
        Line2D([], [], marker=marker, ls='', color=color, label=name)
        for name, (marker, color) in MODALITIES.items()
    ]
    handles += [
        Line2D([], [], marker='s', ls='', color=groups.colors[k], label=groups.names[k])
        for k in present
    ]
    add_legend(figure, handles, 9, 9)
