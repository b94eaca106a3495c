# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A replay with cameras: what is played beside the clouds, and what is said of the labels then."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml

pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')

from camera_bag import COMPRESSED, FRONT, FRONT_TIMES, INFO, NANO, RAW, REAR, REAR_TIMES, image
from camera_bag import write_camera_bag as write_bag
from fake_node import HeightLabeller
from height_bag import START, STORE
from height_bag import write_bag as write_clouds

from reldistill_ros.backends.backend import BackendName
from reldistill_ros.bags.bag import TF_MESSAGE, open_bag
from reldistill_ros.cameras.extrinsics import read_extrinsics
from reldistill_ros.core.errors import InputError
from reldistill_ros.replay import replay
from reldistill_ros.replay.bag import Truth, find_sweeps
from reldistill_ros.replay.beside import find_beside, plan_beside
from reldistill_ros.replay.cameras import PlayedCamera, camera_arguments, choose_cameras
from reldistill_ros.replay.extrinsics_file import write_extrinsics
from reldistill_ros.replay.options import check_parameters, parse_options
from reldistill_ros.replay.outcome import Judge
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.report import camera_line, summarise_cameras
from reldistill_ros.replay.requirements import parse_requirement
from reldistill_ros.replay.schedule import Course, moved_on, span_of, stamp_at

FAKE_NODE = [sys.executable, str(Path(__file__).with_name('fake_node.py'))]
LISTENER = str(Path(__file__).with_name('camera_listener.py'))
FRONT_CAMERA = PlayedCamera('front', FRONT, '/front/camera_info', 'compressed', True)
REAR_CAMERA = PlayedCamera('rear', REAR, '/rear/camera_info', 'raw', False)
needs_ros = pytest.mark.skipif(
    importlib.util.find_spec('rclpy') is None, reason='rclpy is not installed'
)


@pytest.fixture
def bag(tmp_path):
    with open_bag(write_bag(tmp_path / 'bag')) as opened:
        yield opened


def beside_of(bag, with_frames=True):
    span = span_of(find_sweeps(bag, None, None, None).stamps_ns)
    return find_beside(bag, (FRONT_CAMERA, REAR_CAMERA), span, with_frames=with_frames), span


def seconds(stamp_ns):
    return round((stamp_ns - START * NANO) / NANO, 3)


@pytest.mark.parametrize(
    ('wanted', 'expected'),
    [
        ('all', (FRONT_CAMERA, REAR_CAMERA)),
        ('rear', (REAR_CAMERA,)),
        (f'rear, {FRONT}', (REAR_CAMERA, FRONT_CAMERA)),
    ],
)
def test_cameras_are_found_by_the_names_of_their_topics(bag, wanted, expected):
    assert choose_cameras(bag, wanted) == expected


def test_a_camera_that_the_bag_lacks_is_refused_with_those_it_has(bag):
    with pytest.raises(InputError, match=r'(?s)no such camera.*left.*front, rear'):
        choose_cameras(bag, 'front,left')


def test_a_bag_without_cameras_is_refused(tmp_path):
    with (
        open_bag(write_clouds(tmp_path / 'bag')) as bag,
        pytest.raises(InputError, match='the bag has no camera'),
    ):
        choose_cameras(bag, 'all')


def test_the_node_is_told_names_transports_and_topics():
    words = camera_arguments((FRONT_CAMERA, REAR_CAMERA))
    assert words[:2] == ['-p', 'cameras:=[front,rear]']
    pairs = set(zip(words[::2], words[1::2]))
    assert pairs >= {
        ('-p', 'camera.front.transport:=compressed'),
        ('-p', 'camera.front.is_rectified:=true'),
        ('-p', 'camera.rear.transport:=raw'),
        ('-r', f'~/input/front/image:={FRONT}'),
        ('-r', '~/input/rear/camera_info:=/rear/camera_info'),
    }


def test_messages_are_played_at_their_stamps_while_the_clouds_last(bag):
    beside, span = beside_of(bag)
    assert span.length_ns == 6 * NANO // 10
    played = [(seconds(entry.stamp_ns), entry.topic) for entry in beside.entries]
    assert played == sorted(played)
    times = {topic: [t for t, name in played if name == topic] for _, topic in played}
    # of what was before the first cloud, the last one
    assert times[FRONT] == [0.0, 0.05, 0.25, 0.45]
    assert beside.raw(beside.entries[0], 0)  # any
    first = next(entry for entry in beside.entries if entry.topic == FRONT)
    assert seconds(stamp_at(bag.raw(first), 4)) == FRONT_TIMES[1]
    assert times['/front/camera_info'] == [0.0]
    assert times[REAR] == times['/rear/camera_info'] == list(REAR_TIMES)
    assert times['/tf'] == [0.01, 0.02, 0.22, 0.31, 0.42]
    assert [entry.topic for entry in beside.static] == ['/tf_static']
    assert set(beside.topics.values()) == {COMPRESSED, RAW, INFO, TF_MESSAGE}
    without, _ = beside_of(bag, with_frames=False)
    assert TF_MESSAGE not in without.topics.values()


def test_stamps_move_on_with_each_loop(bag):
    beside, span = beside_of(bag)
    num = len(beside.entries)
    planned = list(islice(plan_beside(beside, span, None), 2 * num + 1))
    stamps = [message.stamp_ns for message in planned]
    assert stamps == sorted(stamps)
    assert [message.shift_ns for message in planned[::num]] == [
        0,
        span.length_ns,
        2 * span.length_ns,
    ]
    for message in planned[num : 2 * num]:
        raw = beside.raw(message.entry, message.shift_ns)
        kind = bag.topics[message.entry.topic]
        got, before = STORE.deserialize_cdr(raw, kind), bag.read(message.entry)
        if kind == TF_MESSAGE:
            got, before = got.transforms[0], before.transforms[0]
            assert got.child_frame_id == before.child_frame_id
        moved = got.header.stamp.sec * NANO + got.header.stamp.nanosec
        assert (
            moved == before.header.stamp.sec * NANO + before.header.stamp.nanosec + span.length_ns
        )
        assert got.header.frame_id == before.header.frame_id


def test_a_stamp_is_moved_in_either_byte_order():
    for raw in (
        bytes([0, 1, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7]),
        bytes([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9, 7]),
    ):
        assert stamp_at(raw, 4) == 5 * NANO + 9
        assert stamp_at(moved_on(raw, NANO - 10), 4) == 5 * NANO + NANO - 1
        assert moved_on(raw, 3)[12:] == raw[12:]


def test_frames_that_never_move_are_written_for_a_ros_without_tf(bag, tmp_path):
    moving, refused = write_extrinsics(bag, tmp_path / 'extrinsics.yaml')
    written = yaml.safe_load((tmp_path / 'extrinsics.yaml').read_text())
    assert (moving, refused) == (['base'], {})
    assert {entry['child']: entry['parent'] for entry in written['extrinsics']} == {
        'front': 'base',
        'rear': 'base',
    }
    by_child = {entry['child']: entry for entry in written['extrinsics']}
    assert by_child['front']['translation'] == [1.5, 0.0, 0.5]
    assert by_child['front']['rotation'] == [0.0, 0.0, 0.0, 1.0]


def judge_of(bag, cameras=()):
    labeller = HeightLabeller()
    sweeps = find_sweeps(bag, None, None, None)
    truth = Truth(bag, sweeps.label_topic, labeller.vocabulary)
    return Judge(sweeps, labeller, 255.0, labeller.vocabulary, truth, cameras)


@needs_ros
def test_beside_the_clouds_the_messages_of_the_bag_come_byte_by_byte(bag, tmp_path):
    topics = [f'{FRONT}:{COMPRESSED}', f'{REAR}:{RAW}', f'/front/camera_info:{INFO}']
    log = tmp_path / 'heard.jsonl'
    listener = subprocess.Popen(
        [sys.executable, LISTENER, str(log), *topics], stdout=subprocess.PIPE, text=True
    )
    try:
        assert listener.stdout.readline() == 'listening\n'
        judge = judge_of(bag, (FRONT_CAMERA, REAR_CAMERA))
        words = ['-p', 'bundle:=x', '-p', 'diagnostics_period:=0.1', '-p', 'use_sim_time:=true']
        recording = replay.play(
            judge.sweeps,
            words,
            Course(rate=None, loops=2),
            tmp_path,
            cameras=judge.cameras,
            command=FAKE_NODE,
        )
    finally:
        listener.kill()
        listener.wait()
    heard = [json.loads(line) for line in log.read_text().splitlines()]
    times = {topic: [seconds(s) for t, s, _ in heard if t == topic] for topic, _, _ in heard}
    assert times[FRONT] == [-0.15, 0.05, 0.25, 0.45, 0.45, 0.65, 0.85, 1.05]
    assert times[REAR] == [0.0, 0.3, 0.6, 0.9]
    assert times['/front/camera_info'] == [-0.4, 0.2]
    sent = {(t, seconds(s)): bytes.fromhex(data) for t, s, data in heard}
    assert sent[FRONT, 0.25] == bytes(image(0.25, 'front').data)
    assert sent[REAR, 0.9] == bytes(image(0.3, 'rear').data)

    outcome = judge.live(recording)
    summary = outcome.summary
    assert summary['frames_labelled'] == 12
    assert summary['cameras']['images'] == {'front': 8, 'rear': 4}
    assert summary['cameras']['labels_changed'] == 0
    assert 'labels_equal' not in summary['offline']
    assert summary['miou'] == summary['offline']['miou']
    replay.write(tmp_path, judge, replace(outcome, summary=summary | OF_A_COMMAND))
    page = (tmp_path / 'replay.html').read_text()
    assert 'front: 8 images, rear: 4 images' in page
    assert 'otherwise than by the student alone' in page
    assert 'labelled as without ROS' not in page


OF_A_COMMAND = {
    'pacing': 'closed loop',
    'bag': 'bag',
    'bundle_revision': 'fake',
    'backend': 'fused',
    'precision': 'float32',
    'requirements': [],
}


def test_labels_that_differ_from_those_without_cameras_are_no_failure(bag):
    recording = Recording()
    recording.beside[FRONT] = 3
    recording.part_values['camera front'] = {'sweeps': '2'}
    summary = {'offline': {'miou': 0.5, 'accuracy': 0.6, 'labels_equal': 0.75}}
    found = summarise_cameras(summary, recording, (FRONT_CAMERA,))
    assert found['offline'] == {'miou': 0.5, 'accuracy': 0.6}
    assert found['cameras'] == {
        'images': {'front': 3},
        'labels_changed': 0.25,
        'node': {'camera front': {'sweeps': '2'}},
    }
    with_cameras, without = judge_of(bag, (FRONT_CAMERA,)), judge_of(bag)
    equal = [parse_requirement('offline.labels_equal==1')]
    without.check_keys(equal, live=True)
    with pytest.raises(InputError, match='no such number'):
        with_cameras.check_keys(equal, live=True)
    with_cameras.check_keys([parse_requirement('cameras.images.front>0')], live=True)


@needs_ros
def test_what_the_node_says_of_itself_and_of_each_camera_is_recorded(begin):
    pytest.importorskip('cv2', reason='the cameras extra is not installed')
    from camera_client import EXTRINSICS, raw

    from reldistill_ros.replay.player import Player

    system = begin(f'camera.front.extrinsics:={EXTRINSICS}')
    system.see(raw())
    player = Player(None, lambda: None)
    player._on_diagnostics(system.client.diagnostics[-1])
    assert player.recording.node_values['state'] == 'active'
    assert [*player.recording.part_values] == ['camera front']
    assert player.recording.part_values['camera front']['encoded'] == '1'


class Frames:
    """A bag of transforms: parent, child, quaternion."""

    def __init__(self, *transforms):
        self.transforms = transforms

    def topics_of(self, kind):
        return ['/tf_static'] if kind == TF_MESSAGE else []

    def messages(self, topic):
        kind = SimpleNamespace
        for parent, child, rotation in self.transforms:
            placed = kind(
                translation=kind(x=1.0, y=0.0, z=0.0), rotation=kind(**dict(zip('xyzw', rotation)))
            )
            header = kind(frame_id=parent)
            stamped = kind(header=header, child_frame_id=child, transform=placed)
            yield 0, kind(transforms=[stamped])


def test_quaternions_are_made_unit_ones_and_what_is_none_is_left_out_and_told(tmp_path):
    path = tmp_path / 'extrinsics.yaml'
    bag = Frames(
        ('base', 'long', (0.0, 0.0, 0.0, 2.0)),
        ('base', 'none', (0.0, 0.0, 0.0, 0.0)),
        ('base', 'odd', (math.nan, 0.0, 0.0, 1.0)),
        ('/base', '/long', (0.0, 0.0, 0.0, 1.0)),
    )
    moving, refused = write_extrinsics(bag, path)
    assert moving == []
    assert [*refused] == ['none', 'odd']
    assert 'not a rigid transform' in refused['none']
    (written,) = read_extrinsics(path)  # as the node does
    assert (written.parent, written.child) == ('base', 'long')
    assert written.rotation == (0.0, 0.0, 0.0, 1.0)


def test_cameras_take_the_node(tmp_path):
    words = [str(tmp_path), '--bundle', 'b', '--out', 'o', '--cameras', 'all']
    assert parse_options(words, '').cameras == 'all'
    with pytest.raises(InputError, match='--cameras'):
        parse_options([*words, '--offline'], '')
    further = ['--camera-parameter', 'fixed_frame:=odom']
    arguments = replay.node_arguments(parse_options([*words, *further], ''), 'fused')
    assert arguments[-2:] == ['-p', 'fixed_frame:=odom']
    with pytest.raises(InputError, match='there are no cameras'):
        parse_options([*words[:-2], *further], '')


def test_what_the_cameras_did_is_told_in_one_line():
    cameras = {'images': {'front': 8}, 'labels_changed': 0.125, 'node': {}}
    line = camera_line({'cameras': cameras, 'offline': {'miou': 0.25}})
    assert line == (
        'cameras: front 8 images; 12.5 % of the labels changed by them '
        '(mIoU of the student alone: 0.25)'
    )


def test_the_fastest_engine_that_opens_is_the_same_for_node_and_comparison(tmp_path, monkeypatch):
    tried = []

    def open_bundle(path, backend, *_):
        tried.append(backend)
        if len(tried) == 1:
            raise RuntimeError('no such card')
        return HeightLabeller()

    monkeypatch.setattr(replay.Labeller, 'from_bundle', open_bundle)
    options = parse_options(
        [str(tmp_path), '--bundle', 'b', '--out', 'o', '--backend', 'auto'], ''
    )
    _, backend = replay.open_labeller(options)
    assert tried == list(get_args(BackendName))[:2]
    assert backend == tried[1]
    assert f'backend:={backend}' in replay.node_arguments(options, backend)


def test_where_no_engine_opens_each_says_why(tmp_path, monkeypatch):
    def open_bundle(path, backend, *_):
        raise InputError(f'{backend} is broken')

    monkeypatch.setattr(replay.Labeller, 'from_bundle', open_bundle)
    words = [str(tmp_path), '--bundle', 'b', '--out', 'o']
    with pytest.raises(InputError, match=r'(?s)fused is broken.*torch is broken'):
        replay.open_labeller(parse_options([*words, '--backend', 'auto'], ''))
    with pytest.raises(InputError, match=r'^fused is broken$'):
        replay.open_labeller(parse_options(words, ''))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('camera.front.window:=0.5', r'did you mean camera\.image_02\.window'),
        ('camera.image_02.window=0.5', 'NAME:=VALUE'),
    ],
)
def test_a_parameter_that_the_node_would_ignore_is_refused(text, message):
    check_parameters(['camera.image_02.window:=0.5', 'fixed_frame:=odom'], ['image_02'])
    with pytest.raises(InputError, match=message):
        check_parameters([text], ['image_02'])
