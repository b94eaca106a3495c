# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Start segment_node: ros2 launch reldistill_ros segment.launch.py bundle:=... ."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / 'config'
ARGUMENTS = (
    ('bundle', None, 'folder of the model bundle'),
    ('input/pointcloud', '/lidar/points', 'topic of the clouds (sensor_msgs/PointCloud2)'),
    ('output/segmentation', '~/output/pointcloud/segmentation', 'topic of the labelled clouds'),
    ('output/visualization', '~/output/pointcloud/visualization', 'topic of the coloured clouds'),
    ('params_file', str(CONFIG / 'segment.yaml'), 'parameters of the node'),
    ('namespace', '', 'namespace of the node'),
    ('use_sim_time', 'false', 'take the time from /clock, as with a bag'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
)
DDS_PROFILES = {'shm': 'fastdds_large_data.xml', 'udp': 'fastdds_udp_subscriber.xml'}


def generate_launch_description() -> LaunchDescription:
    """Arguments, the Fast DDS profile and the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    profile = DeclareLaunchArgument(
        'dds_profile',
        default_value='none',
        choices=['none', *DDS_PROFILES],
        description='Fast DDS profile for clouds above 512 KiB: shm where the driver uses it too, '
        'udp where only this node can',
    )
    return LaunchDescription([*arguments, profile, *_set_profiles(), _node()])


def _set_profiles() -> list[SetEnvironmentVariable]:
    """The environment variable that names the chosen profile."""
    return [
        SetEnvironmentVariable(
            'FASTDDS_DEFAULT_PROFILES_FILE',
            str(CONFIG / file),
            condition=IfCondition(EqualsSubstitution(LaunchConfiguration('dds_profile'), name)),
        )
        for name, file in DDS_PROFILES.items()
    ]


def _node() -> Node:
    return Node(
        package='reldistill_ros',
        executable='segment_node',
        name='segment_node',
        namespace=LaunchConfiguration('namespace'),
        output='both',
        emulate_tty=True,
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'bundle': ParameterValue(LaunchConfiguration('bundle'), value_type=str),
                'use_sim_time': ParameterValue(
                    LaunchConfiguration('use_sim_time'), value_type=bool
                ),
            },
        ],
        remappings=[
            ('~/input/pointcloud', LaunchConfiguration('input/pointcloud')),
            ('~/output/pointcloud/segmentation', LaunchConfiguration('output/segmentation')),
            ('~/output/pointcloud/visualization', LaunchConfiguration('output/visualization')),
        ],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
    )
