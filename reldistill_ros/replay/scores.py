# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels of a replay against the truth, and against the labels of the same sweeps without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.metrics import confusion_matrix
from reldistill_ros.replay.bag import Sweeps, Truth
from reldistill_ros.replay.offline import Offline
from reldistill_ros.replay.recording import Recording

Confusion = NDArray[np.int64]


@dataclass(frozen=True)
class SweepScore:
    """How good one labelling of one sweep is.

    Attributes:
        num_points: of the sweep.
        confusion: (K, K + 1), None where there is no truth.
        equal_points: points that have the same class without ROS.
    """

    num_points: int
    confusion: Confusion | None
    equal_points: int


@dataclass
class Scores:
    """Scores of the labellings.

    Attributes:
        offline: of each sweep labelled without ROS, by its position in the bag.
        node: of each different labelling that the node gave, by that position and the number in
            `Recording.labels`.
    """

    offline: dict[int, SweepScore] = field(default_factory=dict)
    node: dict[tuple[int, int], SweepScore] = field(default_factory=dict)


def score(
    sweeps: Sweeps,
    offline: Offline,
    recording: Recording | None,
    *,
    truth: Truth | None,
    num_classes: int,
) -> Scores:
    """Compare.

    Args:
        sweeps: of the bag.
        offline: those labelled without ROS.
        recording: what the node answered, of these sweeps; None without ROS.
        truth: the true classes, None where there are none.
        num_classes: of the labels and of the truth.
    """
    scores = Scores()
    labellings = _labellings(recording) if recording is not None else {}
    for source in offline.answers:
        expected = offline.class_ids(source)
        known = truth(sweeps.entries[source].stamp_ns, len(expected)) if truth else None
        scores.offline[source] = _score(expected, expected, known, num_classes)
        for labels in labellings.get(source, ()):
            assert recording is not None
            got = recording.labels[labels]
            scores.node[source, labels] = _score(got, expected, known, num_classes)
    return scores


def _labellings(recording: Recording) -> dict[int, set[int]]:
    """The different labellings that each sweep of the bag got."""
    found: dict[int, set[int]] = {}
    for stamp, answer in recording.answers.items():
        found.setdefault(recording.sent[stamp].sweep.source, set()).add(answer.labels)
    return found


def _score(
    got: NDArray[np.uint8],
    expected: NDArray[np.uint8],
    truth: NDArray[np.uint8] | None,
    num_classes: int,
) -> SweepScore:
    confusion = None if truth is None else confusion_matrix(truth, got, num_classes)
    return SweepScore(len(expected), confusion, int((got == expected).sum()))
