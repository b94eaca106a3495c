# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The sweeps of a bag labelled without ROS, by the very functions that the node calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.point_cloud import read_points
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.label_store import LabelStore
from reldistill_ros.replay.recording import mean_probability


class OfflineAnswer(NamedTuple):
    """The labels of one sweep.

    Attributes:
        stages: seconds of each stage; together they are the latency.
        labels: their number in `Offline.labels`.
        mean_probability: over the points that have a class, None where none has.
    """

    stages: dict[str, float]
    labels: int
    mean_probability: float | None


@dataclass
class Offline:
    """Sweeps labelled without ROS, by their position in the bag."""

    answers: dict[int, OfflineAnswer] = field(default_factory=dict)
    labels: LabelStore = field(default_factory=LabelStore)

    def class_ids(self, source: int) -> NDArray[np.uint8]:
        """Class ids (N,) of a sweep."""
        return self.labels[self.answers[source].labels]


def label_offline(
    sweeps: Sweeps,
    sources: Iterable[int],
    labeller: Callable[[NDArray[np.float32]], Labels],
    intensity_max: float,
) -> Offline:
    """Label sweeps one after the other.

    Args:
        sweeps: of the bag.
        sources: positions of those to label.
        labeller: the same as in the node.
        intensity_max: the same as in the node.
    """
    offline = Offline()
    for source in sources:
        cloud = sweeps.bag.read(sweeps.entries[source])
        started = time.perf_counter()
        points = read_points(cloud, intensity_max)
        decoded = time.perf_counter()
        labels = labeller(points)
        stages = {'decode': decoded - started, 'inference': time.perf_counter() - decoded}
        offline.answers[source] = OfflineAnswer(
            stages,
            offline.labels.keep(labels.class_ids),
            mean_probability(labels.class_ids, labels.probabilities),
        )
    return offline
