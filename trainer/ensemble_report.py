# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ensemble's scores as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reldistill_ros.birds_eye import save_figure
from reldistill_ros.core.files import replacing

COLORS = {
    'student': '#8f9aa8',
    'camera': '#e0a458',
    'camera_in_voxels': '#c8553d',
    'ensemble': '#2a6f97',
}


def save_table(metrics: Mapping[str, Any], class_names: Sequence[str], path: Path) -> None:
    """Write Markdown: for each part of the points the IoU of each class by labelling."""
    blocks = []
    for part, scores in metrics.items():
        names = list(scores)
        points = next(iter(scores.values()))['points']
        rows = [
            f'| {part}: {points} points | {" | ".join(names)} |',
            '|---' * (1 + len(names)) + '|',
        ]
        rows += [_row(c, [scores[n]['iou'].get(c) for n in names]) for c in class_names]
        rows += [_row(k, [scores[n][k] for n in names]) for k in ('miou', 'accuracy')]
        blocks.append('\n'.join(rows))
    with replacing(path) as partial:
        partial.write_text('\n\n'.join(blocks) + '\n', encoding='utf-8')


def miou_table(metrics: Mapping[str, Any]) -> str:
    """MIoU by labelling for each part of the points, for the terminal."""
    names = list(next(iter(metrics.values())))
    width = max(map(len, names))
    rows = [' ' * 14 + '  '.join(f'{name:>{width}}' for name in names)]
    for part, scores in metrics.items():
        values = (scores[name]['miou'] for name in names)
        cells = ('-' if value is None else f'{value:.3f}' for value in values)
        rows.append(f'mIoU {part:<9}' + '  '.join(f'{cell:>{width}}' for cell in cells))
    return '\n'.join(rows)


def _row(name: str, values: Sequence[float | None]) -> str:
    cells = ('-' if value is None else f'{value:.3f}' for value in values)
    return f'| {name} | {" | ".join(cells)} |'


def save_bars(
    metrics: Mapping[str, Any], class_names: Sequence[str], path: Path, part: str = 'opinion'
) -> None:
    """Draw the IoU of each class that the truth holds, and the mean, by labelling."""
    scores = metrics[part]
    shown = [name for name in class_names if name in scores['ensemble']['iou']]
    figure = Figure(figsize=(10, 4.2), layout='constrained')
    axes = figure.add_subplot()
    places = np.arange(len(shown) + 1)
    for number, (name, color) in enumerate(COLORS.items()):
        values = [scores[name]['iou'][c] for c in shown] + [scores[name]['miou'] or 0.0]
        shift = (number - (len(COLORS) - 1) / 2) * 0.2
        axes.bar(places + shift, values, 0.19, color=color, label=name.replace('_', ' '))
    axes.set_xticks(places, [*shown, 'mean'], rotation=30, ha='right')
    axes.set(ylabel='IoU', ylim=(0, 1), title=f'held-out drives, {part} points')
    axes.legend(ncols=len(COLORS), fontsize=8)
    save_figure(figure, path)
