# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the model does with images: its encoder and its ensemble, made ready; no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.encoder_keeper import EncoderKeeper
from reldistill_ros.node.model import Ensemble, LabelledSweep, ModelSource

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

    def fuse(
        self, points: NDArray[np.float32], sweep: LabelledSweep, views: Sequence[Any]
    ) -> Labels:
        """Inference thread: the labels of student and cameras together.

        Args:
            points: (N, 4) of the sweep.
            sweep: the student's labels.
            views: `CameraView`s in terms of the sweep's words.
        """
        words = sweep.words
        if self._ensemble is None or self._ensemble[0] is not words:
            self._ensemble = words, self._source.ensemble(words.vocabulary)
        return self._ensemble[1](points, sweep.labels, views)


def open_vision(source: ModelSource, failures_allowed: int) -> Vision:
    """Open the image encoder and compile what cameras need, so that no sweep waits for it.

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
    attempt(lambda: vision.encoder.encode(np.zeros((*WARM_UP_SIZE, 3), np.uint8)))
    return vision
