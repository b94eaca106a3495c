# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node's one guard: what an engine or a cloud does wrong must not end the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reldistill_ros.core.errors import InputError

Result = TypeVar('Result')
POLL_PERIOD = 0.1  # seconds


@dataclass(frozen=True)
class Attempt(Generic[Result]):
    """What came of a call: a value, or the error that it raised."""

    value: Result | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """The error in one line, empty where there is none."""
        if self.error is None:
            return ''
        lines = str(self.error).splitlines() or ['']
        is_told = isinstance(self.error, InputError)
        return lines[0] if is_told else f'{type(self.error).__name__}: {lines[0]}'


def attempt(call: Callable[[], Result]) -> Attempt[Result]:
    """Call, whatever happens: engines raise what their libraries raise."""
    try:
        return Attempt(value=call())
    except Exception as error:
        return Attempt(error=error)


def attempt_in_thread(
    call: Callable[[], Result], keep_waiting: Callable[[], bool]
) -> Attempt[Result] | None:
    """Call in a thread of its own, so that a signal need not wait for a library.

    Args:
        call: what to do.
        keep_waiting: asked ten times a second.

    Returns:
        What came of it; None where nobody waits any more, and the thread goes on by itself.
    """
    outcomes: list[Attempt[Result]] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(attempt(call)), name='load', daemon=True
    )
    thread.start()
    while thread.is_alive():
        if not keep_waiting():
            return None
        thread.join(POLL_PERIOD)
    return outcomes[0]
