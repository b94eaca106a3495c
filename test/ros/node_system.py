# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node and a client in one process, with a labeller that needs no model."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import rclpy
from fake_node import FakeEncoder, FakeSource, HeightLabeller
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from ros_client import Client

from reldistill_ros.point_cloud import read_fields
from reldistill_ros.segment_node import SegmentNode


class System:
    """The node, spinning in a thread, and a client."""

    def __init__(
        self,
        *parameters,
        labeller=None,
        encoder=None,
        source=None,
        autostart=True,
        remappings=(),
        **client,
    ):
        words = ('bundle:=x', 'diagnostics_period:=0.1', *parameters)
        given = (word for p in words for word in ('-p', p))
        rclpy.init(args=['--ros-args', *given, *remappings])
        self.labeller = labeller or HeightLabeller()
        self.encoder = encoder or FakeEncoder()
        self.node = SegmentNode(source or self._open)
        if autostart:
            self.node.autostart()
        self.calls_of_warm_up = self.labeller.calls
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin)
        self.thread.start()
        self.client = Client(**client)
        if autostart:
            self.client.connect()

    def _open(self, settings):
        source = FakeSource(None, self.encoder)
        source.labeller = lambda settings: self.labeller  # which a test may let go of
        return source

    def _spin(self):
        with suppress(ExternalShutdownException):
            self.executor.spin()

    @property
    def calls(self):
        return self.labeller.calls - self.calls_of_warm_up

    def close(self):
        self.client.close()
        self.executor.shutdown()
        self.thread.join()
        has_ended = self.node.stop(10)
        self.node.destroy_node()
        rclpy.try_shutdown()  # in any case, or every later test fails too
        assert has_ended


def random_points(num=50):
    return np.random.default_rng(0).uniform(-1, 4, (num, 4)).astype(np.float32)


def columns_of(cloud):
    return read_fields(cloud, [field.name for field in cloud.fields])


def change(system, name):
    """Ask for a transition by its name; returns whether it succeeded."""
    request = ChangeState.Request()
    request.transition.id = getattr(Transition, f'TRANSITION_{name.upper()}')
    return system.client.call(ChangeState, 'change_state', request).success
