# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dependencies go one way, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'reldistill_ros'
CORE = sorted(
    p.stem for p in (PACKAGE / 'core').glob('*.py') if p.stem not in ('__init__', 'student')
)
WITHOUT_ROS = (
    'labeller',
    'point_cloud',
    'labelled_cloud',
    'bags.bag',
    'bags.bag_topics',
    'cameras.camera_info',
    'cameras.ensemble',
    'cameras.image_encodings',
    'cameras.lens',
    'cameras.live_frames',
    'cameras.overlay',
    'cameras.visibility',
    'replay.replay',
    'words.words',
)


def modules_after(statement):
    """Top-level modules that a fresh interpreter holds after a statement."""
    script = f'import sys; {statement}; print(*{{name.split(".")[0] for name in sys.modules}})'
    result = subprocess.run(
        [sys.executable, '-c', script],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    return set(result.stdout.split())


def test_the_core_needs_neither_torch_nor_ros_nor_the_trainer():
    loaded = modules_after('; '.join(f'import reldistill_ros.core.{name}' for name in CORE))
    assert 'reldistill_ros' in loaded
    assert not loaded & {'torch', 'rclpy', 'sensor_msgs', 'trainer', 'rosbags', 'onnxruntime'}


@pytest.mark.parametrize('name', WITHOUT_ROS)
def test_labelling_and_reading_bags_need_neither_ros_nor_torch(name):
    loaded = modules_after(f'import reldistill_ros.{name}')
    assert not loaded & {'torch', 'rclpy', 'sensor_msgs', 'trainer'}


def test_the_node_needs_no_torch_and_no_trainer():
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels')
    loaded = modules_after('import reldistill_ros.segment_node')
    assert 'rclpy' in loaded
    assert not loaded & {'torch', 'trainer'}


def test_the_node_starts_without_any_optional_package():
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels')
    optional = ('cv2', 'PIL', 'scipy', 'tokenizers', 'ftfy', 'matplotlib', 'jinja2', 'rosbags')
    absent = f'sys.modules.update(dict.fromkeys({optional}))'  # None: importing it fails
    assert 'rclpy' in modules_after(f'{absent}; import reldistill_ros.segment_node')
