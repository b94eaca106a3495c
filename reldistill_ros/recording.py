# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What was sent to the node and what came back; the labels lie in a file, not in memory."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """The labels of one sweep.

    Attributes:
        seconds: from sending the sweep to receiving its labels.
        offset: where its class ids begin in the file.
        num_points: how many there are.
    """

    seconds: float
    offset: int
    num_points: int


class Recording:
    """Sweeps by stamp; written by the playing and the receiving thread, read after both.

    Attributes:
        sent: time at which each sweep was sent (`time.perf_counter`), by stamp in nanoseconds.
        answers: its answer, where there was one.
        node_values: the last values that the node gave on /diagnostics.
    """

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.answers: dict[int, Answer] = {}
        self.node_values: dict[str, str] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed with the recording
        self._answered = threading.Condition()

    def send(self, stamp_ns: int) -> None:
        """Note that the sweep goes out now."""
        self.sent[stamp_ns] = time.perf_counter()

    def receive(self, stamp_ns: int, class_ids: NDArray[np.uint8]) -> None:
        """Keep an answer; what was not sent by us, or comes twice, is ignored."""
        now = time.perf_counter()
        with self._answered:
            if stamp_ns not in self.sent or stamp_ns in self.answers:
                return
            offset = self._file.seek(0, 2)
            self._file.write(class_ids.tobytes())
            answer = Answer(now - self.sent[stamp_ns], offset, len(class_ids))
            self.answers[stamp_ns] = answer
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

    def class_ids(self, stamp_ns: int) -> NDArray[np.uint8]:
        """Class ids (N,) of an answered sweep."""
        answer = self.answers[stamp_ns]
        self._file.seek(answer.offset)
        return np.frombuffer(self._file.read(answer.num_points), np.uint8)
