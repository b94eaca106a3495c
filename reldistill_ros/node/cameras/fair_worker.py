# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One thread for several sources: the newest job of each, and no source twice before the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reldistill_ros.node.cameras.priority import lower_priority
from reldistill_ros.node.latest_worker import LatestWorker

IsCurrent = Callable[[], bool]
Job = Callable[[IsCurrent], None]


class FairWorker:
    """Runs jobs in a thread of low priority; of each source at most one waits.

    A thread inside a native library cannot be ended: one that hangs is left to itself, and another
    one takes its place, but never a third.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: dict[str, Job] = {}  # in the order in which they will be done
        self._lock = threading.Lock()
        self._working: tuple[str, float] | None = None
        self._wanted = object()  # another one when nobody waits any more
        self._abandoned: LatestWorker[bool] | None = None
        self._worker = self._start()

    def put(self, source: str, job: Job) -> bool:
        """Hand over a job, which must not raise; returns whether it pushed out an older one.

        A job is called with `is_current`: whether anybody waits for its result.
        """
        with self._lock:
            pushed_out = source in self._jobs
            self._jobs[source] = job  # keeps its place in the queue
        self._worker.put(True)
        return pushed_out

    def give_up_if_stuck(self, timeout: float) -> str | None:
        """Start a new thread where a job takes longer; returns the source of that job."""
        with self._lock:
            working = self._working
        if working is None or time.monotonic() - working[1] <= timeout:
            return None
        if self._abandoned is not None and self._abandoned.is_alive:
            return None  # the last one hangs still
        self._abandoned, self._working = self._worker, None
        self._abandoned.stop(0)
        self._worker = self._start()
        self._worker.put(True)
        return working[0]

    def forget(self) -> None:
        """Forget what waits; for the result of the job in work nobody waits any more."""
        with self._lock:
            self._jobs.clear()
            self._wanted = object()

    def stop(self, timeout: float) -> bool:
        """Forget what waits and end the thread; returns whether no thread is left."""
        self.forget()
        ended = self._worker.stop(timeout)
        return ended and not (self._abandoned is not None and self._abandoned.is_alive)

    def _start(self) -> LatestWorker[bool]:
        def work(_: bool) -> None:
            lower_priority()
            while not worker.is_stopped and (taken := self._take()) is not None:
                job, wanted = taken
                job(lambda: not worker.is_stopped and wanted is self._wanted)  # noqa: B023
                self._done(worker)

        worker: LatestWorker[bool] = LatestWorker(work, self._name)
        return worker

    def _take(self) -> tuple[Job, object] | None:
        with self._lock:
            source = next(iter(self._jobs), None)
            if source is None:
                return None
            self._working = (source, time.monotonic())
            return self._jobs.pop(source), self._wanted

    def _done(self, worker: LatestWorker[bool]) -> None:
        with self._lock:
            if worker is self._worker:
                self._working = None
