# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The inference thread's side of the cameras: what is encoded by now joins the labels; no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.ensemble import CameraView
from reldistill_ros.cameras.live_frames import (
    Instant,
    LiveFrames,
    MissingTransformError,
    camera_from_lidar,
)
from reldistill_ros.cameras.looks import Look
from reldistill_ros.cameras.visibility import PairingSettings, Pairs, find_visible
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.camera import Camera
from reldistill_ros.node.model import LabelledSweep
from reldistill_ros.node.vision import Vision

PAIRING = PairingSettings()


class LeftOutError(InputError):
    """A camera has no opinion on a sweep.

    Args:
        kind: why, in one word.
        what: why, in one sentence.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class FusedSweep:
    """Labels, and the words that they are classes of.

    Attributes:
        labels: of the points.
        words: whose classes they are.
        cameras: what came of each camera, for the log of the sweeps.
    """

    labels: Labels
    words: Any
    cameras: str


@dataclass(frozen=True)
class Geometry:
    """How cameras lie to the lidar.

    Attributes:
        frames: the coordinate frames.
        fixed_frame: see `camera_from_lidar`.
    """

    frames: LiveFrames
    fixed_frame: str

    def find_visible(
        self, camera: Camera, look: Look, points: NDArray[np.float32], lidar: Instant
    ) -> Pairs:
        """The points of a sweep that a camera saw.

        Args:
            camera: which one.
            look: its image.
            points: (N, >=3) of the sweep.
            lidar: frame and time of the sweep.

        Raises:
            LeftOutError: a transform is not known.
        """
        try:
            transform = camera_from_lidar(
                self.frames,
                Instant(look.frame, look.stamp_ns),
                lidar,
                fixed_frame=self.fixed_frame,
                given=camera.given,
            )
        except MissingTransformError as error:
            raise LeftOutError('no_transform', str(error).partition('\n')[0]) from error
        return find_visible(points, look.pinhole(transform), PAIRING)


class CameraFusion:
    """Adds to a sweep's labels what the cameras say of it, without ever waiting for one.

    Args:
        cameras: all of them.
        geometry: where they are.
        vision: what fuses.
    """

    def __init__(self, cameras: Sequence[Camera], geometry: Geometry, vision: Vision) -> None:
        self._cameras, self._geometry, self._vision = cameras, geometry, vision

    def __call__(
        self, lidar: Instant, points: NDArray[np.float32], sweep: LabelledSweep
    ) -> FusedSweep:
        """Fuse; whatever goes wrong with a camera, the student's labels are there.

        Args:
            lidar: frame and time of the sweep.
            points: (N, 4) of the sweep.
            sweep: the student's labels, and their words.
        """
        if not self._vision.encoder.is_open:
            return FusedSweep(sweep.labels, sweep.words, '')
        views = {}
        told = []
        for camera in self._cameras:
            outcome = attempt(lambda: self._view(camera, lidar, points, sweep.words))  # noqa: B023
            if outcome.value is None:
                kind = getattr(outcome.error, 'kind', 'failed')
                camera.statistics.left_out(kind, outcome.reason)
                told.append(f'{camera.name} {kind}')
            else:
                views[camera], age = outcome.value
                told.append(f'{camera.name} {age:+.3f}')
        fused = attempt(lambda: self._vision.fuse(points, sweep, [*views.values()]))
        for camera, view in views.items():
            if fused.error is None:
                camera.statistics.took_part(view.age)
            else:
                camera.statistics.left_out('ensemble_failed', fused.reason)
        labels = fused.value if fused.value is not None else sweep.labels
        return FusedSweep(labels, sweep.words, ', '.join(told))

    def _view(
        self, camera: Camera, lidar: Instant, points: NDArray[np.float32], words: Any
    ) -> tuple[CameraView, float]:
        """What a camera says in terms of the sweep's words, and how much later it looked."""
        look = camera.looks.nearest_encoded(lidar.stamp_ns)
        check_time(look, lidar, camera.settings.window)
        assert look is not None
        assert look.encoded is not None
        pairs = self._geometry.find_visible(camera, look, points, lidar)
        found = look.encoded.opinions(words.prompt_embeddings).at(pairs.pixels)
        age = look.seconds_after(lidar.stamp_ns)
        return CameraView(pairs.point_indices, found.cosines, found.confidences, abs(age)), age


def check_time(look: Look | None, lidar: Instant, window: float) -> None:
    """Refuse an image that is too far from a sweep.

    Raises:
        LeftOutError: there is none, or it is.
    """
    if look is None:
        raise LeftOutError('no_image', 'no image is ready yet')
    age = look.seconds_after(lidar.stamp_ns)
    if abs(age) > window:
        raise LeftOutError(
            'no_image_near',
            f'the nearest image that is ready is {abs(age):.3f} s '
            f'{"after" if age > 0 else "before"} the sweep, and window is {window:g} s',
        )
