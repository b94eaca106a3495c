# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The numbers of a replay: `replay.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.metrics import accuracy, finite_or_none, iou, mean_iou
from reldistill_ros.replay.account import Account
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.cameras import PlayedCamera
from reldistill_ros.replay.process_memory import growth_mb
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.scores import Scores
from reldistill_ros.replay.sweeps import SweepResult

PERCENTILES = {'p50': 50, 'p95': 95, 'p99': 99, 'max': 100}


def summarise(
    sweeps: Sweeps, results: Sequence[SweepResult], class_names: Sequence[str]
) -> dict[str, Any]:
    """The numbers of any replay, as JSON holds them; null where there is nothing to measure."""
    labelled = [result for result in results if result.dropped is None]
    confusion = _sum(result.score.confusion for result in labelled if result.score)
    return {
        'mode': 'offline',
        'topic': sweeps.topic,
        'label_topic': sweeps.label_topic,
        'frames_in': len(results),
        'frames_labelled': len(labelled),
        'frames_dropped': len(results) - len(labelled),
        'latency_ms': percentiles([result.latency_ms for result in labelled]),
        'stages_ms': _stages(labelled),
        'mean_probability': _mean([result.mean_probability for result in labelled]),
        **_quality(confusion),
        'per_class_iou': _per_class(confusion, class_names),
    }


def summarise_live(
    results: Sequence[SweepResult], recording: Recording, account: Account, scores: Scores
) -> dict[str, Any]:
    """What a replay through the node adds, or says instead."""
    labelled = [result for result in results if result.dropped is None]
    points = sum(result.points or 0 for result in labelled)
    equal = sum(result.score.equal_points for result in labelled if result.score)
    offline = _sum(score.confusion for score in scores.offline.values())
    last = max((result.sent_s for result in results), default=0.0)
    return {
        'mode': 'live',
        'minutes': round(last / 60, 3),
        'loops': max((result.loop for result in results), default=-1) + 1,
        'input_rate_hz': round((len(results) - 1) / last, 2) if last > 0 else None,
        'drops': account.drops,
        'unaccounted_sweeps': account.unaccounted,
        'age_sweeps': percentiles([result.age_sweeps for result in labelled]),
        'memory': _memory(recording),
        'offline': {**_quality(offline), 'labels_equal': equal / points if points else None},
        'node': recording.node_values,
    }


def summarise_cameras(
    summary: Mapping[str, Any], recording: Recording, cameras: Sequence[PlayedCamera]
) -> dict[str, Any]:
    """What cameras add to the numbers of a live replay, or replace in them.

    Which images come in time differs from run to run, so that labels need not equal those
    without ROS. `offline` is the student alone then.
    """
    offline = dict(summary['offline'])
    equal = offline.pop('labels_equal')
    changed = None if equal is None else 1 - equal
    images = {camera.name: recording.beside[camera.image] for camera in cameras}
    found = {'images': images, 'labels_changed': changed, 'node': recording.part_values}
    return {'offline': offline, 'cameras': found}


def closing_lines(summary: Mapping[str, Any]) -> str:
    """The summary in brief, without what was not measured."""
    drops = {name: number for name, number in summary.get('drops', {}).items() if number}
    reasons = ', '.join(f'{name} {number}' for name, number in drops.items())
    dropped = f'{summary["frames_dropped"]} dropped{f" ({reasons})" if reasons else ""}'
    lines = [f'{summary["frames_labelled"]} of {summary["frames_in"]} sweeps labelled, {dropped}']
    milliseconds = {n: value for n, value in summary['latency_ms'].items() if value is not None}
    if milliseconds:
        lines.append(f'latency {", ".join(f"{n} {v:.0f} ms" for n, v in milliseconds.items())}')
    if summary['miou'] is not None:
        lines.append(f'mIoU {summary["miou"]:.3f}, accuracy {summary["accuracy"]:.3f}')
    return '\n'.join(lines)


def camera_line(summary: Mapping[str, Any]) -> str:
    """What the cameras did to the labels."""
    cameras, alone = summary['cameras'], summary['offline']['miou']
    images = ', '.join(f'{name} {count} images' for name, count in cameras['images'].items())
    changed = cameras['labels_changed']
    told = (
        'no labels' if changed is None else f'{100 * changed:.1f} % of the labels changed by them'
    )
    return f'cameras: {images}; {told} (mIoU of the student alone: {alone})'


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """The usual percentiles of the values that are known, null where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys(PERCENTILES)
    found = np.percentile(known, [*PERCENTILES.values()])
    return dict(zip(PERCENTILES, np.round(found, 2).tolist()))


def _stages(labelled: Sequence[SweepResult]) -> dict[str, dict[str, float | None]]:
    """Percentiles and mean of each stage, in the order in which a sweep goes through them."""
    names = dict.fromkeys(name for result in labelled for name in result.stages_ms)
    times = {name: [result.stages_ms.get(name) for result in labelled] for name in names}
    return {name: {**percentiles(t), 'mean': _mean(t)} for name, t in times.items()}


def _memory(recording: Recording) -> dict[str, float | None]:
    """Resident memory of the node's process in MiB."""
    samples = recording.memory
    if not samples:
        return dict.fromkeys(('start_mb', 'end_mb', 'max_mb', 'growth_mb'))
    growth = growth_mb(samples)
    return {
        'start_mb': round(samples[0].mb, 1),
        'end_mb': round(samples[-1].mb, 1),
        'max_mb': round(max(sample.mb for sample in samples), 1),
        'growth_mb': None if growth is None else round(growth, 1),
    }


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


def _sum(confusions: Iterable[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    known = [confusion for confusion in confusions if confusion is not None]
    total: NDArray[np.int64] | None = sum(known[1:], known[0]) if known else None
    return total


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None
