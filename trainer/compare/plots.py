# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of a comparison: bars of the mIoUs, gap against mIoU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reldistill_ros.core.files import replacing
from trainer.compare.statistics import Scores, correlate, over_seeds, points_by_teacher, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, then Tol: told apart with any colour vision
COLORS = (
    *('#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#F0E442', '#000000'),
    *('#332288', '#882255', '#999933', '#44AA99'),
)
MARKERS = ('o', '^', 's', 'D', 'v', 'P', 'X', '*')
BAR_SHARE = 0.82  # of the room of a protocol
COLUMNS = 3
WIDEST = 15.0  # inches
DPI = 130


def save_bars(scores: Scores, path: Path) -> None:
    """Draw every mIoU, one row for each teacher: bars with deviation, a dot for each seed."""
    teachers = _teachers(scores)
    if not scores.miou:
        return
    width = min(max(6.0, 1.0 + 0.34 * len(_losses(scores)) * len(scores.miou)), WIDEST)
    figure = Figure(figsize=(width, 3.0 * len(teachers) + 0.6), layout='constrained')
    for axes, teacher in zip(figure.subplots(len(teachers), 1, squeeze=False)[:, 0], teachers):
        _draw_bars(axes, scores, teacher)
    handles = [Line2D([], [], marker='s', ls='', ms=8, c=c, label=k) for k, c in _losses(scores)]
    _finish(figure, handles, path)


def save_gaps(scores: Scores, measure: str, path: Path) -> None:
    """Draw a structure measure against the mIoU of every protocol, a point for each run."""
    protocols = list(scores.miou)
    columns = min(len(protocols), COLUMNS)
    rows = -(-len(protocols) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows + 0.6), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, protocol in zip(panels, protocols):
        _draw_gap(axes, scores, measure, protocol)
    for axes in panels[len(protocols) :]:
        axes.remove()
    colors = [Line2D([], [], marker='s', ls='', ms=8, c=c, label=k) for k, c in _losses(scores)]
    shapes = [
        Line2D([], [], marker=marker, ls='', c='#444444', label=teacher)
        for teacher, marker in zip(_teachers(scores), MARKERS)
    ]
    _finish(figure, [*colors, *shapes], path)


def _draw_bars(axes: Axes, scores: Scores, teacher: str) -> None:
    losses = _losses(scores)
    width = BAR_SHARE / len(losses)
    for column, values in enumerate(scores.miou.values()):
        bars = [(list(over_seeds(values, teacher, loss).values()), c) for loss, c in losses]
        bars = [(seeds, color) for seeds, color in bars if seeds]
        for index, (seeds, color) in enumerate(bars):
            _draw_bar(axes, column + (index - (len(bars) - 1) / 2) * width, seeds, (width, color))
        if not bars:
            axes.text(column, 0.02, 'not measured', ha='center', c='#777777', fontsize=8)
    axes.set_xticks(range(len(scores.miou)), list(scores.miou))
    axes.set_title(f'teacher: {teacher}', loc='left', fontsize=10, fontweight='bold')
    axes.set_ylabel('mIoU', fontsize=9)
    axes.set(xlim=(-0.5, len(scores.miou) - 0.5), ylim=(0, None))
    _tidy(axes)


def _draw_bar(axes: Axes, x: float, seeds: list[float], style: tuple[float, str]) -> None:
    """Mean and deviation as a bar of a width and colour, and each seed as a dot."""
    width, color = style
    found = summarise(seeds)
    axes.bar(x, found['mean'], width * 0.92, color=color, alpha=0.85, zorder=2)
    axes.errorbar(x, found['mean'], found['std'] or 0, c='black', lw=1, capsize=2, zorder=3)
    offsets = (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * width * 0.6 / len(seeds)
    axes.scatter(x + offsets, seeds, s=6, c='#222222', lw=0, zorder=4)


def _draw_gap(axes: Axes, scores: Scores, measure: str, protocol: str) -> None:
    x, y = scores.structure[measure], scores.miou[protocol]
    colors, markers = dict(_losses(scores)), dict(zip(_teachers(scores), MARKERS))
    for key in x.keys() & y.keys():
        axes.scatter(
            x[key], y[key], s=34, c=colors[key[1]], marker=markers[key[0]], ec='white', lw=0.5
        )
    axes.set_title(protocol, loc='left', fontsize=10, fontweight='bold')
    axes.set_title(_correlation_text(scores, measure, protocol), loc='right', fontsize=8)
    axes.set_xlabel(measure, fontsize=9)
    axes.set_ylabel('mIoU', fontsize=9)
    _tidy(axes)


def _correlation_text(scores: Scores, measure: str, protocol: str) -> str:
    _, x, y = next(iter(points_by_teacher(scores, measure, protocol)), ('', [], []))
    found = correlate(x, y)
    if found['pearson'] is None:
        return f'{found["runs"]} runs: no correlation defined'
    ends = found['pearson_interval']
    interval = f' [{ends[0]:+.2f}, {ends[1]:+.2f}]' if ends else ''
    return (
        f'Pearson {found["pearson"]:+.2f}{interval}\n'
        f'Spearman {found["spearman"]:+.2f}, {found["runs"]} runs'
    )


def _losses(scores: Scores) -> list[tuple[str, str]]:
    """Each loss with its colour."""
    losses = dict.fromkeys(loss for _, loss in scores.rows())
    return [(loss, COLORS[index % len(COLORS)]) for index, loss in enumerate(losses)]


def _teachers(scores: Scores) -> list[str]:
    return list(dict.fromkeys(teacher for teacher, _ in scores.rows()))


def _tidy(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='y', color='#dddddd', lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _finish(figure: Figure, handles: list[Any], path: Path) -> None:
    figure.legend(handles=handles, loc='outside lower center', ncols=6, fontsize=8, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI)
