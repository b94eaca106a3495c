# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The sweeps of a replay that are worth looking at, from above."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.birds_eye import as_png, draw_birds_eye
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.point_cloud import read_points
from reldistill_ros.replay.bag import Sweeps, Truth
from reldistill_ros.replay.label_store import LabelStore
from reldistill_ros.replay.sweeps import SweepResult

NUM_WORST = 4


@dataclass(frozen=True)
class Picture:
    """A sweep from above.

    Attributes:
        result: the sweep.
        data: `data:` address of a PNG.
    """

    result: SweepResult
    data: str


@dataclass(frozen=True)
class PictureMaker:
    """Draws sweeps of a replay.

    Attributes:
        sweeps: of the bag.
        labels: what `SweepResult.labels` counts in.
        truth: the true classes, None where there are none.
        vocabulary: names and colours of the classes.
    """

    sweeps: Sweeps
    labels: LabelStore
    truth: Truth | None
    vocabulary: Vocabulary

    def __call__(self, result: SweepResult) -> Picture:
        """Truth, where there is one, and labels side by side."""
        entry = self.sweeps.entries[result.source]
        assert result.labels is not None
        class_ids = self.labels[result.labels]
        known = self.truth(entry.stamp_ns, len(class_ids)) if self.truth else None
        views: dict[str, NDArray[np.uint8]] = {} if known is None else {'truth': known}
        # any scale of the intensity: it is not drawn
        points = read_points(self.sweeps.bag.read(entry), 1.0)
        figure = draw_birds_eye(points, {**views, 'labels': class_ids}, self.vocabulary)
        data = base64.b64encode(as_png(figure)).decode()
        return Picture(result, f'data:image/png;base64,{data}')


def find_worst(results: Sequence[SweepResult]) -> dict[str, list[SweepResult]]:
    """The worst sweeps in quality and the slowest, each sweep of the bag at most once in each."""
    labelled = [result for result in results if result.labels is not None]
    has_truth = any(result.miou is not None for result in labelled)
    if has_truth:
        title, quality = 'Lowest mIoU', _key('miou')
    else:
        title, quality = 'Lowest mean probability', _key('mean_probability')
    return {
        title: _first(labelled, quality),
        'Slowest': _first(labelled, lambda result: -(result.latency_ms or 0.0)),
    }


def _key(name: str) -> Callable[[SweepResult], float]:
    def value_of(result: SweepResult) -> float:
        value = getattr(result, name)
        return np.inf if value is None else float(value)

    return value_of


def _first(
    labelled: Sequence[SweepResult], key: Callable[[SweepResult], float]
) -> list[SweepResult]:
    chosen: dict[int, SweepResult] = {}
    for result in sorted(labelled, key=key):
        if len(chosen) < NUM_WORST and key(result) < np.inf:
            chosen.setdefault(result.source, result)
    return [*chosen.values()]
