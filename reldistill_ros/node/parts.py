# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node is made of in each of its states; destroying a part undoes its state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.cameras.vision import Vision
from reldistill_ros.node.diagnostics import Statistics
from reldistill_ros.node.inference import Inference
from reldistill_ros.node.loading import Model
from reldistill_ros.node.outputs import Outputs
from reldistill_ros.node.parameters import NodeSettings
from reldistill_ros.node.run import told_to_the_user
from reldistill_ros.node.stamps import StampChecker
from reldistill_ros.node.subscription import subscribe
from reldistill_ros.node.sweep_log import SweepLog
from reldistill_ros.node.sweeps import Intake, Sweep, SweepLabelling
from reldistill_ros.node.words_control import WordsControl

if TYPE_CHECKING:
    from reldistill_ros.node.cameras.system import ActiveCameras, CameraSystem

NO_TOPICS = 'ROS cannot create the topics'


class Configured:
    """From configure to cleanup: the model, and the topics of its answers.

    Attributes:
        model: what labels.
        outputs: clouds and label info.
        log: of the sweeps' fates.
        words: changes them.
        cameras: what cameras add, None where there are none.

    Args:
        node: the lifecycle node.
        model: open and warm; closed with this.
        settings: of the node.
        statistics: what counts.
        cameras: parameters of each camera.

    Raises:
        InputError: ROS does not create a topic, for its QoS parameters are wrong.
    """

    def __init__(
        self,
        node: Any,
        model: Model,
        settings: NodeSettings,
        *,
        statistics: Statistics,
        cameras: Mapping[str, CameraSettings],
    ) -> None:
        self.model = model
        self.cameras: CameraSystem | None = None
        with ExitStack() as on_failure, told_to_the_user(NO_TOPICS):
            if model.vision is not None:
                self.cameras = self._make_cameras(node, model.vision, cameras, settings)
                on_failure.callback(self.cameras.destroy, 0)
            self.outputs = Outputs(node, model.revision, settings.filter_classes)
            on_failure.callback(self.outputs.destroy)
            self.log = SweepLog(node, statistics)
            on_failure.pop_all()
        self.words = WordsControl(node, model.dictionary, model.engine, settings)

    @property
    def are_labels_wanted(self) -> bool:
        """Whether anybody listens to anything that is made of labels."""
        return self.outputs.are_wanted or bool(self.cameras and self.cameras.are_overlays_wanted)

    def announce(self) -> str:
        """Publish the first label info; returns what the node is ready with."""
        labeller = self.model.engine.labeller
        if labeller is None:
            return 'no engine is open'
        words = labeller.words
        self.outputs.label_info.announce(words, 0)
        return (
            f'{len(words.vocabulary.class_names)} classes, bundle {self.model.revision}, '
            f'words {words.revision}, engine {self.model.engine.name}'
        )

    def destroy(self, timeout: float) -> bool:
        """Let go of everything; returns whether all threads ended in time."""
        deadline = time.monotonic() + timeout
        ended = self.words.destroy(timeout)
        ended &= self.model.engine.close(max(deadline - time.monotonic(), 0))
        self.outputs.destroy()
        self.log.destroy()
        if self.cameras is not None:
            ended &= self.cameras.destroy(max(deadline - time.monotonic(), 0))
        return ended

    def _make_cameras(
        self,
        node: Any,
        vision: Vision,
        cameras: Mapping[str, CameraSettings],
        settings: NodeSettings,
    ) -> CameraSystem:
        # here, as it needs the packages of the extra `cameras`
        from reldistill_ros.node.cameras.system import CameraSystem

        engine = self.model.engine

        def words() -> Any:
            labeller = engine.labeller
            return None if labeller is None else labeller.words

        return CameraSystem(node, vision, cameras, settings=settings, words=words)


class Active:
    """From activate to deactivate: the subscription and the inference thread.

    Args:
        node: the lifecycle node.
        configured: what labels and publishes.
        settings: of the node.
        stamps: checks those of the clouds.
        statistics: what counts.

    Raises:
        InputError: ROS does not subscribe, for the QoS parameters are wrong.
    """

    def __init__(
        self,
        node: Any,
        configured: Configured,
        settings: NodeSettings,
        *,
        stamps: StampChecker,
        statistics: Statistics,
    ) -> None:
        self._node, self._configured = node, configured
        self._timeout, self._image_timeout = settings.inference_timeout, settings.image_timeout
        engine, outputs, log = configured.model.engine, configured.outputs, configured.log

        def now_ns() -> int:
            return int(node.get_clock().now().nanoseconds)

        with ExitStack() as on_failure, told_to_the_user(NO_TOPICS):
            self.cameras: ActiveCameras | None = None
            if configured.cameras is not None:
                self.cameras = configured.cameras.activate(lambda: configured.are_labels_wanted)
                on_failure.callback(self.cameras.destroy)
            labelling = SweepLabelling(
                engine,
                outputs,
                log,
                settings=settings,
                intensity_max=configured.model.intensity_max,
                now_ns=now_ns,
                logger=node.get_logger(),
                eyes=self.cameras,
            )
            self.inference: Inference[Sweep] = Inference(labelling)
            on_failure.callback(self.inference.stop, 0)
            intake = Intake(
                lambda: configured.are_labels_wanted,
                engine,
                self.inference,
                log=log,
                stamps=stamps,
                statistics=statistics,
            )
            self.subscription = subscribe(
                node,
                lambda cloud: intake(cloud, now_ns()),
                lambda number: statistics.noticed('lost', number),
            )
            on_failure.pop_all()

    def give_up_if_stuck(self) -> None:
        """Replace threads, engine and image encoder where a sweep or an image takes too long.

        Raises:
            StuckTwiceError: that has happened before, and the first one hangs still.
        """
        if self.cameras is not None:
            self.cameras.give_up_if_stuck(self._image_timeout)
        stuck = self.inference.give_up_if_stuck(self._timeout)
        if stuck is not None:
            self._gave_up(stuck)

    def _gave_up(self, sweep: Sweep) -> None:
        """A sweep hung; the engine is replaced where it is to blame."""
        if sweep.stage == 'labelling':
            what, kind = 'an inference', 'stuck'
            self._configured.model.engine.replace('an inference hangs')
        else:
            what, kind = f'the {sweep.stage} of a sweep', f'stuck in {sweep.stage}'
        self._configured.log.failed(sweep.cloud, kind)
        self._node.get_logger().error(
            f'{what} takes more than {self._timeout:g} s and is given up'
        )

    def destroy(self, timeout: float) -> bool:
        """Listen no more; returns whether all threads ended in time."""
        self._node.destroy_subscription(self.subscription)
        for sweep in self.inference.stop(timeout):
            self._configured.log.dropped(sweep.cloud, 'deactivated')
        if self.cameras is not None:
            self.cameras.destroy()
        return not self.inference.is_alive
