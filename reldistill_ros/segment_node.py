# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: a cloud comes in, the same cloud with a class per point goes out. No maths.

configure loads the model and warms it up, activate listens, deactivate stops listening, cleanup
lets go of everything. One executor thread answers ROS, one inference thread labels the newest
cloud, one thread encodes words, and one opens engines.
"""

from __future__ import annotations

import time
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.node.attempt import attempt_in_thread
from reldistill_ros.node.cameras.settings import declare_cameras
from reldistill_ros.node.diagnostics import Statistics
from reldistill_ros.node.diagnostics_publisher import DiagnosticsPublisher, Report, input_state
from reldistill_ros.node.loading import load_model
from reldistill_ros.node.model import BundleSource, OpenSource
from reldistill_ros.node.parameters import (
    DYNAMIC,
    check_changes,
    declare_settings,
    dropped_stamps,
    in_engine,
)
from reldistill_ros.node.parts import Active, Configured
from reldistill_ros.node.report import NodeState, report_of
from reldistill_ros.node.run import run_node, told_to_the_user
from reldistill_ros.node.stamps import StampChecker
from reldistill_ros.node.subscription import watch_time

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STOP_TIMEOUT = 1.0  # seconds that a running inference may take to end
WATCH_PERIOD = 0.5  # seconds


class SegmentNode(LifecycleNode):
    """Labels every point of the clouds on `~/input/pointcloud`.

    Args:
        open_source: opens the bundle that the parameters name.

    Raises:
        InputError: a parameter is wrong.
    """

    def __init__(self, open_source: OpenSource = BundleSource) -> None:
        with told_to_the_user('ROS does not take a parameter', fix="write [''] for an empty list"):
            # ROS declares what it is given, and `declare_settings` sees what it does not know
            super().__init__('segment_node', automatically_declare_parameters_from_overrides=True)
        self.settings = declare_settings(self)
        self._cameras = declare_cameras(self, self.settings.cameras)
        self.error: Exception | None = None  # why it could not be configured
        self._open_source = open_source
        self._statistics = Statistics()
        self._stamps = StampChecker(dropped_stamps(self.settings))
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._ended = True  # no thread was left behind
        with told_to_the_user('ROS cannot create the topics'):
            self._diagnostics = DiagnosticsPublisher(self, self._reports)
        self.add_on_set_parameters_callback(self._on_set)
        self.add_post_set_parameters_callback(self._on_changed)
        self.create_service(
            SetParametersAtomically,
            '~/set_prompts',
            self._on_set_prompts,
            # a group of its own: while one request waits, the next one does and nothing else
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        # steady clocks: with use_sim_time neither may stop with the bag
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(
            self.settings.diagnostics_period, self._diagnostics.publish, clock=steady
        )
        self.create_timer(WATCH_PERIOD, self._watch, clock=steady)
        self._jumps = watch_time(self, self._on_jump)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, and create the topics of its answers."""
        ended, self._ended = self._ended, False  # a signal leaves the thread behind
        outcome = attempt_in_thread(
            lambda: load_model(self.settings, self._open_source),
            keep_waiting=self.context.ok,
        )
        if outcome is None:
            return FAILURE
        self._ended, self.error = ended, outcome.error
        if outcome.value is None:
            self.get_logger().error(f'cannot be configured: {self.error}')
            return FAILURE
        try:
            self._configured = Configured(
                self,
                outcome.value,
                self.settings,
                statistics=self._statistics,
                cameras=self._cameras,
            )
        except InputError as error:
            self.error = error
            outcome.value.engine.close(STOP_TIMEOUT)
            return FAILURE
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the clouds."""
        assert self._configured is not None
        self.error = None
        self._statistics.activated()
        try:
            self._active = Active(
                self,
                self._configured,
                self.settings,
                stamps=self._stamps,
                statistics=self._statistics,
            )
        except InputError as error:
            self.error = error
            return FAILURE
        self.get_logger().info(f'ready: {self._configured.announce()}, {self._precision}')
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen no more, and end the inference."""
        self._deactivate(STOP_TIMEOUT)
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and its memory."""
        self._clean_up(STOP_TIMEOUT)
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        self.stop(STOP_TIMEOUT)
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised something: back to unconfigured, from where all can begin anew."""
        self.get_logger().error(f'an error in state {state.label}: cleaning up')
        self.stop(STOP_TIMEOUT)
        return SUCCESS

    def autostart(self) -> None:
        """Configure and, unless it is to build only, activate.

        Raises:
            Exception: why the model could not be loaded, an InputError if the user can mend it.
        """
        is_well = self.trigger_configure() == SUCCESS
        if is_well and not self.settings.build_only:
            is_well = self.trigger_activate() == SUCCESS
        if not is_well and self.error is not None:
            raise self.error

    def stop(self, timeout: float) -> bool:
        """End all threads and let go of everything; returns whether the threads ended in time."""
        deadline = time.monotonic() + timeout
        self._deactivate(timeout)
        self._clean_up(max(deadline - time.monotonic(), 0))
        return self._ended

    @property
    def _precision(self) -> str:
        """That of the engine at work: the one asked for is not in every engine of the ladder."""
        engine = self._configured.model.engine.name if self._configured else ''
        return in_engine(self.settings, engine).precision if engine else self.settings.precision

    def _deactivate(self, timeout: float) -> None:
        active, self._active = self._active, None
        if active is not None:
            self._ended &= active.destroy(timeout)

    def _clean_up(self, timeout: float) -> None:
        configured, self._configured = self._configured, None
        if configured is not None:
            self._ended &= configured.destroy(timeout)

    def _on_set(self, parameters: list[Any]) -> SetParametersResult:
        """Executor: all of them are good, or none is taken."""
        changes = {item.name: item.value for item in parameters if item.name in DYNAMIC}
        try:
            settings = check_changes(self.settings, changes)
            if self._configured is not None:
                self._configured.words.check(settings)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_changed(self, parameters: list[Any]) -> None:
        """Executor: put in force what `_on_set` has accepted."""
        changes = {item.name: item.value for item in parameters if item.name in DYNAMIC}
        self.settings = check_changes(self.settings, changes)
        if self._configured is not None:
            self._configured.outputs.filter_classes = self.settings.filter_classes
            self._configured.words.request(self.settings)

    async def _on_set_prompts(
        self,
        request: SetParametersAtomically.Request,
        response: SetParametersAtomically.Response,
    ) -> SetParametersAtomically.Response:
        """Executor: answer when the words are in force."""
        if self._configured is None:
            response.result.reason = 'the node is not configured'
        else:
            response.result = await self._configured.words.change(request.parameters)
        return response

    def _on_jump(self) -> None:
        """Executor: time has jumped back."""
        self._stamps.forget()
        if self._configured is not None and self._configured.cameras is not None:
            self._configured.cameras.forget()

    def _watch(self) -> None:
        """Executor, now and then: what broke is tried again, and what hangs is given up."""
        if self._configured is None:
            return
        self._configured.model.engine.tick()
        if self._active is not None:
            self._active.give_up_if_stuck()

    def _reports(self) -> list[Report]:
        """Executor: the node and its cameras as they are now."""
        configured, active = self._configured, self._active
        cameras = configured.cameras if configured else None
        timeout = self.settings.input_timeout
        state = NodeState(
            lifecycle='active' if active else 'inactive' if configured else 'unconfigured',
            problem=str(self.error or '').partition('\n')[0],
            engine=configured.model.engine if configured else None,
            source=input_state(self, active.subscription, timeout) if active else None,
            is_encoding=bool(configured and configured.words.is_pending),
            values={
                'backend': self.settings.backend,
                'precision': self._precision,
                'bundle_revision': configured.model.revision if configured else '',
                'time_jumps': str(self._stamps.jumps),
                'ensemble': cameras.ensemble if cameras else '',
            },
            findings=cameras.findings() if cameras else (),
        )
        reports = [report_of(state, self._statistics)]
        if cameras is not None:
            reports += cameras.reports(active.cameras if active else None)
        return reports


def main(open_source: OpenSource = BundleSource) -> None:
    """Run the node; SIGINT and SIGTERM end it with exit code 0."""
    run_node(lambda: SegmentNode(open_source))


def command() -> None:
    """Console script."""
    run_command(main)


if __name__ == '__main__':
    command()
