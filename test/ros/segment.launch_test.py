# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""For launch_test: segment.launch.py brings the node up, and shutting down ends it well.

`launch_test test/ros/segment.launch_test.py bundle:=...`
"""

from __future__ import annotations

import unittest
from pathlib import Path

import launch_testing
import launch_testing.actions
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

LAUNCH_FILE = Path(__file__).parents[2] / 'launch' / 'segment.launch.py'


def generate_test_description():
    segment = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH_FILE)),
        launch_arguments=[('bundle', LaunchConfiguration('bundle')), ('dds_profile', 'shm')],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument('bundle', description='folder of a model bundle'),
            segment,
            launch_testing.actions.ReadyToTest(),
        ]
    )


class WhileItRuns(unittest.TestCase):
    def test_it_becomes_ready(self, proc_output):
        proc_output.assertWaitFor('ready: ', timeout=90)


@launch_testing.post_shutdown_test()
class AfterShutdown(unittest.TestCase):
    def test_it_ended_well(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
