# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Keeping the image encoder at work: it is opened anew some time after it broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.opinions import Encoded
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.cameras.priority import attempt_at_low_priority
from reldistill_ros.node.model import ImageEncoder

FIRST_DELAY = 2.0  # seconds until the first try to open it again
LONGEST_DELAY = 300.0  # seconds; the delay doubles with each try that does not help
ABSENT = 'the bundle carries no image encoder'


class EncoderKeeper:
    """The image encoder, which may break.

    What a call says that was given up counts for nothing: it comes from another encoder.

    Args:
        open_encoder: opens it, slowly; None where the bundle has none.
        failures_allowed: consecutive failures after which it is opened anew.
        clock: seconds.
    """

    def __init__(
        self,
        open_encoder: Callable[[], ImageEncoder | None],
        failures_allowed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open, self._failures_allowed, self._clock = open_encoder, failures_allowed, clock
        self._lock = threading.Lock()
        self._encoder: ImageEncoder | None = None
        self._failures, self._is_closed = 0, False
        self._delay, self._next_try = FIRST_DELAY, 0.0
        self.problem = ''
        self.is_absent = False
        self._try_to_open()

    @property
    def is_open(self) -> bool:
        """Whether images are encoded now."""
        return self._encoder is not None

    def encode(self, image: NDArray[np.uint8]) -> Encoded | None:
        """Camera thread: encode an image (H, W, 3); None where there is no encoder now.

        Raises:
            Exception: what the encoder raised.
        """
        if self._encoder is None and not self.is_absent and self._clock() >= self._next_try:
            self._try_to_open()
        encoder = self._encoder
        if encoder is None:
            return None
        outcome = attempt(lambda: encoder.encode(image))
        with self._lock:
            if self._encoder is encoder:
                self._count(outcome.reason)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def replace(self, reason: str) -> None:
        """Let go of it, and open it anew later."""
        with self._lock:
            self._let_go(reason)

    def close(self) -> None:
        """Let go of it for good."""
        with self._lock:
            self._encoder, self.is_absent, self._is_closed = None, True, True

    def _count(self, failure: str) -> None:
        """An image was encoded, where there is no failure."""
        if not failure:
            self._failures, self._delay = 0, FIRST_DELAY
            return
        self._failures += 1
        if self._failures >= self._failures_allowed:
            self._let_go(failure)

    def _let_go(self, reason: str) -> None:
        self._encoder, self.problem = None, reason
        self._failures = 0
        self._put_off()

    def _put_off(self) -> None:
        self._next_try = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _try_to_open(self) -> None:
        outcome = attempt_at_low_priority(self._open)
        with self._lock:
            if self._is_closed or self._encoder is not None:
                return  # that took so long that the caller was given up
            self._encoder = outcome.value
            self.is_absent = outcome.value is None and outcome.error is None
            self.problem = ABSENT if self.is_absent else outcome.reason
            if outcome.error is not None:
                self._put_off()
