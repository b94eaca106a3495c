# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The inference thread: works on the newest sweep, and is replaced when it does not come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from reldistill_ros.node.latest_worker import LatestWorker

Item = TypeVar('Item')
IsCurrent = Callable[[], bool]


class StuckTwiceError(RuntimeError):
    """A second inference hangs while the first still does: only a new process can help."""


class Inference(Generic[Item]):
    """A `LatestWorker` that can be given up.

    A thread inside a native library cannot be ended. It is left to itself, and another one takes
    its place; should its call ever return, `is_current` tells it that nobody waits for the answer.

    Args:
        work: called with an item and `is_current`; it must not raise.
    """

    def __init__(self, work: Callable[[Item, IsCurrent], None]) -> None:
        self._work = work
        self._abandoned: LatestWorker[Item] | None = None
        self._worker = self._start()

    def put(self, item: Item) -> Item | None:
        """Hand over an item; returns the one that it pushed out."""
        return self._worker.put(item)

    def give_up_if_stuck(self, timeout: float) -> Item | None:
        """Start a new thread where the item in work takes longer; returns that item.

        Raises:
            StuckTwiceError: the thread that was given up last time hangs still.
        """
        if self._worker.busy_for() <= timeout:
            return None
        if self._abandoned is not None and self._abandoned.is_alive:
            raise StuckTwiceError(f'two inferences hang, each for more than {timeout:g} s')
        stuck = self._worker.working_on
        self._abandoned, self._worker = self._worker, self._start(self._worker.take_back())
        self._abandoned.stop(0)
        return stuck

    @property
    def is_alive(self) -> bool:
        """Whether a thread runs, be it one that was given up."""
        abandoned = self._abandoned is not None and self._abandoned.is_alive
        return abandoned or self._worker.is_alive

    def stop(self, timeout: float) -> list[Item]:
        """End the threads; returns the items that nobody will hear of any more."""
        waiting = self._worker.take_back()
        working = None if self._worker.stop(timeout) else self._worker.working_on
        return [item for item in (working, waiting) if item is not None]

    def _start(self, first: Item | None = None) -> LatestWorker[Item]:
        def work(item: Item) -> None:
            self._work(item, lambda: not worker.is_stopped)

        worker = LatestWorker(work, 'inference')
        if first is not None:
            worker.put(first)
        return worker
