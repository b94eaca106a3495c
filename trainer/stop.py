# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Stopping a long job so that it can be continued: SIGINT and SIGTERM become a request."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class StoppedError(Exception):
    """The user asked the run to stop, and it is safe on disk."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__(f'stopped after step {done} of {total}; continue with --resume')


@dataclass
class StopRequest:
    """Whether SIGINT or SIGTERM has arrived."""

    signal_number: int = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Let the step under way end, then stop; a second signal kills as usual."""
    stop = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        stop.signal_number = number
        signal.signal(number, signal.SIG_DFL)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
