# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One thread that always works on the newest item: late answers are worth less than none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')


class LatestWorker(Generic[Item]):
    """Calls `work` in a thread of its own with the newest item put; holds at most one waiting.

    Args:
        work: what to do with an item; it must not raise.
        name: name of the thread.
    """

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        self._work = work
        self._waiting: Item | None = None
        self._working: Item | None = None
        self._busy_since = 0.0
        self._stopped = False
        self._changed = threading.Condition()
        # a daemon: an endless inference must not keep the process alive after `stop`
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> Item | None:
        """Hand over an item; returns the one that it pushed out while that was still waiting."""
        with self._changed:
            pushed_out, self._waiting = self._waiting, item
            self._changed.notify()
        return pushed_out

    def take_back(self) -> Item | None:
        """The item that waits, which is then forgotten."""
        with self._changed:
            waiting, self._waiting = self._waiting, None
        return waiting

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; False some time after `stop`."""
        return self._thread.is_alive()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called: what is still in work will have no use."""
        return self._stopped

    @property
    def working_on(self) -> Item | None:
        """The item in work."""
        with self._changed:
            return self._working

    def busy_for(self) -> float:
        """Seconds since the item in work was begun, 0 where there is none."""
        with self._changed:
            return 0.0 if self._working is None else time.monotonic() - self._busy_since

    def stop(self, timeout: float) -> bool:
        """Forget the waiting item and end the thread; returns whether it ended in time."""
        with self._changed:
            self._stopped, self._waiting = True, None
            self._changed.notify()
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._working = None  # a cloud must not stay in memory until the next one
                self._changed.wait_for(lambda: self._stopped or self._waiting is not None)
                if self._stopped:
                    return
                self._working, self._waiting = self._waiting, None
                self._busy_since = time.monotonic()
            assert self._working is not None
            self._work(self._working)
