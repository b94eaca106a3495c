# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bag of the synthetic town: topics, stamps, label maps, and the command line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reldistill_ros.core.errors import InputError
from trainer.datasets.synthetic.materials import CLASS_NAMES
from trainer.datasets.synthetic.record import Drive, write_town
from trainer.datasets.synthetic.render import render_sweep
from trainer.datasets.synthetic.rig import START_NS, make_lidar

pytest.importorskip('embreex')
highlevel = pytest.importorskip('rosbags.highlevel')
image_module = pytest.importorskip('PIL.Image')

CAMERAS = ('camera_back', 'camera_left', 'camera_front', 'camera_right')
DRIVE = Drive(seed=3, layout='heldout', sweeps=3)


@pytest.fixture(scope='module')
def town(tmp_path_factory):
    out = tmp_path_factory.mktemp('town') / 'out'
    write_town(DRIVE, out)
    return out


def read(town: Path):
    """Messages by topic, in order."""
    messages = {}
    with highlevel.AnyReader([town / 'bag']) as reader:
        for connection, log_time, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            messages.setdefault(connection.topic, []).append((log_time, message))
    return messages


@pytest.fixture(scope='module')
def messages(town):
    return read(town)


def stamp_ns(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_the_bag_has_all_topics_with_equal_counts(messages):
    sensors = ['/lidar/points', '/lidar/labels']
    sensors += [f'/{camera}/image/compressed' for camera in CAMERAS]
    sensors += [f'/{camera}/camera_info' for camera in CAMERAS]
    assert {topic: len(messages[topic]) for topic in sensors} == dict.fromkeys(sensors, 3)
    assert len(messages['/tf_static']) == len(messages['/lidar/label_info']) == 1
    assert len(messages['/tf']) == 3 * 5
    assert set(messages) == {*sensors, '/tf', '/tf_static', '/lidar/label_info'}


def test_every_message_is_logged_at_its_own_stamp(messages):
    for topic, entries in messages.items():
        for log_time, message in entries:
            if hasattr(message, 'header'):
                assert stamp_ns(message) == log_time, topic


def test_the_points_of_the_bag_are_those_that_were_rendered(messages):
    sweep = render_sweep(DRIVE.scene(), START_NS + 500_000_000, make_lidar(32)).sweep
    log_time, cloud = messages['/lidar/points'][1]
    assert log_time == START_NS + 500_000_000
    assert cloud.header.frame_id == 'lidar'
    layout = np.dtype(
        {
            'names': [field.name for field in cloud.fields],
            'formats': [{4: '<u2', 7: '<f4'}[field.datatype] for field in cloud.fields],
            'offsets': [field.offset for field in cloud.fields],
            'itemsize': cloud.point_step,
        }
    )
    records = np.frombuffer(cloud.data.tobytes(), layout)
    assert len(records) == cloud.width * cloud.height
    for column, name in enumerate(['x', 'y', 'z', 'intensity']):
        assert (records[name] == sweep.points[:, column]).all()
    assert (records['ring'] == sweep.rings).all()
    assert (records['time'] == sweep.times).all()


def test_labels_have_a_value_for_every_point_and_a_name_for_every_value(messages):
    info = json.loads(messages['/lidar/label_info'][0][1].data)
    assert tuple(info['class_names']) == CLASS_NAMES
    for (_, points), (_, labels) in zip(messages['/lidar/points'], messages['/lidar/labels']):
        assert stamp_ns(points) == stamp_ns(labels)
        assert (points.width, points.height) == (labels.width, labels.height)
        assert [field.name for field in labels.fields] == ['label']
        assert labels.data.max() < len(CLASS_NAMES)


def test_there_is_a_pose_at_every_stamp(messages):
    poses = {time for time, _ in messages['/tf']}
    for topic in ['/lidar/points', *(f'/{camera}/image/compressed' for camera in CAMERAS)]:
        assert {time for time, _ in messages[topic]} <= poses
    first = messages['/tf'][0][1].transforms[0]
    assert (first.header.frame_id, first.child_frame_id) == ('odom', 'base_link')
    assert abs(first.transform.translation.x) < 1e-9


def test_the_mountings_name_every_sensor(messages):
    transforms = messages['/tf_static'][0][1].transforms
    assert {entry.header.frame_id for entry in transforms} == {'base_link'}
    frames = {'lidar', *(f'{camera}_optical' for camera in CAMERAS)}
    assert {entry.child_frame_id for entry in transforms} == frames


def test_images_are_jpeg_of_the_size_in_the_camera_info(messages):
    for camera in CAMERAS:
        _, image = messages[f'/{camera}/image/compressed'][0]
        _, info = messages[f'/{camera}/camera_info'][0]
        picture = image_module.open(io.BytesIO(image.data.tobytes()))
        assert (picture.format, picture.size) == ('JPEG', (info.width, info.height))
        assert image.header.frame_id == info.header.frame_id == f'{camera}_optical'
        assert info.distortion_model == 'plumb_bob'
        assert not info.d.any()


def test_label_maps_are_named_by_the_stamps_of_the_images(town, messages):
    for camera in CAMERAS:
        stamps = {stamp_ns(message) for _, message in messages[f'/{camera}/image/compressed']}
        names = {path.name for path in (town / 'label_maps' / camera).iterdir()}
        kinds = ('class', 'confidence')
        assert names == {f'{stamp}_{kind}.png' for stamp in stamps for kind in kinds}
        class_map = np.asarray(image_module.open(town / 'label_maps' / camera / min(names)))
        assert class_map.dtype == np.uint8
        assert set(np.unique(class_map)) <= {*range(len(CLASS_NAMES)), 255}


def test_latched_topics_are_offered_as_such(town):
    with highlevel.AnyReader([town / 'bag']) as reader:
        for connection in reader.connections:
            durability = connection.ext.offered_qos_profiles[0].durability.name
            latched = connection.topic in ('/tf_static', '/lidar/label_info')
            assert (durability == 'TRANSIENT_LOCAL') == latched, connection.topic


def test_two_workers_write_the_same_as_one(town, tmp_path):
    write_town(DRIVE, tmp_path / 'out', workers=2)
    other = read(tmp_path / 'out')
    for topic, entries in read(town).items():
        assert len(entries) == len(other[topic])
        if topic.startswith('/lidar/') and topic != '/lidar/label_info':
            for (_, ours), (_, theirs) in zip(entries, other[topic]):
                assert ours.data.tobytes() == theirs.data.tobytes()
    for path in (town / 'label_maps').rglob('*.png'):
        assert path.read_bytes() == (tmp_path / 'out' / path.relative_to(town)).read_bytes()


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('disk on fire')

    monkeypatch.setattr('trainer.datasets.synthetic.record.render_sweep', fail)
    with pytest.raises(RuntimeError, match='fire'):
        write_town(DRIVE, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'wrong', [{'sweeps': 0}, {'sweep_period': 0.05}, {'sweep_period': float('nan')}, {'seed': -1}]
)
def test_an_impossible_drive_is_refused(wrong):
    with pytest.raises(InputError):
        Drive(**wrong)


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / 'kept').write_text('mine')
    command = [sys.executable, '-m', 'trainer.datasets.synthetic', str(tmp_path)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert 'exists already' in result.stderr
    assert 'Traceback' not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['kept']
