# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Keeping a labeller at work: reopening it when it breaks, and choosing another engine; no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from reldistill_ros.node.attempt import Attempt, attempt
from reldistill_ros.node.latest_worker import LatestWorker
from reldistill_ros.node.memory import release_memory
from reldistill_ros.node.model import Labeller, warm_up

FIRST_DELAY = 2.0  # seconds until the first try to open again or to take a faster engine
LONGEST_DELAY = 300.0  # seconds; the delay doubles with each try that does not help
SETTLED = 100  # sweeps without a failure after which the delay is the first one again


class Engine:
    """The open labeller and the ladder of engines that it may run in, the best one first.

    `failures_allowed` failures in a row close it, and it is opened anew: in the same engine at
    first, then in the next one of the ladder, and so on round. While it runs in another than the
    first, the faster ones are tried again from time to time. All opening but the first is done in
    a thread of its own.

    Args:
        open_labeller: opens the model in the named engine.
        ladder: names of engines.
        failures_allowed: consecutive failures that break an engine.
        clock: seconds.
    """

    def __init__(
        self,
        open_labeller: Callable[[str], Labeller],
        ladder: Sequence[str],
        failures_allowed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_labeller, self._ladder = open_labeller, tuple(ladder)
        self._failures_allowed, self._clock = failures_allowed, clock
        self._lock = threading.Lock()
        self._labeller: Labeller | None = None
        self._rung = 0
        self._words: Any = None
        self._problems: dict[str, str] = {}
        self._failures = self._successes = self._breakdowns = 0
        self._delay, self._next_try = FIRST_DELAY, float('inf')
        self._opener: LatestWorker[tuple[int, ...]] = LatestWorker(self._open_first, 'engine')

    @property
    def labeller(self) -> Labeller | None:
        """What labels the next sweep, None while there is nothing."""
        return self._labeller

    @property
    def name(self) -> str:
        """The engine at work, empty while there is none."""
        with self._lock:
            return self._ladder[self._rung] if self._labeller is not None else ''

    @property
    def problem(self) -> str:
        """Why the best engine is not at work, empty where it is."""
        with self._lock:
            if self._labeller is not None and self._rung == 0:
                return ''
            return '; '.join(f'{name}: {reason}' for name, reason in self._problems.items())

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def open(self) -> None:
        """Open the first engine that can be opened, in the caller's thread.

        Raises:
            InputError: none can be opened, and the user can mend it.
            Exception: what the first engine raised.
        """
        outcome = self._try(range(len(self._ladder)))
        if outcome.error is not None:
            raise outcome.error

    def set_words(self, words: Any) -> None:
        """Put words in force, also for every engine to come; the slow part of it is done here."""
        while True:
            with self._lock:
                labeller = self._labeller
                if labeller is None:
                    self._words = words
                    return
            prepared = labeller.fold(words)
            with self._lock:
                if labeller is self._labeller:
                    labeller.use(prepared)
                    self._words = words
                    return

    def succeeded(self) -> None:
        """A sweep was labelled."""
        self._failures = self._breakdowns = 0
        self._successes += 1
        if self._successes >= SETTLED and self._rung == 0:
            self._delay = FIRST_DELAY

    def failed(self, reason: str) -> None:
        """A sweep could not be labelled; may close the engine."""
        self._failures, self._successes = self._failures + 1, 0
        if self._failures >= self._failures_allowed:
            self.replace(reason)

    def replace(self, reason: str) -> None:
        """Close the engine at once and open it, or another one, anew."""
        with self._lock:
            self._problems[self._ladder[self._rung]] = reason
            self._labeller = None
            self._failures, self._breakdowns = 0, self._breakdowns + 1
            start, rungs = self._rung + (self._breakdowns > 1), len(self._ladder)
            if self._breakdowns > 1:
                self._put_off()
            if self._breakdowns > rungs + 1:
                return  # each was opened and broke at once: `tick` opens the next one
        self._opener.put(tuple((start + step) % rungs for step in range(rungs)))

    def tick(self) -> None:
        """Try again what is due: to open any engine, or a faster one. Call this now and then."""
        with self._lock:
            if self._clock() < self._next_try:
                return
            self._put_off()
            closed = self._labeller is None
            rungs = range(len(self._ladder)) if closed else range(self._rung)
        if rungs:
            self._opener.put(tuple(rungs))

    def close(self, timeout: float) -> bool:
        """Let go of the labeller; returns whether no opening was under way any more."""
        ended = self._opener.stop(timeout)
        with self._lock:
            self._labeller = self._words = None
        release_memory()
        return ended

    def _put_off(self) -> None:
        """Wait twice as long for the next try as for the last one."""
        self._next_try = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _open_first(self, rungs: Sequence[int]) -> None:
        """Opener thread."""
        if self._labeller is None:
            release_memory()  # the broken engine's, before another one takes as much
        self._try(rungs)

    def _try(self, rungs: Sequence[int]) -> Attempt[None]:
        """Open the first of these that can be; returns how that went, or else the first failure."""
        failed: Attempt[None] | None = None
        for rung in rungs:
            outcome = attempt(lambda: self._install(rung))  # noqa: B023, called at once
            if outcome.error is None:
                failed = None
                break
            failed = failed or outcome
            with self._lock:
                self._problems[self._ladder[rung]] = outcome.reason
        with self._lock:
            is_settled = self._labeller is not None and self._rung == 0
            due = self._clock() + self._delay
            self._next_try = float('inf') if is_settled else min(self._next_try, due)
        return failed or Attempt()

    def _install(self, rung: int) -> None:
        """Open, warm up, give it the words in force, and take it."""
        labeller = self._open_labeller(self._ladder[rung])
        warm_up(labeller)
        words = None
        while True:
            with self._lock:
                if words is self._words:
                    if not self._opener.is_stopped:
                        self._labeller, self._rung = labeller, rung
                        self._problems.pop(self._ladder[rung], None)
                    return
                words = self._words
            labeller.use(labeller.fold(words))
