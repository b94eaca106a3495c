# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the camera thread does: decode, rectify, encode, and draw overlays; no ROS."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.live_frames import Instant
from reldistill_ros.cameras.looks import Look
from reldistill_ros.cameras.overlay import OverlayStyle, draw_overlay
from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.fair_worker import IsCurrent
from reldistill_ros.node.cameras.fusion import Geometry, check_time
from reldistill_ros.node.cameras.vision import Vision
from reldistill_ros.node.model import FusedSweep

MOST_STRETCH = 0.05  # of the width by the height


class OverlayTopics(Protocol):
    """Where overlays go."""

    def are_wanted(self, camera: str) -> bool: ...

    def publish(self, camera: str, header: Any, picture: NDArray[np.uint8]) -> None: ...


@dataclass(frozen=True, eq=False)
class Shown:
    """A sweep that was published.

    Attributes:
        lidar: its frame and time.
        points: (N, 4).
        sweep: its labels.
    """

    lidar: Instant
    points: NDArray[np.float32]
    sweep: FusedSweep


class ImageWork:
    """The jobs of the camera thread; none of them raises.

    Args:
        vision: what encodes.
        geometry: where the cameras are.
        overlays: where overlays go.
        words: those in force, None while there are none.
        logger: of the node.
    """

    def __init__(
        self,
        vision: Vision,
        geometry: Geometry,
        overlays: OverlayTopics,
        *,
        words: Callable[[], Any],
        logger: Any,
    ) -> None:
        self._vision, self._geometry, self._overlays = vision, geometry, overlays
        self._words, self._logger = words, logger

    def is_overlay_wanted(self, camera: Camera) -> bool:
        """Whether anybody looks at the overlays of a camera."""
        return self._overlays.are_wanted(camera.name)

    def is_any_use(self, camera: Camera) -> bool:
        """Whether an image would be encoded or shown."""
        return not self._vision.encoder.is_absent or self.is_overlay_wanted(camera)

    def look(self, camera: Camera, message: Any, is_current: IsCurrent) -> None:
        """Make an image ready for the sweeps."""
        outcome = attempt(
            lambda: camera.look(message, keeps_picture=self.is_overlay_wanted(camera))
        )
        if outcome.value is None:
            camera.statistics.rejected(_kind_of(outcome.error))
            self._warn(f'image of camera {camera.name} rejected: {outcome.error}')
            return
        camera.statistics.noticed('decoded')
        if is_current():
            self._encode(camera, *outcome.value, is_current)

    def speak(self, camera: Camera, is_current: IsCurrent) -> None:
        """Compare its images with the words in force, where that is not done, the newest first."""
        words = self._words()
        if words is None:
            return
        for look in camera.looks.not_speaking(words):
            if not is_current() or self._words() is not words:
                return
            assert look.encoded is not None
            look.said = self._vision.speak(look.encoded, words)

    def draw(self, camera: Camera, shown: Shown, is_current: IsCurrent) -> None:
        """Draw the labels of a sweep on the image nearest to it."""
        outcome = attempt(lambda: self._draw(camera, shown, is_current))
        if isinstance(outcome.error, InputError):
            camera.statistics.noticed('overlays_left_out')
        elif outcome.error is not None:
            camera.statistics.noticed('overlays_failed')
            self._warn(f'overlay of camera {camera.name}: {outcome.reason}')

    def _encode(
        self, camera: Camera, look: Look, image: NDArray[np.uint8], is_current: IsCurrent
    ) -> None:
        started = time.monotonic()
        outcome = attempt(lambda: self._vision.encoder.encode(image))
        if not is_current():
            return  # it hung, and was counted
        if outcome.error is not None:
            camera.statistics.failed(type(outcome.error).__name__, outcome.reason)
            self._warn(f'image of camera {camera.name} not encoded: {outcome.reason}')
        elif outcome.value is not None:
            encoded, words = outcome.value, self._words()
            if words is not None:  # now, so that the sweeps need not
                look.said = self._vision.speak(encoded, words)
            look.encoded = encoded
            camera.statistics.encoded(time.monotonic() - started)
            if abs(math.log(encoded.stretch)) > MOST_STRETCH:
                camera.statistics.advised(squashed(encoded.stretch))

    def _draw(self, camera: Camera, shown: Shown, is_current: IsCurrent) -> None:
        look = camera.looks.nearest_picture(shown.lidar.stamp_ns)
        check_time(look, shown.lidar, camera.settings.window)
        assert look is not None
        assert look.picture is not None
        pairs = self._geometry.find_visible(camera, look, shown.points, shown.lidar)
        settings = camera.settings
        style = OverlayStyle(
            settings.overlay_width, settings.overlay_point_size, settings.overlay_opacity
        )
        class_ids = shown.sweep.labels.class_ids[pairs.point_indices]
        vocabulary = shown.sweep.words.vocabulary
        picture = draw_overlay(look.picture, pairs, class_ids, vocabulary, style)
        if is_current():
            self._overlays.publish(camera.name, look.header, picture)
            camera.statistics.noticed('overlays')

    def _warn(self, text: str) -> None:
        self._logger.warning(text, throttle_duration_sec=5.0)


def squashed(stretch: float) -> str:
    """What to tell of images of another shape than the encoder's."""
    wider = 'wider' if stretch > 1 else 'narrower'
    change = 100 * (max(stretch, 1 / stretch) - 1)
    return (
        f'its images are {change:.0f} % {wider}, by their height, than what the image encoder '
        'was exported for, and are squashed: it may see worse; export with images of this shape'
    )


def _kind_of(error: Exception | None) -> str:
    """What is counted: the sentence of an InputError holds no numbers, others may."""
    told = str(error).partition('\n')[0]
    return told if isinstance(error, InputError) else type(error).__name__
