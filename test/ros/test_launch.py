# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The launch file, where launch_ros is installed and the package is built or pip-installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

# not `launch`: the folder of that name beside the package would pass for it
pytest.importorskip('launch_ros', reason='launch_ros comes with a ROS installation only')

from launch.actions import DeclareLaunchArgument
from launch.launch_description_sources import get_launch_description_from_python_launch_file

pytestmark = pytest.mark.launch
LAUNCH_FILE = Path(__file__).parents[2] / 'launch' / 'segment.launch.py'


def ros2_launch(*arguments):
    if shutil.which('ros2') is None:
        pytest.skip('the command ros2 is not installed')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any((Path(p) / 'lib/reldistill_ros/segment_node').is_file() for p in prefixes):
        pytest.skip('reldistill_ros is not installed in a prefix of AMENT_PREFIX_PATH')
    command = ['ros2', 'launch', 'reldistill_ros', 'segment.launch.py', *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_every_argument_is_described():
    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    arguments = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert {'bundle', 'params_file', 'dds_profile'} < {argument.name for argument in arguments}
    assert all(argument.description for argument in arguments)


def test_a_missing_bundle_ends_the_launch_with_the_reason():
    output, _ = ros2_launch('bundle:=no_such_folder').communicate(timeout=60)
    assert b'no_such_folder/manifest.json' in output
    assert b'Traceback' not in output


def test_the_node_starts_with_the_large_data_profile_and_ends_on_sigint(tmp_path):
    pytest.importorskip('onnxscript', reason='the training extra is not installed')
    from tiny_bundle import write_bundle

    bundle = write_bundle(tmp_path / 'bundle')
    process = ros2_launch(f'bundle:={bundle}', 'dds_profile:=shm')
    lines = []
    for line in process.stdout:
        lines.append(line)
        if b'ready: 3 classes' in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0, b''.join(lines)
    assert b'process has finished cleanly' in b''.join(lines)
