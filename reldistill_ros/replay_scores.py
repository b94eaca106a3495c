# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels of a replay against the truth, and against the labels of the same sweeps without ROS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.metrics import confusion_matrix
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.point_cloud import read_points
from reldistill_ros.recording import Recording
from reldistill_ros.replay_bag import Sweeps, Truth


@dataclass
class Scores:
    """Sums over the sweeps; the confusions are None where the bag has no truth.

    Attributes:
        confusion: (K, K + 1) of what the node answered.
        offline_confusion: (K, K + 1) of the same sweeps labelled without ROS.
        equal_points: points that got the same class both ways.
        num_points: points in all.
        offline_seconds: decoding and labelling of each sweep without ROS, by stamp.
    """

    confusion: NDArray[np.int64] | None = None
    offline_confusion: NDArray[np.int64] | None = None
    equal_points: int = 0
    num_points: int = 0
    offline_seconds: dict[int, float] = field(default_factory=dict)


def score(
    sweeps: Sweeps,
    labeller: Callable[[NDArray[np.float32]], Labels],
    intensity_max: float,
    *,
    truth: Truth | None,
    num_classes: int,
    recording: Recording | None,
) -> Scores:
    """Label the sweeps without ROS and compare.

    Args:
        sweeps: what was played.
        labeller: the same as in the node.
        intensity_max: the same as in the node.
        truth: the true classes, None where there are none.
        num_classes: of the labeller and of the truth.
        recording: what the node answered; its sweeps alone are compared. None without ROS.
    """
    scores = Scores()
    for entry in sweeps.entries:
        stamp = entry.stamp_ns
        if recording is not None and stamp not in recording.answers:
            continue
        class_ids, scores.offline_seconds[stamp] = _label(
            sweeps.bag.read(entry), labeller, intensity_max
        )
        answer = class_ids if recording is None else recording.class_ids(stamp)
        scores.num_points += len(class_ids)
        scores.equal_points += int((answer == class_ids).sum())
        labels = truth(stamp, len(class_ids)) if truth else None
        if labels is not None:
            scores.confusion = _add(
                scores.confusion, confusion_matrix(labels, answer, num_classes)
            )
            scores.offline_confusion = _add(
                scores.offline_confusion, confusion_matrix(labels, class_ids, num_classes)
            )
    return scores


def _label(
    cloud: Any, labeller: Callable[[NDArray[np.float32]], Labels], intensity_max: float
) -> tuple[NDArray[np.uint8], float]:
    """Class ids, and the seconds that decoding and labelling took."""
    started = time.perf_counter()
    class_ids = labeller(read_points(cloud, intensity_max)).class_ids
    return class_ids, time.perf_counter() - started


def _add(total: NDArray[np.int64] | None, part: NDArray[np.int64]) -> NDArray[np.int64]:
    return part if total is None else total + part
