# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What `python -m trainer.inspect` says of a bag."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tiny_foxglove
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_bag import FULL_TURN_OF_AXES, camera_info, cloud, compressed, transforms, write_bag

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import parse_settings
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.inspect.bag import inspect_bag
from trainer.inspect.inspect import main
from trainer.inspect.page import format_page, format_settings
from trainer.inspect.points import suggest_maximum
from trainer.inspect.topics import measure_rhythm

START, MS = 1_700_000_000_000_000_000, 1_000_000
FRONT = 'camera_front_optical'
RNG = np.random.default_rng(0)
POINTS = np.column_stack(
    [RNG.uniform(3, 40, 500), RNG.uniform(-6, 6, 500), RNG.uniform(-2, 2, 500)]
).astype(np.float32)
PIXELS = RNG.integers(40, 255, (96, 128, 3), dtype=np.uint8)
IMAGES, INFO = '/camera_front/image/compressed', '/camera_front/camera_info'
LOOKING_BACK = (0.5, 0.5, -0.5, -0.5)


def sweep(stamp_ns, scale=100.0):
    columns = dict(zip('xyz', POINTS.T))
    columns['intensity'] = np.linspace(0, scale, len(POINTS)).astype(np.float32)
    columns['time'] = np.linspace(0, 0.1, len(POINTS)).astype(np.float32)
    return '/lidar/points', stamp_ns, cloud(stamp_ns, columns)


def drive(num_sweeps=12, camera_axes=FULL_TURN_OF_AXES):
    """A sweep every 100 ms, an image 40 ms after each; the car drives 10 m/s."""
    edges = [
        (START, 'base_link', 'lidar', (0, 0, 0, 1), (0, 0, 2)),
        (START, 'base_link', FRONT, camera_axes, (0, 0, 1.5)),
    ]
    messages = [
        ('/tf_static', START, transforms(*edges)),
        (INFO, START, camera_info(START, FRONT, 128, 96)),
    ]
    for number in range(5 * num_sweeps + 1):
        at = START + number * 20 * MS
        edge = (at, 'odom', 'base_link', (0, 0, 0, 1), (number * 0.2, 0, 0))
        messages.append(('/tf', at, transforms(edge)))
    for number in range(num_sweeps):
        at = START + number * 100 * MS
        messages += [sweep(at), (IMAGES, at + 40 * MS, compressed(at + 40 * MS, FRONT, PIXELS))]
    return messages


def inspect(tmp_path, messages, **values):
    write_bag(tmp_path / 'bag', messages)
    return inspect_bag({'path': 'bag', **values}, tmp_path)


def without(messages, topic):
    return [message for message in messages if message[0] != topic]


def notes(inspection, stops):
    return [h.what for h in inspection.hindrances if h.stops == stops]


def test_rates_offsets_motion_and_pairs_are_measured(tmp_path):
    found = inspect(tmp_path, drive())
    rhythms = {topic.topic: topic.rhythm for topic in found.topics}
    assert rhythms['/lidar/points'].count == 12
    assert rhythms['/lidar/points'].rate == pytest.approx(10)
    assert rhythms['/tf'].rate == pytest.approx(50)
    assert {t.topic: t.use for t in found.topics}[INFO] == 'calibration of camera_front'
    assert [(e.parent, e.child, e.is_static) for e in found.edges] == [
        ('base_link', FRONT, True),
        ('base_link', 'lidar', True),
        ('odom', 'base_link', False),
    ]
    assert (found.drive.motion.source, found.drive.motion.share_known) == ('/tf', 1.0)
    assert found.drive.motion.distance == pytest.approx(11)
    (camera,) = found.drive.cameras
    assert camera.offset == (40, 40, 40)
    assert camera.sweeps_without == 0
    assert 0 < camera.num_pairs <= camera.num_in_view <= 500
    assert camera.horizontal_view == pytest.approx(2 * np.degrees(np.arctan(0.64)), abs=0.5)
    assert found.clouds.sweep_time == pytest.approx(0.1)
    assert found.clouds.num_points == 500
    assert found.can_be_trained


def test_the_settings_that_are_printed_open_the_drive(tmp_path):
    found = inspect(tmp_path, drive())
    (values,) = yaml.safe_load(format_settings(found))['train']
    settings = parse_settings(values, RosbagSettings, 'page')
    assert settings.intensity_max == 100
    sample = Rosbag(settings, tmp_path)[0]
    assert sample.points[:, 3].max() == pytest.approx(1)
    assert len(sample.images) == 1


def test_images_without_a_camera_info_stop_and_the_points_are_looked_at_all_the_same(tmp_path):
    found = inspect(tmp_path, without(drive(), INFO))
    assert not found.can_be_trained
    (stop,) = [h for h in found.hindrances if h.stops]
    assert 'no CameraInfo' in stop.what
    assert 'calibrations' in stop.fix
    assert found.drive.num_sweeps == 12
    assert found.clouds.num_points == 500


def test_a_camera_that_looks_away_from_the_points_stops(tmp_path):
    in_front = inspect(tmp_path, drive(camera_axes=LOOKING_BACK))
    assert notes(in_front, True) == ['camera_front: no point lies in the image']


def test_a_camera_whose_clock_is_off_stops(tmp_path):
    late = [
        (topic, log, compressed(log + 10**10, FRONT, PIXELS) if topic == IMAGES else message)
        for topic, log, message in drive()
    ]
    found = inspect(tmp_path, late)
    assert 'no sweep has an image that is near in time' in notes(found, True)[0]
    assert found.drive.cameras[0].offset is None
    assert any('sweeps come without an image' in what for what in notes(found, False))


def test_frames_that_are_not_connected_stop_with_what_to_do(tmp_path):
    found = inspect(tmp_path, without(drive(), '/tf_static'))
    (stop,) = [h for h in found.hindrances if h.stops]
    assert 'coordinate frames' in stop.what
    assert 'extrinsics' in stop.fix


def test_a_bag_without_any_cloud_or_camera_stops(tmp_path):
    found = inspect(tmp_path, without(drive(), '/lidar/points'))
    assert (found.clouds, found.drive) == (None, None)
    assert len(notes(found, True)) == 1
    format_page(found)
    points_only = tmp_path / 'points'
    points_only.mkdir()
    found = inspect(points_only, [sweep(START + n * 100 * MS) for n in range(3)])
    assert 'no camera' in notes(found, True)[0]


def test_a_broken_image_is_named(tmp_path):
    messages = drive()
    for _, _, message in messages:
        if getattr(message, 'format', '') == 'png':
            message.data = message.data[:200]
    found = inspect(tmp_path, messages)
    assert 'cannot be decoded' in notes(found, True)[0]


def test_pauses_short_drives_and_standing_still_are_noted(tmp_path):
    start, end = START + 300 * MS, START + 1700 * MS
    paused = [m for m in drive(24) if m[0] != IMAGES or not start < m[1] < end]
    words = ' '.join(notes(inspect(tmp_path, paused), False))
    assert f'{IMAGES} pauses 1 times, for up to 1.5 s' in words
    assert 'only 24 sweeps' in words
    still = tmp_path / 'still'
    still.mkdir()
    found = inspect(still, without(drive(), '/tf'))
    assert found.drive.motion.source is None
    assert any('nothing says how the car moves' in what for what in notes(found, False))


def test_dark_images_and_wrong_intensities_are_noted(tmp_path):
    dark = [
        (topic, log, compressed(log, FRONT, PIXELS // 20) if topic == IMAGES else message)
        for topic, log, message in drive()
    ]
    words = ' '.join(notes(inspect(tmp_path, dark, intensity_max=1.0), False))
    assert 'almost black' in words
    assert 'intensity_max is 1, but the intensities reach 100' in words


def test_points_without_intensity_are_trained_without(tmp_path):
    columns = dict(zip('xyz', POINTS.T))
    bare = [
        (topic, log, cloud(log, columns) if topic == '/lidar/points' else message)
        for topic, log, message in drive()
    ]
    found = inspect(tmp_path, bare)
    assert found.clouds.intensity is None
    assert found.can_be_trained
    assert found.settings['intensity'] == 'absent'
    words = ' '.join(notes(found, False))
    assert 'no times of their own' in words
    assert 'no intensity' in words


def test_the_command_prints_a_page_and_writes_the_report(tmp_path, monkeypatch, capsys):
    write_bag(tmp_path / 'bag', drive())
    settings = tmp_path / 'settings.yaml'
    settings.write_text('cameras: [camera_front]\nmax_time_difference: 0.05\n')
    out = tmp_path / 'out'
    arguments = ['inspect', str(tmp_path / 'bag'), str(settings), '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', arguments)
    main()
    page = capsys.readouterr().out
    for title in ('topics of bag', 'coordinate frames', 'points', 'what would hinder training'):
        assert f'\n{title}' in f'\n{page}'
    assert 'max_time_difference: 0.05' in page
    report = json.loads((out / 'report.json').read_text())
    assert report['drive']['cameras'][0]['offset'] == [40, 40, 40]
    assert report['pictures'] == {'camera_front': 'overlay_camera_front.png'}
    assert (out / 'overlay_camera_front.png').stat().st_size > 1000


def test_the_command_fails_where_training_is_not_possible(tmp_path, monkeypatch, capsys):
    write_bag(tmp_path / 'bag', without(drive(), INFO))
    monkeypatch.setattr(sys, 'argv', ['inspect', str(tmp_path / 'bag')])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert 'STOPS images have no CameraInfo' in capsys.readouterr().out


def test_settings_of_something_else_are_refused(tmp_path, monkeypatch):
    write_bag(tmp_path / 'bag', drive(2))
    for text, match in (('- 1', 'no keys'), ('a: [', 'not YAML'), ('speed: 3', 'speed')):
        (tmp_path / 'settings.yaml').write_text(text)
        arguments = ['inspect', str(tmp_path / 'bag'), str(tmp_path / 'settings.yaml')]
        monkeypatch.setattr(sys, 'argv', arguments)
        with pytest.raises(InputError, match=match):
            main()


def test_a_file_of_foxglove_is_looked_into(tmp_path):
    points = np.column_stack([POINTS, np.full((500, 2), 200, np.float32)])
    matrix = np.array([[126.0, 0, 64], [0, 126, 48], [0, 0, 1]])
    tiny_foxglove.write_mcap(tmp_path / 'a.mcap', tiny_foxglove.scene(points, PIXELS, matrix))
    found = inspect_bag({'path': 'a.mcap'}, tmp_path)
    assert found.can_be_trained
    assert found.settings['intensity_max'] == 255
    assert found.drive.cameras[0].offset == (12, 12, 12)
    assert found.drive.motion.distance == pytest.approx(4, abs=0.1)
    kinds = {topic.topic: topic.type for topic in found.topics}
    assert kinds['/gps'] == 'foxglove.LocationFix'


@given(
    st.lists(st.floats(0, 1e5, width=32), min_size=1, max_size=50),
    st.sampled_from(['f4', 'u2', 'f8']),
)
def test_the_suggested_maximum_is_reached_by_none(values, kind):
    suggested = suggest_maximum(np.array(values), np.dtype(kind))
    assert max(values) <= suggested
    assert suggest_maximum(np.array(values), np.dtype('u1')) == 255


def test_gaps_are_told_from_the_usual_rhythm():
    times = [START + n * 100 * MS for n in range(10)] + [START + 2000 * MS, START + 2100 * MS]
    rhythm = measure_rhythm(times[::-1])
    assert (rhythm.count, rhythm.num_gaps) == (12, 1)
    assert rhythm.longest_gap == pytest.approx(1.1)
    assert rhythm.rate == pytest.approx(11 / 2.1, abs=1e-3)
    assert measure_rhythm([START]).rate is None
    assert measure_rhythm([START, START]).longest_gap is None
