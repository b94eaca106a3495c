# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Whatever a camera does, every cloud is labelled; the diagnostics name it, and it recovers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('cv2', reason='the cameras extra is not installed')

import camera_client
import rclpy
from camera_client import (
    EXTRINSICS,
    HEIGHT,
    START,
    WIDTH,
    ColourEncoder,
    camera_info,
    check,
    expected,
    forward_pose,
    raw,
    scene,
    stamped,
    student,
)
from fake_node import FakeSource, HeightLabeller
from node_system import change
from ros_client import NODE, Client, make_cloud
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.cameras import encoder_keeper
from reldistill_ros.node.diagnostics_publisher import wrong_type
from reldistill_ros.segment_node import SegmentNode

GIVEN = f'camera.front.extrinsics:={EXTRINSICS}'
PLUMB_BOB = [0.0] * 5


def is_fused(system, seconds):
    """Whether the labels of a cloud are the student's and the camera's, not its own alone."""
    points = scene()
    answer = system.label(points, seconds)
    truth = expected(points, (0.0, forward_pose()))
    if np.array_equal(answer.data, system.label(points, seconds + 5.0).data):
        check(answer, student(points))
        return False
    check(answer, truth)
    return True


def test_clouds_do_not_wait_for_an_encoder_that_is_blocked(begin):
    system = begin(GIVEN, 'camera.front.window:=10.0')
    system.eye.open.clear()
    system.send(raw())
    assert system.client.spin_until(lambda: system.eye.calls == 2)  # one was the warm-up
    points = scene()
    for number in range(50):
        seconds = START + 0.1 * number
        check(system.label(points, seconds), student(points))  # comes before the next one is sent
        system.images['front'].publish(raw(seconds))
    assert system.client.wait_for_value('labelled', 50)
    values = system.client.values()
    assert (values['received'], values['dropped'], values['failed']) == ('50', '0', '0')
    assert system.values()['left_out: no_image'] == '50'
    assert system.eye.calls == 2
    system.eye.open.set()
    assert system.wait_for('encoded', 2)  # the first, and the newest
    assert system.values()['busy'] == '49'
    check(system.label(points, START + 4.9), expected(points, (0.0, forward_pose())))


def test_a_dead_camera_is_named_and_taken_again_when_it_comes_back(begin):
    system = begin(GIVEN, 'input_timeout:=0.5')
    system.see(raw())
    assert is_fused(system, START)
    node = system.client.node
    node.destroy_publisher(system.images['front'])
    assert system.client.spin_until(lambda: 'no publisher on' in system.status().message)
    assert not is_fused(system, START + 20)
    kind = type(raw())
    system.images['front'] = node.create_publisher(kind, '/segment_node/input/front/image', 5)
    system.connect_cameras()
    assert system.client.spin_until(lambda: 'a publisher is there' in system.status().message)
    system.see(raw(START + 40))
    assert is_fused(system, START + 40)
    assert system.client.spin_until(lambda: system.status().level == b'\x00')


def malformed():
    deep = raw(encoding='32FC1', step=4 * WIDTH)
    return {
        'fewer bytes': raw(data=raw().data[:100]),
        'rows shorter than their pixels': raw(step=3 * WIDTH - 1),
        'a step beyond the data': raw(step=2**32 - 1),
        'unknown encoding': raw(encoding='yuv999'),
        'another size than the CameraInfo': raw(pixels=np.zeros((10, 10, 3), np.uint8)),
        'no pixels': raw(pixels=np.zeros((0, 0, 3), np.uint8)),
        'too many pixels': raw(height=2**32 - 1, width=2**32 - 1),
        'distances': deep,
    }


@pytest.mark.parametrize('kind', [*malformed()])
def test_a_malformed_image_is_counted_by_its_reason_and_the_next_one_is_taken(begin, kind):
    system = begin(GIVEN)
    system.send(malformed()[kind])
    assert system.wait_for('rejected', 1)
    reasons = [key for key in system.values() if key.startswith('rejected: ')]
    assert len(reasons) == 1
    assert 'image' in reasons[0]
    assert not is_fused(system, START)
    system.see(raw(START + 20))
    assert is_fused(system, START + 20)


@pytest.mark.parametrize(
    'changes',
    [
        {'k': [0.0] * 9},
        {'k': [np.nan] * 9},
        {'k': [np.inf] * 9},
        {'d': [np.nan] * 5},
        {'d': [0.1] * 5, 'distortion_model': 'crystal ball'},
        {'d': [0.1] * 3},
        {'r': [2.0] * 9},
        {'height': 0},
        {'height': 2**32 - 1, 'width': 2**32 - 1},
        {'binning_x': 2**32 - 1, 'binning_y': 2**32 - 1},
        {'height': HEIGHT + 1},
        {'d': [1e30] * 5},
    ],
    ids=str,
)
def test_a_camera_info_that_cannot_be_used_leaves_the_camera_out_until_it_can(begin, changes):
    system = begin(GIVEN)
    system.send(raw(), info=camera_info(**changes))
    assert system.wait_for('rejected', 1)
    assert not is_fused(system, START)
    system.see(raw(START + 20))
    assert is_fused(system, START + 20)


def test_without_camera_info_images_wait_for_none_and_say_so(begin):
    system = begin(GIVEN)
    system.images['front'].publish(raw())
    assert system.wait_for('rejected: no CameraInfo has come yet', 1)


def test_another_calibration_counts_for_the_images_that_follow(begin):
    system = begin(GIVEN)
    system.see(raw())
    assert is_fused(system, START)
    other = camera_info(k=[80.0, 0, 32, 0, 80, 24, 0, 0, 1])
    system.see(raw(START + 20), info=other)
    points = scene()
    answer = system.label(points, START + 20)
    columns = np.frombuffer(answer.data, np.uint8)
    assert not np.array_equal(columns, np.frombuffer(system.label(points, START).data, np.uint8))
    system.see(raw(START + 40))
    assert is_fused(system, START + 40)


def test_an_encoder_that_fails_is_opened_anew(begin, monkeypatch):
    monkeypatch.setattr(encoder_keeper, 'FIRST_DELAY', 0.2)
    system = begin(GIVEN, 'max_failures:=2')
    broken, system.eye = system.eye, ColourEncoder()
    broken.error = RuntimeError('out of memory')
    for number in (1, 2):
        system.send(raw(START + number))
        assert system.wait_for('failed: RuntimeError', number)
    assert not is_fused(system, START + 1)
    assert system.client.spin_until(
        lambda: 'out of memory' in system.client.diagnostics[-1].status[0].message
    )
    system.client.spin_until(lambda: False, 0.3)
    system.see(raw(START + 20))
    assert is_fused(system, START + 20)
    assert system.client.wait_for_value('ensemble', 'on')


def test_an_encoder_that_hangs_is_given_up_and_opened_anew(begin, monkeypatch):
    monkeypatch.setattr(encoder_keeper, 'FIRST_DELAY', 0.1)
    system = begin(GIVEN, 'image_timeout:=0.3')
    stuck, system.eye = system.eye, ColourEncoder()
    stuck.open.clear()
    system.send(raw())
    assert system.wait_for('failed: stuck', 1)
    assert not is_fused(system, START)
    system.client.spin_until(lambda: False, 0.2)
    system.see(raw(START + 20))
    assert is_fused(system, START + 20)
    stuck.open.set()  # what it made at last is not used: nobody waits for it
    system.client.spin_until(lambda: False, 0.3)
    assert system.values()['encoded'] == '1'


def test_a_bundle_without_encoder_labels_without_it_and_says_so_without_alarm(begin):
    system = begin(GIVEN, eye=False)
    system.send(raw())
    assert system.wait_for('not_requested', 1)
    check(system.label(scene()), student(scene()))
    status = system.client.diagnostics[-1].status[0]
    assert (status.level, 'carries no image encoder' in status.message) == (b'\x00', True)


def test_an_encoder_that_cannot_be_opened_is_an_alarm_but_no_hindrance(begin):
    class Source(FakeSource):
        def image_encoder(self):
            raise InputError('ONNX Runtime does not take the image encoder')

    system = begin(GIVEN, source=lambda settings: Source(HeightLabeller()))
    check(system.label(scene()), student(scene()))
    status = system.client.diagnostics[-1].status[0]
    assert status.level == b'\x01'
    assert 'no ensemble: ONNX Runtime does not take' in status.message


def test_an_ensemble_that_fails_leaves_the_labels_of_the_student(begin):
    class Source(FakeSource):
        def ensemble(self, vocabulary):
            raise OSError('the disk is gone')

    eye = ColourEncoder()
    system = begin(
        GIVEN, eye=eye, source=lambda settings: Source(HeightLabeller(), None, lambda: eye)
    )
    system.see(raw())
    check(system.label(scene()), student(scene()))
    assert system.wait_for('left_out: ensemble_failed', 1)


def test_a_fusion_that_hangs_is_named_and_neither_counted_twice_nor_laid_to_the_engine(begin):
    opened, done = [], threading.Event()

    class Slow:
        def __init__(self, ensemble):
            self._ensemble = ensemble
            self.spoken = ensemble.spoken
            self.is_slow = True

        def warm_up(self):
            pass

        def __call__(self, points, labels, views):
            if self.is_slow:
                self.is_slow = False
                done.wait(20)
            return self._ensemble(points, labels, views)

    class Source(FakeSource):
        def labeller(self, settings):
            opened.append(settings.backend)
            return super().labeller(settings)

        def ensemble(self, vocabulary):
            return Slow(super().ensemble(vocabulary))

    eye = ColourEncoder()
    system = begin(
        GIVEN,
        'inference_timeout:=0.5',
        eye=eye,
        source=lambda settings: Source(HeightLabeller(), None, lambda: eye),
    )
    system.see(raw())
    received = system.client.received['segmentation']
    before, num_opened = len(received), len(opened)
    system.client.clouds.publish(stamped(make_cloud(scene()), START, 'lidar'))
    assert system.client.wait_for_value('failed: stuck in fusion', 1)
    check(system.label(scene()), student(scene()))  # the next one goes on without cameras
    assert system.wait_for('left_out: fusion_hangs', 1)
    done.set()
    system.client.spin_until(lambda: False, 0.5)
    values = system.client.values()
    assert [values[key] for key in ('received', 'labelled', 'failed')] == ['2', '1', '1']
    assert (len(received), len(opened)) == (before + 1, num_opened)
    check(system.label(scene()), expected(scene(), (0.0, forward_pose())))


def test_an_image_of_another_shape_than_the_encoder_sees_is_told_once(begin, monkeypatch):
    monkeypatch.setattr(camera_client._Encoded, 'stretch', 1.3)
    system = begin(GIVEN)
    told = []
    system.see(raw())
    assert system.client.spin_until(
        lambda: [
            status.message
            for message in system.client.diagnostics
            for status in message.status
            if '30 % wider' in status.message
        ]
    )
    system.see(raw(START + 1))
    system.client.spin_until(lambda: False, 0.3)
    told = [
        status.message
        for message in system.client.diagnostics
        for status in message.status
        if '30 % wider' in status.message
    ]
    assert len(told) == 1


def test_images_are_not_decoded_while_nobody_listens(begin):
    system = begin(GIVEN, outputs=())
    system.send(raw())
    assert system.wait_for('not_requested', 1)
    assert system.values()['decoded'] == '0'


def num_camera_threads(before):
    """Of the threads that were not there before."""
    return sum(thread.name == 'cameras' for thread in set(threading.enumerate()) - before)


def test_it_goes_through_its_states_with_its_cameras(begin):
    before = set(threading.enumerate())
    system = begin(GIVEN)
    system.see(raw())
    for number in range(1, 3):
        assert change(system, 'deactivate')
        publisher = system.images['front']
        assert system.client.spin_until(lambda: publisher.get_subscription_count() == 0)  # noqa: B023
        assert num_camera_threads(before) == 1
        if number == 2:
            assert change(system, 'cleanup')
            assert num_camera_threads(before) == 0
            assert change(system, 'configure')
        assert change(system, 'activate')
        system.client.connect()
        system.connect_cameras()
        assert not is_fused(system, START + 30 * number)  # what it saw before is forgotten
        system.see(raw(START + 30 * number + 20))
        assert is_fused(system, START + 30 * number + 20)


def test_a_hung_encoder_costs_one_thread_however_often_the_node_is_activated(begin):
    before = set(threading.enumerate())
    system = begin(GIVEN)
    system.eye.open.clear()
    system.send(raw())
    assert system.client.spin_until(lambda: system.eye.calls == 2)
    for number in range(1, 4):
        assert change(system, 'deactivate')
        assert change(system, 'activate')
        system.client.connect()
        system.connect_cameras()
        system.send(raw(START + number))
        assert num_camera_threads(before) == 1
    system.eye.open.set()
    assert system.wait_for('encoded', 1)  # the newest; the first is of another activation
    assert system.eye.calls == 3


LISTENS_NOT = 'qos_overrides./segment_node/input/left/image.subscription.depth:=two'
SHOWS_NOT = 'qos_overrides./segment_node/output/left/overlay/compressed.publisher.depth:=two'


def test_an_activation_that_fails_leaves_no_subscription_behind(begin):
    left = f'camera.left.extrinsics:={EXTRINSICS}'
    system = begin(GIVEN, left, LISTENS_NOT, names=('front', 'left'), autostart=False)
    assert change(system, 'configure')
    for _ in range(2):
        assert not change(system, 'activate')
        assert not of_cameras(system.node.subscriptions)
    assert system.thread.is_alive()


def test_a_configuration_that_fails_leaves_no_overlay_and_no_thread_behind(begin):
    before = set(threading.enumerate())
    left = f'camera.left.extrinsics:={EXTRINSICS}'
    system = begin(GIVEN, left, SHOWS_NOT, names=('front', 'left'), autostart=False)
    assert not change(system, 'configure')
    assert not of_cameras(system.node.publishers)
    assert num_camera_threads(before) == 0


def test_where_other_topics_cannot_be_created_the_cameras_go_too(begin):
    before = set(threading.enumerate())
    wrong = 'qos_overrides./segment_node/label_info.publisher.depth:=two'
    system = begin(GIVEN, wrong, autostart=False)
    assert not change(system, 'configure')
    assert not of_cameras(system.node.publishers)
    assert num_camera_threads(before) == 0


def of_cameras(topics):
    """Names of those that the node has for its cameras."""
    names = [topic.topic_name if hasattr(topic, 'topic_name') else topic.topic for topic in topics]
    return [name for name in names if '/front/' in name or '/left/' in name]


def test_a_blocked_encoder_does_not_hold_up_the_end(begin):
    system = begin(GIVEN)
    system.eye.open.clear()
    system.send(raw())
    assert system.client.spin_until(lambda: system.eye.calls == 2)
    assert not system.node.stop(0.3)  # the process ends without that thread
    system.node._ended = True


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_within_two_seconds_while_an_image_is_encoded(number):
    command = [sys.executable, str(Path(__file__).with_name('fake_camera_node.py')), '--ros-args']
    given = ('bundle:=x', 'cameras:=[front]', GIVEN)
    words = [word for parameter in given for word in ('-p', parameter)]
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    process = subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        bufsize=0,  # else one readline may take several lines out of the pipe that select asks
    )
    rclpy.init(args=[])
    client = Client()
    try:
        client.connect()
        info = client.node.create_publisher(CameraInfo, f'{NODE}/input/front/camera_info', 5)
        images = client.node.create_publisher(Image, f'{NODE}/input/front/image', 5)

        def is_encoding():
            info.publish(camera_info())
            images.publish(raw())
            return select.select([process.stdout], [], [], 0.05)[0] and (
                b'encoding' in process.stdout.readline()
            )

        assert client.spin_until(is_encoding)
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 2
        assert b'Traceback' not in process.stdout.read()
    finally:
        process.kill()
        client.close()
        rclpy.try_shutdown()


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        (['cameras:=["a/b"]'], 'letters'),
        (['cameras:=[front, front]'], 'twice'),
        (['cameras:=[pointcloud]'], 'letters'),
        (['cameras:=[front]', 'camera.front.transport:=fax'], 'transport'),
        (['cameras:=[front]', 'camera.front.window:=-1.0'], 'window'),
        (['cameras:=[front]', 'camera.front.extrinsics:=[1.0, 2.0]'], 'extrinsics'),
        (['cameras:=[front]', f'camera.front.extrinsics:={[0.0] * 3 + [1.0] * 4}'], 'quaternion'),
        (['cameras:=[front]', 'camera.front.calibration:=/nowhere.yaml'], 'calibration file'),
        (['cameras:=[front]', 'extrinsics_file:=/nowhere.yaml'], 'settings file'),
        (
            [
                'cameras:=[front]',
                'qos_overrides./segment_node/input/front/image.subscription.depth:=two',
            ],
            'subscription.depth',
        ),
    ],
)
def test_a_wrong_parameter_of_a_camera_is_refused_with_its_name(parameters, words):
    given = ['bundle:=x', *parameters]
    rclpy.init(args=['--ros-args', *(word for p in given for word in ('-p', p))])
    try:
        with pytest.raises(InputError, match=words):
            SegmentNode(lambda settings: FakeSource(HeightLabeller())).autostart()
    finally:
        rclpy.try_shutdown()


def test_a_parameter_of_no_camera_is_named_in_a_warning(begin, capfd):
    begin(GIVEN, 'camera.fornt.window:=0.5', 'camera.front.windwo:=0.5')
    warning = next(line for line in capfd.readouterr().err.splitlines() if 'ignored' in line)
    assert 'camera.fornt.window' in warning
    assert 'camera.front.windwo' in warning


def test_a_topic_of_another_type_is_told_from_one_that_loses_messages():
    def publisher(kind):
        return SimpleNamespace(topic_type=f'sensor_msgs/msg/{kind}')

    assert wrong_type([publisher('Image'), publisher('CompressedImage')], Image) == ''
    assert wrong_type([], Image) == ''
    told = wrong_type([publisher('CompressedImage')], Image)
    assert 'sensor_msgs/msg/Image is expected' in told
    assert told.endswith('set its transport to compressed')
    assert 'transport' not in wrong_type([publisher('Image')], PointCloud2)
