# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From labels to results: what a replay says of every sweep and of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.replay.account import Account, account_for
from reldistill_ros.replay.bag import Sweeps, Truth
from reldistill_ros.replay.cameras import PlayedCamera
from reldistill_ros.replay.label_store import LabelStore
from reldistill_ros.replay.offline import Offline, label_offline
from reldistill_ros.replay.process_memory import MemorySample
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.report import summarise, summarise_cameras, summarise_live
from reldistill_ros.replay.requirements import Requirement, check_keys, flatten
from reldistill_ros.replay.scores import Scores, score
from reldistill_ros.replay.sweeps import SweepResult, results_live, results_offline

KNOWN_LATER = ('drops.', 'stages_ms.')  # keys that depend on what the node will tell


@dataclass(frozen=True)
class Outcome:
    """What came of a replay.

    Attributes:
        summary: its numbers.
        results: one per sweep.
        labels: what `SweepResult.labels` counts in.
        memory: of the node's process, over the seconds since the first sweep.
    """

    summary: dict[str, Any]
    results: list[SweepResult]
    labels: LabelStore
    memory: list[MemorySample]


@dataclass(frozen=True)
class Judge:
    """What labels are judged by.

    Attributes:
        sweeps: of the bag.
        labeller: the same as in the node.
        intensity_max: the same as in the node.
        vocabulary: the classes.
        truth: the true classes, None where there are none.
        cameras: that the node looks through, beside the clouds.
    """

    sweeps: Sweeps
    labeller: Callable[[NDArray[np.float32]], Labels]
    intensity_max: float
    vocabulary: Vocabulary
    truth: Truth | None
    cameras: tuple[PlayedCamera, ...] = ()

    def offline(self) -> Outcome:
        """Label every sweep of the bag without ROS."""
        offline, scores = self._without_ros(range(len(self.sweeps.entries)), None)
        results = results_offline(self.sweeps, offline, scores)
        summary = summarise(self.sweeps, results, self.vocabulary.class_names)
        return Outcome(summary, results, offline.labels, [])

    def live(self, recording: Recording) -> Outcome:
        """Compare what the node answered with the same sweeps labelled without ROS."""
        sent = recording.sent
        answered = sorted({sent[stamp].sweep.source for stamp in recording.answers})
        _, scores = self._without_ros(answered, recording)
        account = account_for(len(sent), len(recording.answers), recording.node_values)
        results = results_live(recording, scores, account)
        summary = summarise(self.sweeps, results, self.vocabulary.class_names)
        summary |= summarise_live(results, recording, account, scores)
        if self.cameras:
            summary |= summarise_cameras(summary, recording, self.cameras)
        start = min((entry.seconds for entry in sent.values()), default=0.0)
        memory = [MemorySample(seconds - start, mb) for seconds, mb in recording.memory]
        return Outcome(summary, results, recording.labels, memory)

    def check_keys(self, requirements: Sequence[Requirement], *, live: bool) -> None:
        """Refuse, before anything is played, what no summary of this bag will have.

        Raises:
            InputError: there is such a requirement.
        """
        summary = summarise(self.sweeps, [], self.vocabulary.class_names)
        if live:
            summary |= summarise_live([], Recording(), Account({}, 0), Scores())
            if self.cameras:
                summary |= summarise_cameras(summary, Recording(), self.cameras)
        if self.truth:
            summary['per_class_iou'] = dict.fromkeys(self.vocabulary.class_names)
        known_now = [entry for entry in requirements if not entry.key.startswith(KNOWN_LATER)]
        check_keys(known_now, flatten(summary))

    def _without_ros(
        self, sources: Iterable[int], recording: Recording | None
    ) -> tuple[Offline, Scores]:
        offline = label_offline(self.sweeps, sources, self.labeller, self.intensity_max)
        scores = score(
            self.sweeps,
            offline,
            recording,
            truth=self.truth,
            num_classes=len(self.vocabulary.classes),
        )
        return offline, scores
