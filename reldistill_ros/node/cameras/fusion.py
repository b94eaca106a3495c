# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The inference thread's side of the cameras: what is encoded by now joins the labels; no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.live_frames import (
    Instant,
    LiveFrames,
    MissingTransformError,
    camera_from_lidar,
)
from reldistill_ros.cameras.looks import Look
from reldistill_ros.cameras.poll import SpokenView
from reldistill_ros.cameras.visibility import PairingSettings, Pairs, find_visible
from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import Attempt, attempt
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.vision import Vision
from reldistill_ros.node.model import FusedSweep, LabelledSweep

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
        max_seconds: after which no other camera is asked; the next sweep begins with that one.
        clock: seconds.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        geometry: Geometry,
        vision: Vision,
        *,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cameras, self._geometry, self._vision = cameras, geometry, vision
        self._max_seconds, self._clock = max_seconds, clock
        self._first = 0  # which camera is asked first
        self._seconds_per_point = 0.0  # of the last ensemble
        self._in_work = threading.Lock()

    def __call__(
        self, lidar: Instant, points: NDArray[np.float32], sweep: LabelledSweep
    ) -> FusedSweep:
        """Fuse; whatever goes wrong with a camera, the student's labels are there.

        Args:
            lidar: frame and time of the sweep.
            points: (N, 4) of the sweep.
            sweep: the student's labels, and their words.
        """
        if not (self._vision.encoder.is_open and len(points)):
            return FusedSweep(sweep.labels, sweep.words)
        if not self._in_work.acquire(blocking=False):
            # another thread, that was given up, hangs here: this one would hang, too
            for camera in self._cameras:
                camera.statistics.left_out('fusion_hangs', 'the fusion of an earlier sweep hangs')
            return FusedSweep(sweep.labels, sweep.words, 'fusion_hangs')
        try:
            return self._fuse(lidar, points, sweep)
        finally:
            self._in_work.release()

    def _fuse(
        self, lidar: Instant, points: NDArray[np.float32], sweep: LabelledSweep
    ) -> FusedSweep:
        looked = self._ask(lidar, points, sweep.words)
        views = {
            camera: outcome.value
            for camera, outcome in looked.items()
            if outcome.value is not None
        }
        started = self._clock()
        fused = attempt(
            lambda: self._vision.fuse(points, sweep, [view for view, _ in views.values()])
        )
        num = sum(len(view.point_indices) for view, _ in views.values())
        self._seconds_per_point = (self._clock() - started) / max(num, 1)
        for camera, (_, age) in views.items():
            if fused.error is None:
                camera.statistics.took_part(age)
            else:
                camera.statistics.left_out('ensemble_failed', fused.reason)
        told = ', '.join(f'{camera.name} {_told(outcome)}' for camera, outcome in looked.items())
        labels = fused.value if fused.value is not None else sweep.labels
        return FusedSweep(labels, sweep.words, told)

    def _ask(
        self, lidar: Instant, points: NDArray[np.float32], words: Any
    ) -> dict[Camera, Attempt[tuple[SpokenView, float]]]:
        """What each camera says, or why it says nothing, in the order of the cameras."""
        found: dict[int, Attempt[tuple[SpokenView, float]]] = {}
        started, num, first = self._clock(), 0, self._first
        for step in range(len(self._cameras)):
            index = (first + step) % len(self._cameras)
            camera = self._cameras[index]
            # the ensemble itself is still to come
            spent = self._clock() - started + num * self._seconds_per_point
            if step and spent > self._max_seconds:
                found[index] = Attempt(error=self._no_time())
                self._first = index if self._first == first else self._first
            else:
                found[index] = attempt(lambda: self._view(camera, lidar, points, words))  # noqa: B023
            outcome = found[index]
            if outcome.value is None:
                camera.statistics.left_out(_told(outcome), outcome.reason)
            else:
                num += len(outcome.value[0].point_indices)
        return {camera: found[index] for index, camera in enumerate(self._cameras)}

    def _no_time(self) -> LeftOutError:
        return LeftOutError(
            'no_time', f'the other cameras took max_fusion_time, {self._max_seconds:g} s'
        )

    def _view(
        self, camera: Camera, lidar: Instant, points: NDArray[np.float32], words: Any
    ) -> tuple[SpokenView, float]:
        """What a camera says in terms of the sweep's words, and how much later it looked."""
        camera.looks.wanted_at(lidar.stamp_ns)
        look = camera.looks.nearest_speaking(lidar.stamp_ns, words)
        if look is None:
            check_time(camera.looks.nearest_encoded(lidar.stamp_ns), lidar, camera.settings.window)
            raise LeftOutError('new_words', 'its images are not compared with the new words yet')
        check_time(look, lidar, camera.settings.window)
        said = look.said
        assert said is not None
        if said.opinions is None:
            raise LeftOutError('ensemble_failed', said.problem)
        pairs = self._geometry.find_visible(camera, look, points, lidar)
        if not len(pairs):
            raise LeftOutError(
                'sees_nothing',
                'it sees no point of the sweep; are its extrinsics those of the optical frame '
                '(x right, y down, z forward)?',
            )
        found = said.opinions.at(pairs.pixels)
        age = look.seconds_after(lidar.stamp_ns)
        view = SpokenView(
            pairs.point_indices,
            found.rows,
            found.weights,
            found.confidences,
            said.classes,
            abs(age),
        )
        return view, age


def _told(outcome: Attempt[tuple[SpokenView, float]]) -> str:
    """What came of a camera in one word."""
    if outcome.value is None:
        return str(getattr(outcome.error, 'kind', 'failed'))
    return f'{outcome.value[1]:+.3f}'


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
