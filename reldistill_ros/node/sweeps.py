# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The way of a sweep through the node: let in by the executor, labelled by the inference thread.

No ROS here: messages and topics come in as arguments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.diagnostics import StageTimes, Statistics
from reldistill_ros.node.engine import Engine
from reldistill_ros.node.inference import Inference, IsCurrent
from reldistill_ros.node.model import FusedSweep, LabelledSweep
from reldistill_ros.node.parameters import NodeSettings
from reldistill_ros.node.stamps import StampChecker, is_too_old, stamp_ns_of
from reldistill_ros.point_cloud import read_points

if TYPE_CHECKING:
    from reldistill_ros.node.outputs import Outputs
    from reldistill_ros.node.sweep_log import SweepLog

LOG_PERIOD = 5.0  # seconds between two lines of a kind in the log


Stage = Literal['labelling', 'fusion', 'output']


@dataclass(eq=False)
class Sweep:
    """A cloud on its way.

    Attributes:
        cloud: a sensor_msgs/PointCloud2.
        arrived: when it came, in seconds of `time.monotonic`.
        stage: what is done with it, to be named where that hangs.
    """

    cloud: Any
    arrived: float
    stage: Stage = 'labelling'


class Eyes(Protocol):
    """What the node asks of its cameras."""

    def fuse(self, cloud: Any, points: NDArray[np.float32], sweep: LabelledSweep) -> FusedSweep:
        """Their opinions in the labels, without waiting."""

    def show(self, cloud: Any, points: NDArray[np.float32], sweep: FusedSweep) -> None:
        """Hand over a fused sweep that was published."""


class Intake:
    """The executor's side: takes a cloud and returns at once.

    Args:
        are_wanted: asked whether anybody listens.
        engine: asked whether it is open.
        inference: what labels.
        log: of the sweeps' fates.
        stamps: checks them.
    """

    def __init__(
        self,
        are_wanted: Callable[[], bool],
        engine: Engine,
        inference: Inference[Sweep],
        *,
        log: SweepLog,
        stamps: StampChecker,
        statistics: Statistics,
    ) -> None:
        self._are_wanted, self._engine, self._inference = are_wanted, engine, inference
        self._log, self._stamps, self._statistics = log, stamps, statistics

    def __call__(self, cloud: Any, now_ns: int) -> None:
        """Let a cloud in, or give it up for a reason.

        Args:
            cloud: a sensor_msgs/PointCloud2.
            now_ns: of the node's clock.
        """
        self._statistics.received()
        problem = self._stamps.check(stamp_ns_of(cloud), now_ns)
        if not self._are_wanted():
            self._log.not_requested(cloud)
        elif problem is not None and self._stamps.is_dropped(problem):
            self._log.dropped(cloud, problem)
        elif self._engine.labeller is None:
            self._log.dropped(cloud, 'no_engine')
        else:
            if problem is not None:
                self._statistics.noticed(f'stamp: {problem}')
            if is_odd_frame(cloud.header.frame_id):
                self._statistics.noticed('odd_frame_id')
            pushed_out = self._inference.put(Sweep(cloud, time.monotonic()))
            if pushed_out is not None:
                self._log.dropped(pushed_out.cloud, 'busy')


class SweepLabelling:
    """The inference thread's side: no cloud ends the node.

    Args:
        engine: what labels, and hears how it went.
        outputs: what publishes.
        log: of the sweeps' fates.
        settings: limits.
        intensity_max: raw intensity that counts as 1.
        now_ns: the node's clock.
        logger: of the node.
        eyes: what cameras say of sweeps; None where there are none.
    """

    def __init__(
        self,
        engine: Engine,
        outputs: Outputs,
        log: SweepLog,
        *,
        settings: NodeSettings,
        intensity_max: float,
        now_ns: Callable[[], int],
        logger: Any,
        eyes: Eyes | None = None,
    ) -> None:
        self._eyes = eyes
        self._engine, self._outputs, self._log = engine, outputs, log
        self._settings, self._intensity_max = settings, intensity_max
        self._now_ns, self._logger = now_ns, logger

    def __call__(self, sweep: Sweep, is_current: IsCurrent) -> None:
        """Label and publish a sweep unless nobody waits for it any more."""
        cloud = sweep.cloud
        if is_too_old(stamp_ns_of(cloud), self._now_ns(), self._settings.max_age):
            self._log.dropped(cloud, 'too_old')
            return
        outcome = attempt(lambda: self._label(sweep, is_current))
        if not is_current():
            return  # who gave it up has counted it
        if isinstance(outcome.error, InputError):
            self._log.rejected(cloud, outcome.reason)
            self._logger.warning(
                f'cloud rejected: {outcome.error}', throttle_duration_sec=LOG_PERIOD
            )
        elif outcome.error is not None:
            self._engine.failed(outcome.reason)
            self._log.failed(cloud, type(outcome.error).__name__)
            self._logger.error(
                f'inference failed: {outcome.reason}', throttle_duration_sec=LOG_PERIOD
            )

    def _label(self, sweep: Sweep, is_current: IsCurrent) -> None:
        """Decode, label, and publish what somebody listens to."""
        labeller = self._engine.labeller
        if labeller is None:  # closed since the sweep was let in
            self._log.dropped(sweep.cloud, 'no_engine')
            return
        started = time.monotonic()
        check_num_points(sweep.cloud, self._settings.max_points)
        points = read_points(sweep.cloud, self._intensity_max)
        decoded = time.monotonic()
        labelled = labeller.label(points)
        done = time.monotonic()
        if not is_current():
            return
        self._engine.succeeded()
        fused = FusedSweep(labelled.labels, labelled.words)
        if self._eyes is not None:
            sweep.stage = 'fusion'
            fused = self._eyes.fuse(sweep.cloud, points, labelled)
        seen = time.monotonic()
        if not is_current():
            return
        sweep.stage = 'output'
        self._outputs.publish(sweep.cloud, points, fused)
        if self._eyes is not None:
            self._eyes.show(sweep.cloud, points, fused)
        published = time.monotonic()
        if not is_current():
            return
        times = StageTimes(
            wait=started - sweep.arrived,
            decode=decoded - started,
            inference=done - decoded,
            output=published - seen,
            fusion=seen - done,
        )
        self._log.labelled(sweep.cloud, times, fused.words.revision, fused.cameras)


def is_odd_frame(frame_id: str) -> bool:
    """Whether tf2 cannot know a frame of that name: it has none, or one of ROS 1's days."""
    return not frame_id or frame_id.startswith('/')


def check_num_points(cloud: Any, max_points: int) -> None:
    """Refuse a cloud before anything of its size is allocated."""
    if cloud.width * cloud.height > max_points:
        raise InputError(
            'the cloud has too many points',
            expected=f'at most {max_points}',
            got=cloud.width * cloud.height,
            fix='raise the parameter max_points',
        )
