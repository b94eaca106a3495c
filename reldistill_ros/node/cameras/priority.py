# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Threads that let those go first that label."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from reldistill_ros.node.attempt import Attempt, attempt

Result = TypeVar('Result')
NICENESS = 10  # above that of the process
MOST = 19  # that Linux has


def lower_priority() -> None:
    """Make the calling thread nicer than the process; on Linux each has a niceness of its own."""
    if sys.platform == 'linux':
        wanted = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS, MOST)
        with suppress(OSError):  # a sandbox may forbid it; then all threads are equal
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), wanted)


def attempt_at_low_priority(call: Callable[[], Result]) -> Attempt[Result]:
    """Call in a thread of low priority, whose own threads inherit that.

    ONNX Runtime starts the threads of a session when that is opened.
    """
    outcomes: list[Attempt[Result]] = []

    def run() -> None:
        lower_priority()
        outcomes.append(attempt(call))

    thread = threading.Thread(target=run, name='open', daemon=True)
    thread.start()
    thread.join()
    return outcomes[0]
