# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the model does with images: its encoder and its ensemble, made ready; no ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.cameras.encoder_keeper import EncoderKeeper
from reldistill_ros.node.model import Ensemble, LabelledSweep, ModelSource

if TYPE_CHECKING:
    from reldistill_ros.cameras.looks import Said
    from reldistill_ros.cameras.opinions import Encoded

EXTRA = 'cameras'
WARM_UP_SIZE = (240, 320)


class Vision:
    """The image encoder, and the ensemble of the words in force.

    Attributes:
        encoder: opened, and opened anew when it broke.

    Args:
        source: where they are opened from.
        failures_allowed: of the encoder.
    """

    def __init__(self, source: ModelSource, failures_allowed: int) -> None:
        self._source = source
        self.encoder = EncoderKeeper(source.image_encoder, failures_allowed)
        self._ensemble: tuple[Any, Ensemble] | None = None
        self._lock = threading.Lock()

    def ensemble(self, words: Any) -> Ensemble:
        """Any thread: the ensemble of these words, made when they are others than the last ones.

        Raises:
            Exception: what the model raised.
        """
        with self._lock:
            if self._ensemble is None or self._ensemble[0] is not words:
                self._ensemble = words, self._source.ensemble(words.vocabulary)
            return self._ensemble[1]

    def speak(self, encoded: Encoded, words: Any) -> Said:
        """Camera thread: all that depends on the words of what an encoded image says."""
        from reldistill_ros.cameras.looks import Said

        def compare() -> Said:
            opinions = encoded.opinions(words.prompt_embeddings)
            return Said(words, opinions, self.ensemble(words).spoken(opinions.table))

        outcome = attempt(compare)
        if outcome.value is None:
            return Said(words, None, np.empty((0, 0), np.float32), outcome.reason)
        return outcome.value

    def fuse(
        self, points: NDArray[np.float32], sweep: LabelledSweep, views: Sequence[Any]
    ) -> Labels:
        """Inference thread: the labels of student and cameras together.

        Args:
            points: (N, 4) of the sweep.
            sweep: the student's labels.
            views: `SpokenView`s in terms of the sweep's words.
        """
        return self.ensemble(sweep.words)(points, sweep.labels, views)

    def warm_up(self, words: Any) -> None:
        """Run all that a sweep and an image go through once: compiled, read and loaded."""
        outcome = attempt(lambda: self.encoder.encode(np.zeros((*WARM_UP_SIZE, 3), np.uint8)))
        if outcome.value is not None:
            opinions = self.speak(outcome.value, words).opinions
            if opinions is not None:
                opinions.at(np.zeros((1, 2), np.float32))
        attempt(lambda: self.ensemble(words).warm_up())


def open_vision(source: ModelSource, failures_allowed: int, words: Any) -> Vision:
    """Open the image encoder and compile what cameras need, so that no sweep waits for it.

    Args:
        source: where they are opened from.
        failures_allowed: of the encoder.
        words: those in force.

    Raises:
        InputError: the packages for cameras are not installed.
    """
    for package in ('cv2', 'PIL', 'scipy'):
        import_extra(package, EXTRA)
    from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible

    # the threads of OpenCV would take the cores from what labels
    import_extra('cv2', EXTRA).setNumThreads(1)
    camera = PinholeCamera(WARM_UP_SIZE, np.diag([100.0, 100.0, 1.0]), np.eye(4))
    find_visible(np.ones((8, 4), np.float32) * 3, camera, PairingSettings())
    vision = Vision(source, failures_allowed)
    vision.warm_up(words)
    return vision
