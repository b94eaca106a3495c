# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Play a bag into segment_node: ros2 launch reldistill_ros replay.launch.py bag:=... bundle:=... ."""

from __future__ import annotations

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchContext, LaunchDescription

SEGMENT = str(Path(__file__).resolve().with_name('segment.launch.py'))
MEASURE, SHOW = 'measure', 'show'

# name: default, choices (None: any), description
ARGUMENTS: dict[str, tuple[str | None, tuple[str, ...] | None, str]] = {
    'bag': (None, None, 'folder of a ROS 2 bag, or an .mcap or .db3 file'),
    'bundle': (None, None, 'folder of the model bundle'),
    'mode': (
        MEASURE,
        (MEASURE, SHOW),
        'measure: play the bag into a node of its own and write a report; show: play it with '
        'ros2 bag play for other tools to look on',
    ),
    'out': ('replay', None, 'folder for the report of mode measure'),
    'rate': ('1.0', None, "speed relative to the bag's own times; in mode measure also auto"),
    'options': (
        '',
        None,
        'more options for the tool, as of python -m reldistill_ros.replay or ros2 bag play',
    ),
    'topics_preset': ('none', None, 'of mode show: see segment.launch.py'),
    'input/pointcloud': ('', None, 'of mode show: topic of the clouds'),
    'rviz': ('false', ('true', 'false'), 'of mode show: look at it in RViz'),
    'dds_profile': ('shm', ('none', 'shm', 'udp'), 'of mode show: see segment.launch.py'),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments, and what the mode starts."""
    arguments = [
        DeclareLaunchArgument(
            name, default_value=default, choices=choices, description=description
        )
        for name, (default, choices, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_actions)])


def _actions(
    context: LaunchContext,
) -> list[ExecuteProcess | IncludeLaunchDescription]:
    value = context.launch_configurations
    if value['mode'] == MEASURE:
        return [_measure(value)]
    passed = ('bundle', 'topics_preset', 'input/pointcloud', 'rviz', 'dds_profile')
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(SEGMENT),
        launch_arguments=[
            ('use_sim_time', 'true'),
            *((name, value[name]) for name in passed),
        ],
    )
    return [node, _play(value)]


def _measure(value: dict[str, str]) -> ExecuteProcess:
    tool = ExecutableInPackage(package='reldistill_ros', executable='replay')
    options = ['--bundle', value['bundle'], '--out', value['out'], '--rate', value['rate']]
    return ExecuteProcess(
        cmd=[tool, value['bag'], *options, *value['options'].split()], output='screen'
    )


def _play(value: dict[str, str]) -> ExecuteProcess:
    """The end of the bag ends everything."""
    command = ['ros2', 'bag', 'play', value['bag'], '--clock', '100', '--rate', value['rate']]
    return ExecuteProcess(
        cmd=[*command, *value['options'].split()],
        output='screen',
        on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))],
    )
