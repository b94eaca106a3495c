# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What was sent to the node and what came back; the labels lie in a file, not in memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.replay.label_store import LabelStore
from reldistill_ros.replay.process_memory import MemorySample
from reldistill_ros.replay.schedule import Planned


class Sent(NamedTuple):
    """A sweep that went out, at a time of `time.perf_counter`."""

    sweep: Planned
    seconds: float


class Answer(NamedTuple):
    """The labels of one sweep.

    Attributes:
        seconds: from sending the sweep to receiving its labels.
        age: number of sweeps that were sent in between.
        labels: their number in `Recording.labels`.
        mean_probability: over the points that have a class, None where none has.
    """

    seconds: float
    age: int
    labels: int
    mean_probability: float | None


class Fate(NamedTuple):
    """What the node says became of one sweep.

    Attributes:
        text: `labelled`, or why it was not: `dropped: busy`, `rejected: ...`, `failed: ...`.
        stages: seconds of each stage, in order; empty where it was not labelled.
    """

    text: str
    stages: dict[str, float]


class Recording:
    """Sweeps by stamp; written by the playing and the receiving thread, read after both.

    Attributes:
        labels: class ids of the answers.
        sent: the sweeps that went out, by stamp in nanoseconds.
        answers: the answer of each, where there was one.
        fates: what the node says became of each sweep, by stamp.
        memory: of the node's process.
        node_values: the last values that the node gave on /diagnostics.
        part_values: the same of each other part of the node, such as a camera, by its name.
        beside: number of messages that were sent beside the clouds, by topic.
    """

    def __init__(self) -> None:
        self.labels = LabelStore()
        self.sent: dict[int, Sent] = {}
        self.answers: dict[int, Answer] = {}
        self.fates: dict[int, Fate] = {}
        self.memory: list[MemorySample] = []
        self.node_values: dict[str, str] = {}
        self.part_values: dict[str, dict[str, str]] = {}
        self.beside: Counter[str] = Counter()
        self._last = 0
        self._answered = threading.Condition()

    def send(self, sweep: Planned) -> None:
        """Note that the sweep goes out now."""
        self._last = sweep.number
        self.sent[sweep.stamp_ns] = Sent(sweep, time.perf_counter())

    def receive(
        self, stamp_ns: int, class_ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
    ) -> None:
        """Keep an answer; what was not sent by us, or comes twice, is ignored."""
        now, last = time.perf_counter(), self._last
        with self._answered:
            if stamp_ns not in self.sent or stamp_ns in self.answers:
                return
            sent = self.sent[stamp_ns]
            self.answers[stamp_ns] = Answer(
                now - sent.seconds,
                last - sent.sweep.number,
                self.labels.keep(class_ids),
                mean_probability(class_ids, probabilities),
            )
            self._answered.notify_all()

    def wait_for(self, stamp_ns: int, timeout: float) -> bool:
        """Wait for the answer to a sweep; returns whether it came."""
        with self._answered:
            return self._answered.wait_for(lambda: stamp_ns in self.answers, timeout)

    def wait_for_more(self, timeout: float) -> bool:
        """Wait until every sweep is answered, or any further answer comes; False if none does."""
        with self._answered:
            before = len(self.answers)
            return before == len(self.sent) or self._answered.wait_for(
                lambda: len(self.answers) > before, timeout
            )

    @property
    def is_complete(self) -> bool:
        return len(self.answers) == len(self.sent)


def mean_probability(
    class_ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> float | None:
    """Mean probability of the points (N,) that have a class, None where none has."""
    chosen = probabilities[class_ids != IGNORE_INDEX]
    return float(chosen.mean(dtype=np.float64)) if chosen.size else None
