# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One thread that always works on the newest item: late answers are worth less than none."""

from __future__ import annotations

import threading
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
        self._stopped = False
        self._changed = threading.Condition()
        # a daemon: an endless inference must not keep the process alive after `stop`
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Hand over an item; returns whether it pushed out one that was still waiting."""
        with self._changed:
            pushed_out = self._waiting is not None
            self._waiting = item
            self._changed.notify()
        return pushed_out

    def stop(self, timeout: float) -> bool:
        """Forget the waiting item and end the thread; returns whether it ended in time."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._waiting is not None)
                if self._stopped:
                    return
                item, self._waiting = self._waiting, None
            assert item is not None
            self._work(item)
