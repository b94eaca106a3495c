# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node as a process of its own: large clouds, signals, simulated time, mistakes at the start."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

import rclpy
from fake_node import HeightLabeller
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_client import NODE, Client, make_cloud
from rosgraph_msgs.msg import Clock

from reldistill_ros.node.run import HOPELESS
from reldistill_ros.point_cloud import read_fields

FAKE_NODE = [sys.executable, str(Path(__file__).with_name('fake_node.py'))]
REAL_NODE = [sys.executable, '-m', 'reldistill_ros.segment_node']
PARAMETERS = str(Path(__file__).parents[2] / 'config' / 'segment.yaml')


@pytest.fixture
def launch_node():
    """Start a node with parameters; what still runs is killed at the end."""
    processes = []

    def launch(*parameters, command=FAKE_NODE, delay=0.0, loading=0.0):
        words = [word for parameter in parameters for word in ('-p', parameter)]
        process = subprocess.Popen(
            [*command, '--ros-args', '--params-file', PARAMETERS, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                'FAKE_NODE_DELAY': str(delay),
                'FAKE_NODE_LOADING': str(loading),
                'PYTHONUNBUFFERED': '1',
            },
        )
        processes.append(process)
        return process

    yield launch
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def client():
    rclpy.init(args=[])
    client = Client()
    yield client
    client.close()
    rclpy.try_shutdown()


def test_clouds_above_512_kib_come_back_labelled_from_another_process(launch_node, client):
    process = launch_node('bundle:=x')
    client.connect()
    points = np.random.default_rng(1).uniform(-1, 4, (60_000, 4)).astype(np.float32)
    truth = HeightLabeller()(points / np.float32([1, 1, 1, 255]))
    for sec in range(5):
        cloud = make_cloud(points, sec=sec)
        assert len(cloud.data) > 512 * 1024
        client.clouds.publish(cloud)
        assert client.spin_until(lambda: len(client.received['segmentation']) == sec + 1)  # noqa: B023
    for answer in client.received['segmentation']:
        columns = read_fields(answer, ['class_id', 'probability', 'entropy', 'x'])
        np.testing.assert_array_equal(columns['class_id'], truth.class_ids)
        np.testing.assert_array_equal(columns['probability'], truth.probabilities)
        np.testing.assert_array_equal(columns['entropy'], truth.entropies)
        np.testing.assert_array_equal(columns['x'], points[:, 0])
    assert process.poll() is None


@pytest.mark.parametrize('delay', [0.0, 5.0], ids=['idle', 'in the middle of an inference'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_within_two_seconds(launch_node, client, number, delay):
    process = launch_node('bundle:=x', delay=delay)
    client.connect()
    if delay:
        client.clouds.publish(make_cloud([[0, 0, 0, 0]]))
        client.spin_until(lambda: False, 0.5)
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert time.monotonic() - started < 2
    assert b'Traceback' not in process.stdout.read()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('autostart', ['true', 'false'])
def test_a_signal_ends_the_node_within_two_seconds_while_it_loads(
    launch_node, client, number, autostart
):
    process = launch_node('bundle:=x', f'autostart:={autostart}', loading=30.0)
    # asked again until it loads: the service of the last test's node may still be listed
    while not is_readable(process.stdout, 1.0):
        if autostart == 'false':
            ask_to_configure(client)
    assert process.stdout.readline() == b'loading\n'
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert time.monotonic() - started < 2
    assert b'Traceback' not in process.stdout.read()


def is_readable(stream, timeout):
    return bool(select.select([stream], [], [], timeout)[0])


def ask_to_configure(client):
    change = client.node.create_client(ChangeState, f'{NODE}/change_state')
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_CONFIGURE
    if change.wait_for_service(10):
        change.call_async(request)
        client.spin_until(lambda: False, 0.2)


@pytest.mark.parametrize('pause', [0.0, 0.05, 0.3])
def test_the_second_sigint_that_launch_passes_on_does_no_harm(launch_node, client, pause):
    process = launch_node('bundle:=x', delay=5.0)
    client.connect()
    client.clouds.publish(make_cloud([[0, 0, 0, 0]]))
    client.spin_until(lambda: False, 0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert b'Traceback' not in process.stdout.read()


def test_diagnostics_go_on_without_a_clock_and_take_its_time_when_it_comes(launch_node, client):
    launch_node('bundle:=x', 'use_sim_time:=true', 'diagnostics_period:=0.1')
    client.connect()
    assert client.spin_until(lambda: len(client.diagnostics) > 2)
    assert client.diagnostics[-1].header.stamp.sec == 0
    clock = Clock()
    clock.clock.sec = 1234
    publisher = client.node.create_publisher(Clock, '/clock', 1)

    def follows_the_clock():
        publisher.publish(clock)
        return client.diagnostics[-1].header.stamp.sec == 1234

    assert client.spin_until(follows_the_clock)


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ([], b'bundle'),
        (['bundle:=no_such_folder'], b'no_such_folder'),
        (['bundle=x'], b'bundle=x'),
    ],
    ids=['no bundle named', 'no such bundle', 'a single equals sign'],
)
def test_a_mistake_at_the_start_is_told_without_a_traceback(launch_node, parameters, words):
    process = launch_node(*parameters, command=REAL_NODE)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b'error: ' in output
    assert words in output
    assert b'Traceback' not in output


def test_a_parameter_file_that_is_not_there_is_told_without_a_traceback():
    words = ['--ros-args', '--params-file', '/no/such.yaml']
    result = subprocess.run([*REAL_NODE, *words], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert 'error: ROS does not accept the command line' in result.stderr
    assert '/no/such.yaml' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_second_hanging_inference_ends_the_process_so_that_launch_starts_a_new_one(
    launch_node, client
):
    process = launch_node('bundle:=x', 'inference_timeout:=0.2')
    client.connect()
    for _ in range(2):
        client.clouds.publish(make_cloud([[667, 0, 0, 0]]))
        client.spin_until(lambda: False, 1.5)
    assert process.wait(10) == HOPELESS
    assert b'two inferences hang' in process.stdout.read()


def test_large_clouds_that_the_middleware_loses_are_counted_and_the_cure_is_named(
    launch_node, client, monkeypatch
):
    # as Fast DDS comes, on both sides; this process, which has its profile already, looks on
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE')
    process = launch_node('bundle:=x', 'diagnostics_period:=0.2')
    client.connect()
    publisher = subprocess.Popen([sys.executable, str(Path(__file__).with_name('fake_lidar.py'))])
    try:
        assert client.spin_until(
            lambda: any('512 KiB' in m.status[0].message for m in client.diagnostics), 30
        )
    finally:
        publisher.kill()
        publisher.wait()
    assert process.poll() is None


def test_build_only_ends_when_the_model_is_warm(launch_node):
    process = launch_node('bundle:=x', 'build_only:=true')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert b'ready' not in output
