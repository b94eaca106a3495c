# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""All cameras of the node, from configure to cleanup; destroying a part undoes its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.extrinsics import read_extrinsics
from reldistill_ros.cameras.live_frames import Instant, LiveFrames
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.fair_worker import FairWorker
from reldistill_ros.node.cameras.fusion import CameraFusion, Geometry
from reldistill_ros.node.cameras.image_work import ImageWork, Shown
from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.cameras.topics import CameraInputs, OverlayPublishers
from reldistill_ros.node.cameras.vision import Vision
from reldistill_ros.node.diagnostics import Finding
from reldistill_ros.node.diagnostics_publisher import Report, input_state
from reldistill_ros.node.model import FusedSweep, LabelledSweep
from reldistill_ros.node.parameters import NodeSettings
from reldistill_ros.node.stamps import stamp_ns_of

LOG_PERIOD = 5.0


class CameraSystem:
    """From configure to cleanup: the cameras, what looks at their images, and the overlays.

    Attributes:
        cameras: all of them.
        frames: how they lie to each other.
        worker: the camera thread: one for all activations, as one that hangs cannot be ended.

    Args:
        node: the lifecycle node.
        vision: open and warm.
        cameras: parameters of each camera by its name.
        settings: of the node.
        words: those in force, None while there are none.

    Raises:
        InputError: a file that the parameters name cannot be used.
    """

    def __init__(
        self,
        node: Any,
        vision: Vision,
        cameras: Mapping[str, CameraSettings],
        *,
        settings: NodeSettings,
        words: Callable[[], Any],
    ) -> None:
        self._node, self._vision, self._settings = node, vision, settings
        self.cameras = [
            Camera(name, of_camera, settings.max_image_pixels)
            for name, of_camera in cameras.items()
        ]
        file = settings.extrinsics_file
        self.frames = LiveFrames(read_extrinsics(Path(file)) if file else ())
        geometry = Geometry(self.frames, settings.fixed_frame)
        self._overlays = OverlayPublishers(node, [*cameras])
        self._fusion = CameraFusion(
            self.cameras, geometry, vision, max_seconds=settings.max_fusion_time
        )
        self._work = ImageWork(
            vision, geometry, self._overlays, words=words, logger=node.get_logger()
        )
        self.worker = FairWorker('cameras')  # last: nothing that fails leaves it behind

    @property
    def are_overlays_wanted(self) -> bool:
        """Whether anybody listens to an overlay."""
        return any(self._overlays.are_wanted(camera.name) for camera in self.cameras)

    def activate(self, are_labels_wanted: Callable[[], bool]) -> ActiveCameras:
        """Listen to the cameras.

        Args:
            are_labels_wanted: asked whether anybody listens to the labels.
        """
        return ActiveCameras(
            self._node, self, self._fusion, work=self._work, are_labels_wanted=are_labels_wanted
        )

    def forget(self) -> None:
        """Time has jumped."""
        self.frames.forget_motion()
        for camera in self.cameras:
            camera.forget()

    @property
    def needs_frames(self) -> bool:
        """Whether /tf is needed."""
        is_given = all(camera.given is not None for camera in self.cameras)
        return bool(self._settings.fixed_frame) or not is_given

    @property
    def ensemble(self) -> str:
        """Whether cameras are asked, or why not."""
        return 'on' if self._vision.encoder.is_open else f'off: {self._vision.encoder.problem}'

    def findings(self) -> list[Finding]:
        """What is worth telling of all cameras together."""
        encoder = self._vision.encoder
        if encoder.is_open:
            return []
        # a bundle without encoder is no fault: overlays need none
        return [(0 if encoder.is_absent else 1, f'no ensemble: {encoder.problem}')]

    def reports(self, active: ActiveCameras | None) -> list[Report]:
        """The status of each camera since the last call."""
        return [self._report(camera, active) for camera in self.cameras]

    def gave_up(self, source: str) -> None:
        """The camera thread hung at a job from this source."""
        reason = f'the work on an image takes more than {self._settings.image_timeout:g} s'
        for camera in self.cameras:
            if camera.name == source:
                camera.statistics.failed('stuck', reason)
                self._vision.encoder.replace(reason)
        self._node.get_logger().error(f'{source}: {reason} and is given up')

    def destroy(self, timeout: float) -> bool:
        """Let go of everything; returns whether the thread ended in time."""
        ended = self.worker.stop(timeout)
        self._overlays.destroy()
        self._vision.encoder.close()
        self.forget()
        return ended

    def _report(self, camera: Camera, active: ActiveCameras | None) -> Report:
        timeout = self._settings.input_timeout
        subscription = active.inputs.images[camera.name] if active else None
        source = input_state(self._node, subscription, timeout) if subscription else None
        findings = camera.statistics.findings(source)
        needs_tf = self._settings.fixed_frame or not self._settings.extrinsics_file
        if active and active.inputs.problem and needs_tf:
            findings.append((1, active.inputs.problem))
        values = {
            **camera.statistics.values(),
            'topic': source.topic if source else '',
            'refused_transforms': str(self.frames.refused),
        }
        otherwise = 'looking' if source else 'inactive'
        return Report(findings, otherwise, values, f'camera {camera.name}', camera.name)


class ActiveCameras:
    """From activate to deactivate: the subscriptions.

    Attributes:
        inputs: the subscriptions.

    Args:
        node: the lifecycle node.
        system: whose cameras they are.
        fusion: what fuses.
        work: what is done with images.
        are_labels_wanted: asked whether anybody listens to the labels.
    """

    def __init__(
        self,
        node: Any,
        system: CameraSystem,
        fusion: CameraFusion,
        *,
        work: ImageWork,
        are_labels_wanted: Callable[[], bool],
    ) -> None:
        self._node, self._system, self._fusion, self._work = node, system, fusion, work
        self._are_labels_wanted = are_labels_wanted
        for camera in system.cameras:
            camera.statistics.activated()
        self.inputs = CameraInputs(
            node,
            system.cameras,
            on_image=self._on_image,
            on_transforms=self._on_transforms if system.needs_frames else None,
        )

    def fuse(self, cloud: Any, points: NDArray[np.float32], sweep: LabelledSweep) -> FusedSweep:
        """Inference thread: the labels of a sweep (N, 4) with what the cameras say of it."""
        fused = self._fusion(_instant_of(cloud), points, sweep)
        for camera in self._system.cameras:
            if camera.looks.not_speaking(sweep.words):
                job = partial(self._work.speak, camera)
                self._system.worker.put(f'words of {camera.name}', job)
        return fused

    def show(self, cloud: Any, points: NDArray[np.float32], sweep: FusedSweep) -> None:
        """Inference thread: have a published sweep drawn on the images, where somebody looks."""
        shown = Shown(_instant_of(cloud), points, sweep)
        for camera in self._system.cameras:
            if self._work.is_overlay_wanted(camera):
                job = partial(self._work.draw, camera, shown)
                self._system.worker.put(f'overlay of {camera.name}', job)

    def give_up_if_stuck(self, timeout: float) -> None:
        """Replace thread and encoder where an image takes too long."""
        source = self._system.worker.give_up_if_stuck(timeout)
        if source is not None:
            self._system.gave_up(source)

    def destroy(self) -> None:
        """Listen no more, and forget what was seen."""
        self.inputs.destroy()
        self._system.worker.forget()
        for camera in self._system.cameras:
            camera.forget()

    def _on_image(self, camera: Camera, message: Any) -> None:
        """Executor: hand an image over, at once."""
        camera.statistics.received()
        if not (self._are_labels_wanted() and self._work.is_any_use(camera)):
            camera.statistics.noticed('not_requested')
        elif self._system.worker.put(camera.name, partial(self._work.look, camera, message)):
            camera.statistics.noticed('busy')

    def _on_transforms(self, transforms: Sequence[Any], is_static: bool) -> None:
        """Executor."""
        problem = self._system.frames.add(transforms, is_static=is_static)
        if problem:
            self._node.get_logger().warning(
                f'a transform is not used: {problem}', throttle_duration_sec=LOG_PERIOD
            )


def _instant_of(cloud: Any) -> Instant:
    return Instant(str(cloud.header.frame_id), stamp_ns_of(cloud))
