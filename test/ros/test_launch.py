# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The launch file, where launch_ros is installed and the package is built or pip-installed."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

# not `launch`: the folder of that name beside the package would pass for it
pytest.importorskip('launch_ros', reason='launch_ros comes with a ROS installation only')

from launch.actions import DeclareLaunchArgument
from launch.launch_description_sources import get_launch_description_from_python_launch_file

pytestmark = pytest.mark.launch
LAUNCH = Path(__file__).parents[2] / 'launch'
READY = b'ready: 3 classes'


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """A model; RELDISTILL_TINY_BUNDLE names one where the training extra is not installed."""
    if 'RELDISTILL_TINY_BUNDLE' in os.environ:
        return os.environ['RELDISTILL_TINY_BUNDLE']
    pytest.importorskip('onnxscript', reason='the training extra is not installed')
    from tiny_bundle import write_bundle

    return write_bundle(tmp_path_factory.mktemp('launch') / 'bundle')


@pytest.fixture
def ros2():
    """Start a command of ros2; what still runs is ended."""
    if shutil.which('ros2') is None:
        pytest.skip('the command ros2 is not installed')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any((Path(p) / 'lib/reldistill_ros/segment_node').is_file() for p in prefixes):
        pytest.skip('reldistill_ros is not installed in a prefix of AMENT_PREFIX_PATH')
    processes = []
    # this process has set up the libraries of the ROS wheels for itself
    environment = {k: v for k, v in os.environ.items() if k != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}
    environment |= {'PYTHONUNBUFFERED': '1'}
    environment.pop('PYTHONPATH', None)  # the installed package is tested

    def start(*words):
        processes.append(
            subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # ros2 launch passes it on; SIGKILL would not
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    subprocess.run(['ros2', 'daemon', 'stop'], env=environment, check=False, capture_output=True)


def launch(ros2, *arguments):
    return ros2('ros2', 'launch', 'reldistill_ros', 'segment.launch.py', *arguments)


def ask(ros2, *words, until, timeout=60):
    """Repeat a command of ros2 until its answer holds a word; returns that answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ros2('ros2', *words).communicate(timeout=60)[0].decode()
        if until in answer:
            return answer
        assert time.monotonic() < deadline, answer


def lines_until(process, word):
    """Output of a process up to the line with that word."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(b''.join(lines).decode())


@pytest.mark.parametrize('name', ['segment.launch.py', 'replay.launch.py'])
def test_every_argument_is_described(name):
    description = get_launch_description_from_python_launch_file(str(LAUNCH / name))
    arguments = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert {'bundle', 'dds_profile', 'rviz'} < {argument.name for argument in arguments}
    assert all(argument.description for argument in arguments)


@pytest.mark.parametrize(('cameras', 'num_topics'), [('none', 0), ('preset', 2)])
def test_the_cameras_of_a_preset_come_with_their_topics_and_parameters(cameras, num_topics):
    launch = runpy.run_path(str(LAUNCH / 'segment.launch.py'))
    defaults = {name: default for name, (default, _, _) in launch['ARGUMENTS'].items()}
    given = {'bundle': 'x', 'topics_preset': 'kitti', 'cameras': cameras}
    value = (defaults | given).__getitem__
    remappings = dict(launch['_camera_remappings'](value))
    assert len(remappings) == num_topics
    parameters = launch['_parameters'](value)
    assert ('cameras' in parameters) == bool(num_topics)
    if num_topics:
        assert remappings['~/input/color_left/image'] == '/kitti/camera_color_left/image_raw'
        assert parameters['cameras'] == ['color_left']
        assert parameters['camera.color_left.is_rectified'] is True


@pytest.mark.parametrize('preset', ['velodyne', 'none'])
def test_cameras_of_a_preset_that_has_none_are_refused_with_those_that_have_some(preset):
    launch = runpy.run_path(str(LAUNCH / 'segment.launch.py'))
    defaults = {name: default for name, (default, _, _) in launch['ARGUMENTS'].items()}
    given = {'bundle': 'x', 'topics_preset': preset, 'cameras': 'preset'}
    with pytest.raises(ValueError, match=f'topics_preset:={preset}, .*: autoware, kitti, nuscen'):
        launch['_parameters']((defaults | given).__getitem__)


def test_a_missing_bundle_ends_the_launch_with_the_reason(ros2):
    output, _ = launch(ros2, 'bundle:=no_such_folder').communicate(timeout=60)
    assert b'no_such_folder/manifest.json' in output
    assert b'Traceback' not in output


def test_the_node_starts_with_the_large_data_profile_and_ends_on_sigint(ros2, bundle):
    process = launch(ros2, f'bundle:={bundle}', 'dds_profile:=shm')
    lines_until(process, READY)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[0]
    assert process.returncode == 0, rest
    assert b'process has finished cleanly' in rest


def test_without_autostart_ros2_lifecycle_leads_it_through_its_states(ros2, bundle):
    process = launch(ros2, f'bundle:={bundle}', 'autostart:=false')
    ask(ros2, 'lifecycle', 'get', '/segment_node', until='unconfigured')
    for transition in ('configure', 'activate', 'deactivate', 'cleanup', 'configure', 'activate'):
        ask(ros2, 'lifecycle', 'set', '/segment_node', transition, until='successful', timeout=0)
    ask(ros2, 'lifecycle', 'get', '/segment_node', until='active')
    words = ('param', 'set', '/segment_node', 'filter_classes')
    ask(ros2, *words, "['low']", until='successful', timeout=0)
    ask(ros2, *words, "['unicorn']", until='no class', timeout=0)
    assert process.poll() is None


def test_a_killed_node_comes_back_under_respawn(ros2, bundle):
    process = launch(ros2, f'bundle:={bundle}', 'respawn:=true')
    lines = lines_until(process, READY)
    started = next(line for line in lines if b'process started with pid' in line)
    os.kill(int(started.split(b'[')[-1].split(b']')[0]), signal.SIGKILL)
    lines_until(process, READY)


def test_the_suite_for_launch_test_passes(ros2, bundle):
    if shutil.which('launch_test') is None:
        pytest.skip('launch_testing is not installed')
    suite = Path(__file__).with_name('segment.launch_test.py')
    process = ros2('launch_test', str(suite), f'bundle:={bundle}')
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output.decode()
