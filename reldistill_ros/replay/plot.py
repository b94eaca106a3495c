# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The picture of a replay: `replay.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing
from reldistill_ros.replay.sweeps import SweepResult


def draw(path: Path, summary: Mapping[str, Any], results: Sequence[SweepResult]) -> None:
    """Latency over the sweeps with the dropped ones, its histogram, and any IoU of the classes."""
    num_panels = 2 if summary['miou'] is None else 3
    figure = import_extra('matplotlib.figure', 'replay').Figure(
        figsize=(5 * num_panels, 4.5), layout='constrained'
    )
    axes = figure.subplots(1, num_panels)
    milliseconds = [result.latency_ms for result in results]
    _draw_course(axes[0], milliseconds)
    _draw_histogram(axes[1], milliseconds, summary['latency_ms'])
    if summary['miou'] is not None:
        _draw_classes(axes[2], summary['per_class_iou'], summary['miou'])
    figure.suptitle(
        f'{summary["mode"]} replay of {summary["topic"]}: {summary["frames_labelled"]} of '
        f'{summary["frames_in"]} sweeps labelled'
    )
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)


def _draw_course(axes: Any, milliseconds: Sequence[float | None]) -> None:
    known = [(index, value) for index, value in enumerate(milliseconds) if value is not None]
    dropped = [index for index, value in enumerate(milliseconds) if value is None]
    if known:
        axes.plot(*zip(*known), '.-', linewidth=0.8)
    if dropped:
        axes.vlines(
            dropped, 0, 1, transform=axes.get_xaxis_transform(), color='tab:red', linewidth=0.8
        )
    axes.set(title=f'latency; {len(dropped)} dropped (red)', xlabel='sweep', ylabel='ms')
    axes.set_ylim(bottom=0)


def _draw_histogram(
    axes: Any, milliseconds: Sequence[float | None], percentiles: Mapping[str, float | None]
) -> None:
    axes.hist([value for value in milliseconds if value is not None], bins=30)
    for name, color in (('p50', 'tab:green'), ('p95', 'tab:orange')):
        value = percentiles[name]
        if value is not None:
            axes.axvline(value, color=color, label=f'{name} {value:.0f} ms')
            axes.legend()
    axes.set(title='latency', xlabel='ms', ylabel='sweeps')


def _draw_classes(axes: Any, per_class: Mapping[str, float | None], miou: float) -> None:
    present = {name: value for name, value in per_class.items() if value is not None}
    axes.barh([*present][::-1], [*present.values()][::-1])
    axes.set_xlim(0, 1)
    axes.set_title(f'IoU, mean {miou:.3f}')
