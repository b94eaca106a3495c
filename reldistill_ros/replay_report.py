# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Numbers and picture of a replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing
from reldistill_ros.core.metrics import accuracy, finite_or_none, iou, mean_iou
from reldistill_ros.recording import Recording
from reldistill_ros.replay_bag import Sweeps
from reldistill_ros.replay_scores import Scores


def summarise(
    sweeps: Sweeps, scores: Scores, recording: Recording | None, class_names: Sequence[str]
) -> dict[str, Any]:
    """The numbers, as JSON holds them; null where there is no truth or nothing to measure."""
    latencies = [seconds for seconds in latencies_of(sweeps, scores, recording) if seconds]
    frames_in = len(sweeps.entries)
    summary: dict[str, Any] = {
        'mode': 'offline' if recording is None else 'live',
        'topic': sweeps.topic,
        'label_topic': sweeps.label_topic,
        'frames_in': frames_in,
        'frames_labelled': len(latencies),
        'frames_dropped': frames_in - len(latencies),
        'latency_ms': _percentiles(latencies),
        **_quality(scores.confusion),
        'per_class_iou': _per_class(scores.confusion, class_names),
    }
    if recording is not None:
        equal = scores.equal_points / scores.num_points if scores.num_points else None
        summary['input_rate_hz'] = _rate([*recording.sent.values()])
        summary['offline'] = {**_quality(scores.offline_confusion), 'labels_equal': equal}
        summary['node'] = recording.node_values
    return summary


def latencies_of(
    sweeps: Sweeps, scores: Scores, recording: Recording | None
) -> list[float | None]:
    """Seconds of each sweep: from sending to receiving, or of labelling without ROS; or None."""
    seconds = (
        scores.offline_seconds
        if recording is None
        else {stamp: answer.seconds for stamp, answer in recording.answers.items()}
    )
    return [seconds.get(entry.stamp_ns) for entry in sweeps.entries]


def draw(path: Path, summary: dict[str, Any], latencies: Sequence[float | None]) -> None:
    """Latency over the sweeps with the dropped ones, its histogram, and the IoU of each class."""
    import_extra('matplotlib', 'replay').use('Agg')
    pyplot = import_extra('matplotlib.pyplot', 'replay')
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5), layout='constrained')
    milliseconds = [None if seconds is None else 1000 * seconds for seconds in latencies]
    _draw_course(axes[0], milliseconds)
    _draw_histogram(axes[1], milliseconds, summary['latency_ms'])
    _draw_classes(axes[2], summary['per_class_iou'], summary['miou'])
    figure.suptitle(
        f'{summary["mode"]} replay of {summary["topic"]}: {summary["frames_labelled"]} of '
        f'{summary["frames_in"]} sweeps labelled'
    )
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
    pyplot.close(figure)


def _draw_course(axes: Any, milliseconds: Sequence[float | None]) -> None:
    known = [(index, value) for index, value in enumerate(milliseconds) if value is not None]
    dropped = [index for index, value in enumerate(milliseconds) if value is None]
    axes.plot(*zip(*known), '.-', linewidth=0.8) if known else None
    for index in dropped:
        axes.axvline(index, color='tab:red', linewidth=0.8)
    axes.set(title=f'latency; {len(dropped)} dropped (red)', xlabel='sweep', ylabel='ms')
    axes.set_ylim(bottom=0)


def _draw_histogram(
    axes: Any, milliseconds: Sequence[float | None], percentiles: dict[str, float | None]
) -> None:
    axes.hist([value for value in milliseconds if value is not None], bins=30)
    for name, color in (('p50', 'tab:green'), ('p95', 'tab:orange')):
        value = percentiles[name]
        if value is not None:
            axes.axvline(value, color=color, label=f'{name} {value:.0f} ms')
            axes.legend()
    axes.set(title='latency', xlabel='ms', ylabel='sweeps')


def _draw_classes(axes: Any, per_class: dict[str, float | None], miou: float | None) -> None:
    present = {name: value for name, value in per_class.items() if value is not None}
    axes.barh([*present][::-1], [*present.values()][::-1])
    axes.set_xlim(0, 1)
    axes.set_title('no truth in the bag' if miou is None else f'IoU, mean {miou:.3f}')


def _percentiles(latencies: Sequence[float]) -> dict[str, float | None]:
    if not latencies:
        return {'p50': None, 'p95': None, 'max': None}
    values = 1000 * np.percentile(latencies, [50, 95, 100])
    return dict(zip(('p50', 'p95', 'max'), np.round(values, 2).tolist()))


def _quality(confusion: NDArray[np.int64] | None) -> dict[str, float | None]:
    if confusion is None:
        return {'miou': None, 'accuracy': None}
    return {
        'miou': finite_or_none(mean_iou(confusion)),
        'accuracy': finite_or_none(accuracy(confusion)),
    }


def _per_class(
    confusion: NDArray[np.int64] | None, class_names: Sequence[str]
) -> dict[str, float | None]:
    if confusion is None:
        return {}
    return {
        name: finite_or_none(value) for name, value in zip(class_names, iou(confusion).tolist())
    }


def _rate(sent: Sequence[float]) -> float | None:
    """Sweeps a second that were really sent."""
    span = max(sent) - min(sent)
    return round((len(sent) - 1) / span, 2) if span > 0 else None
