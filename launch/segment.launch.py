# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Start segment_node: ros2 launch reldistill_ros segment.launch.py bundle:=... ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EqualsSubstitution, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / 'config'
PRESETS = sorted(path.stem for path in (CONFIG / 'topics').glob('*.yaml'))
DDS_PROFILES = {'shm': 'fastdds_large_data.xml', 'udp': 'fastdds_udp_subscriber.xml'}
BOOL = ('true', 'false')
CAMERA_TOPICS = ('image', 'camera_info')
OUTPUTS = ('segmentation', 'visualization', 'filtered', 'labels')
NODE = 'segment_node'
NONE = 'none'
PRESET = 'preset'
AS_IN_FILE = 'as_in_params_file'
RESPAWN_DELAY = 1.0  # seconds

# name: default, choices (None: any), description
ARGUMENTS: dict[str, tuple[str | None, tuple[str, ...] | None, str]] = {
    'bundle': (None, None, 'folder of the model bundle'),
    'backend': (
        AS_IN_FILE,
        (AS_IN_FILE, 'auto', 'tensorrt', 'fused', 'onnx', 'torch'),
        'engine; auto: the fastest that can be opened',
    ),
    'params_file': (str(CONFIG / 'segment.yaml'), None, 'parameters of the node'),
    'topics_preset': (
        NONE,
        (NONE, *PRESETS),
        'whose topic of clouds to listen to, one of config/topics',
    ),
    'cameras': (
        NONE,
        (NONE, PRESET),
        'preset: those of topics_preset, with their topics; none: those of params_file',
    ),
    'input/pointcloud': (
        '',
        None,
        "topic of the clouds (sensor_msgs/PointCloud2); '': that of topics_preset, or /lidar/points",
    ),
    **{
        f'output/{name}': (f'~/output/pointcloud/{name}', None, f'topic of the {name} clouds')
        for name in OUTPUTS
    },
    'namespace': ('', None, 'namespace of the node'),
    'use_sim_time': ('false', BOOL, 'take the time from /clock, as with a bag'),
    'autostart': (
        AS_IN_FILE,
        (AS_IN_FILE, *BOOL),
        'true: configure and activate at once; false: wait for ros2 lifecycle',
    ),
    'respawn': ('false', BOOL, 'start the node again when it ends by itself'),
    'build_only': ('false', BOOL, 'compile or build what the engine keeps on disk, and end'),
    'log_level': ('info', ('debug', 'info', 'warn', 'error', 'fatal'), 'what the node logs'),
    'rviz': ('false', BOOL, 'show the coloured cloud in RViz'),
    'dds_profile': (
        'none',
        ('none', *DDS_PROFILES),
        'Fast DDS profile for clouds above 512 KiB: shm where the driver uses it too, udp where '
        'only this node can',
    ),
    'enclave': ('', None, 'SROS2 enclave, such as /reldistill/segment_node; empty: none'),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments, the Fast DDS profile, the node, and RViz where it is wanted."""
    arguments = [
        DeclareLaunchArgument(
            name, default_value=default, choices=choices, description=description
        )
        for name, (default, choices, description) in ARGUMENTS.items()
    ]
    profiles = [
        SetEnvironmentVariable(
            'FASTDDS_DEFAULT_PROFILES_FILE',
            str(CONFIG / file),
            condition=IfCondition(EqualsSubstitution(LaunchConfiguration('dds_profile'), name)),
        )
        for name, file in DDS_PROFILES.items()
    ]
    return LaunchDescription([*arguments, *profiles, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[Node]:
    """The node, and RViz where it is wanted; what they are given depends on the arguments."""
    nodes = [_segment_node(context)]
    if context.launch_configurations['rviz'] == 'true':
        nodes.append(_rviz(context))
    return nodes


def _segment_node(context: LaunchContext) -> Node:
    value = context.launch_configurations.__getitem__
    enclave = ['--enclave', value('enclave')] if value('enclave') else []
    return Node(
        package='reldistill_ros',
        executable='segment_node',
        name=NODE,
        namespace=value('namespace'),
        output='both',
        emulate_tty=True,
        respawn=value('respawn') == 'true',
        respawn_delay=RESPAWN_DELAY,
        parameters=[value('params_file'), _parameters(value)],
        remappings=[
            ('~/input/pointcloud', _input_topic(value)),
            *((f'~/output/pointcloud/{name}', value(f'output/{name}')) for name in OUTPUTS),
            *_camera_remappings(value),
        ],
        arguments=['--ros-args', '--log-level', value('log_level'), *enclave],
    )


def _parameters(value: Callable[[str], str]) -> dict[str, Any]:
    """What the arguments say; it goes before what the file says."""
    node = _node_preset(value)
    texts = {'bundle': value('bundle'), 'backend': value('backend')}
    truths = {name: value(name) for name in ('use_sim_time', 'autostart', 'build_only')}
    return {
        # a path of digits stays a text
        **{
            name: ParameterValue(text, value_type=str)
            for name, text in texts.items()
            if text != AS_IN_FILE
        },
        **{name: text == 'true' for name, text in truths.items() if text != AS_IN_FILE},
        **({'cameras': [*node['cameras']]} if node else {}),
        **({'fixed_frame': node['fixed_frame']} if 'fixed_frame' in node else {}),
        **{
            f'camera.{name}.{key}': setting
            for name, camera in node.get('cameras', {}).items()
            for key, setting in camera.items()
            if key not in CAMERA_TOPICS
        },
    }


def _camera_remappings(value: Callable[[str], str]) -> list[tuple[str, str]]:
    """The topics of the preset's cameras."""
    cameras = _node_preset(value).get('cameras', {})
    return [
        (f'~/input/{name}/{topic}', camera[topic])
        for name, camera in cameras.items()
        for topic in CAMERA_TOPICS
    ]


def _node_preset(value: Callable[[str], str]) -> dict[str, Any]:
    """What the preset says of cameras, empty where that is not asked for.

    Raises:
        ValueError: it says nothing of them.
    """
    if value('cameras') == NONE:
        return {}
    known = {name: node for name in PRESETS if (node := _read_preset(name).get('node'))}
    preset = value('topics_preset')
    if preset not in known:
        raise ValueError(
            f'cameras:={PRESET} with topics_preset:={preset}, which has no cameras; '
            f'those that have some: {", ".join(known)}'
        )
    found: dict[str, Any] = known[preset]
    return found


def _read_preset(name: str) -> dict[str, Any]:
    text = (CONFIG / 'topics' / f'{name}.yaml').read_text(encoding='utf-8')
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _input_topic(value: Callable[[str], str]) -> str:
    """The topic that was named, or that of the preset."""
    named, preset = value('input/pointcloud'), value('topics_preset')
    if named or preset == NONE:
        return named or '/lidar/points'
    return str(_read_preset(preset)['lidar_topics'][0])


def _rviz(context: LaunchContext) -> Node:
    """RViz; its configuration names the topic that the node has by default."""
    value = context.launch_configurations.__getitem__
    shown = f'/{NODE}/output/pointcloud/visualization'
    topic = value('output/visualization')
    if topic.startswith('~'):
        topic = f'/{value("namespace").strip("/")}/{NODE}{topic[1:]}'.replace('//', '/')
    return Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(CONFIG / 'rviz' / 'segment.rviz')],
        parameters=[{'use_sim_time': value('use_sim_time') == 'true'}],
        remappings=[(shown, topic)],
    )
