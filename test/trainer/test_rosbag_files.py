# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Bags of all kinds, and many as one drive, give the same samples."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from test_rosbag import MS, START, drive, info, labels, picture, reopen, sweep, tf, without
from tiny_bag import STORE, string, write_bag, write_ros1

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.cameras.transforms import apply
from reldistill_ros.core.errors import InputError
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.write_bag import write_bag as write_drive

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
KITTI = 'kitti_2011_09_26'
real_kitti = pytest.mark.skipif(
    not (DATA / KITTI).is_dir(), reason=f'no real KITTI drive: {DATA / KITTI} is absent'
)
STORAGES = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]


def assert_same(one, other):
    assert [sample.stamp_ns for sample in one] == [sample.stamp_ns for sample in other]
    assert one.label_names == other.label_names
    for sample, expected in zip(one, other):
        np.testing.assert_array_equal(sample.points, expected.points)
        np.testing.assert_array_equal(sample.times, expected.times)
        np.testing.assert_array_equal(sample.labels, expected.labels)
        assert len(sample.images) == len(expected.images) > 0
        for image, original in zip(sample.images, expected.images):
            assert image.camera == original.camera
            np.testing.assert_array_equal(image.image, original.image)
            np.testing.assert_array_equal(image.intrinsics, original.intrinsics)
            np.testing.assert_array_equal(image.camera_from_lidar, original.camera_from_lidar)


def split(messages, num_parts):
    """Messages in order of time, cut into parts."""
    ordered = sorted(messages, key=lambda message: message[1])
    return [list(part) for part in np.array_split(np.array(ordered, dtype=object), num_parts)]


def write_split(tmp_path, storage, num_parts=3):
    """A folder of rosbag2 with several files, as `ros2 bag record --max-bag-duration` makes it."""
    folder = tmp_path / 'split'
    folder.mkdir()
    infos = []
    for number, part in enumerate(split(drive(9), num_parts)):
        write_bag(tmp_path / f'split_{number}', part, storage)
        for file in (tmp_path / f'split_{number}').iterdir():
            shutil.move(file, folder / file.name)
        infos.append(yaml.safe_load((folder / 'metadata.yaml').read_text()))
    whole = infos[0]['rosbag2_bagfile_information']
    for other in infos[1:]:
        part = other['rosbag2_bagfile_information']
        whole['relative_file_paths'] += part['relative_file_paths']
        known = {entry['topic_metadata']['name'] for entry in whole['topics_with_message_count']}
        whole['topics_with_message_count'] += [
            entry
            for entry in part['topics_with_message_count']
            if entry['topic_metadata']['name'] not in known
        ]
    (folder / 'metadata.yaml').write_text(yaml.safe_dump(infos[0]))
    return folder


@pytest.mark.parametrize('storage', STORAGES)
def test_a_recording_split_over_three_files_equals_one_file(tmp_path, storage):
    write_bag(tmp_path / 'bag', sorted(drive(9), key=lambda message: message[1]), storage)
    folder = write_split(tmp_path, storage)
    assert len(list(folder.glob('split_*'))) == 3
    assert_same(reopen(tmp_path, path='split'), reopen(tmp_path))


@pytest.mark.parametrize('path', ['parts', 'parts/p*', ['parts/p2', 'parts/p0', 'parts/p1']])
def test_bags_in_a_folder_a_pattern_or_a_list_equal_one_file(tmp_path, path):
    write_bag(tmp_path / 'bag', drive(9))
    (tmp_path / 'parts').mkdir()
    for number, part in enumerate(split(drive(9), 3)):
        storage = STORAGES[number % 2]  # even of two kinds
        write_bag(tmp_path / 'parts' / f'p{number}', part, storage)
    assert_same(reopen(tmp_path, path=path), reopen(tmp_path))


def test_recordings_of_two_computers_at_the_same_time_are_one_drive(tmp_path):
    cameras = [message for message in drive(3) if message[0].startswith('/camera')]
    write_bag(tmp_path / 'bag', drive(3))
    write_bag(tmp_path / 'cameras', cameras)
    others = [message for message in drive(3) if not message[0].startswith('/camera')]
    write_bag(tmp_path / 'others', others)
    assert_same(reopen(tmp_path, path=['cameras', 'others']), reopen(tmp_path))


def test_two_drives_at_the_same_time_are_not_mixed_into_one(tmp_path):
    write_bag(tmp_path / 'one', drive(40))
    write_bag(tmp_path / 'two', drive(40, image_delay=10 * MS))
    with pytest.raises(InputError, match='the same topic at the same time'):
        reopen(tmp_path, path=['one', 'two'])


def test_sqlite_and_ros1_equal_mcap(tmp_path):
    write_bag(tmp_path / 'bag', drive(4))
    write_bag(tmp_path / 'sqlite', drive(4), StoragePlugin.SQLITE3)
    write_ros1(tmp_path / 'old.bag', drive(4))
    expected = reopen(tmp_path)
    assert_same(reopen(tmp_path, path='sqlite'), expected)
    assert_same(reopen(tmp_path, path='old.bag'), expected)


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags_equal_plain_ones(tmp_path, storage, mode):
    write_bag(tmp_path / 'bag', drive(3))
    write_bag(tmp_path / 'packed', drive(3), storage, mode)
    assert_same(reopen(tmp_path, path='packed'), reopen(tmp_path))


def write_mcap(path, messages, compression, **options):
    writer_module = pytest.importorskip('mcap.writer', reason='mcap is not installed')
    kinds = writer_module.CompressionType
    with path.open('wb') as stream:
        writer = writer_module.Writer(
            stream,
            chunk_size=2000,  # a message or two
            use_chunking=compression != 'no chunks',
            compression={'zstd': kinds.ZSTD, 'lz4': kinds.LZ4}.get(compression, kinds.NONE),
            **options,
        )
        writer.start(profile='ros2')
        channels = {}
        for topic, log_ns, message in messages:
            kind = message.__msgtype__
            if topic not in channels:
                text = STORE.generate_msgdef(kind)[0].encode()
                schema = writer.register_schema(kind, 'ros2msg', text)
                channels[topic] = writer.register_channel(topic, 'cdr', schema)
            data = bytes(STORE.serialize_cdr(message, kind))
            writer.add_message(channels[topic], log_ns, data, log_ns)
        writer.finish()


@pytest.mark.parametrize('compression', ['zstd', 'lz4', 'none', 'no chunks'])
def test_every_layout_of_mcap_is_read_in_place(tmp_path, compression):
    write_bag(tmp_path / 'bag', drive(3))
    write_mcap(tmp_path / 'other.mcap', drive(3), compression)
    assert_same(reopen(tmp_path, path='other.mcap'), reopen(tmp_path))


def test_a_file_without_the_index_of_its_messages_is_refused(tmp_path):
    pytest.importorskip('mcap.writer', reason='mcap is not installed')
    index = importlib.import_module('mcap.writer').IndexType
    for name, kinds in (('messages', index.ALL & ~index.MESSAGE), ('chunks', index.NONE)):
        write_mcap(tmp_path / f'{name}.mcap', drive(2), 'none', index_types=kinds)
        with pytest.raises(InputError, match=r'(?s)no index.*mcap recover'):
            reopen(tmp_path, path=f'{name}.mcap')


@pytest.mark.parametrize('compression', ['zstd', 'lz4'])
def test_a_damaged_chunk_is_told(tmp_path, compression):
    path = tmp_path / 'bag.mcap'
    write_mcap(path, drive(9), compression)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(InputError):
        [*reopen(tmp_path, path='bag.mcap')]


def test_old_transforms_of_ros1_are_read(tmp_path):
    messages = drive(2)
    for name, _, message in messages:
        if name == '/tf':
            for transform in message.transforms:
                transform.header.frame_id = '/odom'  # with the slash of that time
    write_ros1(tmp_path / 'old.bag', messages, 'tf/msg/tfMessage')
    write_bag(tmp_path / 'bag', drive(2))
    assert_same(reopen(tmp_path, path='old.bag'), reopen(tmp_path))


def test_files_that_are_no_drive_together_are_refused(tmp_path):
    write_bag(tmp_path / 'bag', drive(2))
    write_ros1(tmp_path / 'old.bag', drive(2))
    write_bag(tmp_path / 'other', [('/lidar/points', START, string('no cloud'))])
    with pytest.raises(InputError, match='ROS 1'):
        reopen(tmp_path, path=['bag', 'old.bag'])
    with pytest.raises(InputError, match=r'(?s)two types.*/lidar/points'):
        reopen(tmp_path, path=['bag', 'other'])
    with pytest.raises(InputError, match='given twice'):
        reopen(tmp_path, path=['bag', 'b*g'])
    with pytest.raises(InputError, match='does not exist'):
        reopen(tmp_path, path='none*')
    with pytest.raises(InputError, match='does not exist'):
        reopen(tmp_path, path=['bag', 'none'])


@pytest.mark.parametrize('share', [0.3, 0.9])
def test_a_recording_that_was_cut_off_is_refused(tmp_path, share):
    for storage, ending in zip(STORAGES, ('mcap', 'db3')):
        write_bag(tmp_path / ending, drive(9), storage)
        file = next((tmp_path / ending).glob(f'*.{ending}'))
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        for path in (ending, f'{ending}/{file.name}'):
            with pytest.raises(InputError, match=r'(?s)cannot be read.*mcap recover'):
                [*reopen(tmp_path, path=path)]
        (tmp_path / ending / 'metadata.yaml').unlink()  # written when the recorder ends
        with pytest.raises(InputError, match=r'(?s)cannot be read.*mcap recover'):
            [*reopen(tmp_path, path=ending)]


def test_a_cut_off_recording_of_ros1_is_refused(tmp_path):
    path = tmp_path / 'old.bag'
    write_ros1(path, drive(9))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match=r'(?s)cannot be read.*rosbag reindex'):
        reopen(tmp_path, path='old.bag')


def test_messages_that_a_killed_recorder_left_beside_the_file_are_told(tmp_path):
    write_bag(tmp_path / 'bag', drive(2), StoragePlugin.SQLITE3)
    (tmp_path / 'bag' / 'bag.db3-wal').write_bytes(b'messages')
    with pytest.raises(InputError, match=r'(?s)not closed.*wal_checkpoint'):
        reopen(tmp_path)


@pytest.mark.parametrize('storage', STORAGES)
def test_a_bag_without_messages_is_refused(tmp_path, storage):
    write_bag(tmp_path / 'bag', [], storage)
    with pytest.raises(InputError, match=r'(?s)no such topic.*clouds with x, y, z'):
        reopen(tmp_path)


def test_a_topic_of_another_type_is_refused_with_its_type(tmp_path):
    write_bag(tmp_path / 'bag', drive(1))
    with pytest.raises(InputError, match='/camera_front/image/compressed of type sensor_msgs'):
        reopen(tmp_path, lidar_topics=['/camera_front/image/compressed'])
    with pytest.raises(InputError, match='/lidar/points of type sensor_msgs'):
        reopen(tmp_path, label_topic='/lidar/points')
    with pytest.raises(InputError, match=r'(?s)no such topic.*nav_msgs/msg/Odometry'):
        reopen(tmp_path, odometry_topic='/tf')


@pytest.mark.parametrize('log', ['steps back too', 'goes on'])
def test_a_clock_that_jumps_back_is_refused(tmp_path, log):
    stamps = [START + n * 100 * MS for n in (0, 20, 40, 15, 35)]
    messages = [sweep(stamp) for stamp in stamps]
    if log == 'goes on':
        messages = [(t, START + n, m) for n, (t, _, m) in enumerate(messages)]
    for storage in STORAGES:
        path = tmp_path / storage.name
        write_bag(path, messages, storage)
        with pytest.raises(InputError, match=r'(?s)jumps back by 2.500 s.*/lidar/points'):
            reopen(tmp_path, path=storage.name)


def test_messages_that_overtake_each_other_are_put_in_order(tmp_path):
    stamps = [START + n * 100 * MS for n in (0, 2, 1, 3)]
    messages = [(t, START + n, m) for n, (t, _, m) in enumerate(map(sweep, stamps))]
    write_bag(tmp_path / 'bag', messages)
    assert [s.stamp_ns - START for s in reopen(tmp_path)] == [0, 100 * MS, 200 * MS, 300 * MS]


def test_clouds_with_one_stamp_are_refused_until_one_is_left_out(tmp_path):
    other = sweep(START + 100 * MS, np.full((3, 3), 99, np.float32))
    messages = [*drive(3), (other[0], other[1] + MS, other[2])]
    write_bag(tmp_path / 'bag', messages)
    with pytest.raises(InputError, match=r'(?s)same stamp.*without: \[2\]'):
        reopen(tmp_path)
    dataset = reopen(tmp_path, sweeps={'without': [2]})
    assert len(dataset) == 3
    assert dataset[1].points[0, 0] == 8
    assert reopen(tmp_path, sweeps=[2])[0].points[0, 0] == 99


def test_of_images_with_one_stamp_the_first_is_used_and_a_warning_told(tmp_path, caplog):
    second = picture(START + 40 * MS, pixels=np.zeros((48, 64, 3), np.uint8))
    write_bag(tmp_path / 'bag', [*drive(2), (second[0], second[1] + MS, second[2])])
    assert reopen(tmp_path)[0].images[0].image.any()
    assert '1 of 3 images of camera_front have the stamp of another one' in caplog.text


def test_a_message_is_read_without_the_bag_before_it(tmp_path, monkeypatch):
    write_bag(tmp_path / 'bag', drive(40))
    counted = []
    original = os.pread
    monkeypatch.setattr(os, 'pread', lambda *args: counted.append(args[1]) or original(*args))
    with open_bag(tmp_path / 'bag') as bag:
        entries = bag.index('/camera_front/image/compressed')
        size = sum(file.stat().st_size for file in (tmp_path / 'bag').iterdir())
        assert sum(counted) < 0.1 * size
        counted.clear()
        message = bag.read(entries[-1])
        assert len(message.data) < sum(counted) < len(message.data) + 300


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@real_kitti
def test_real_kitti_sweeps_are_the_same_from_any_bag(tmp_path, storage):
    values = {'path': KITTI, 'label_maps': f'{KITTI}/label_maps', 'sweeps': [0, 9, 23]}
    original = KittiRaw(KittiRawSettings(format='kitti_raw', **values), DATA)
    settings = RosbagSettings(**write_drive(original, tmp_path / 'mcap'))
    root = tmp_path / 'mcap'
    if storage == 'sqlite3':
        convert(root / 'bag', tmp_path / 'sqlite3' / 'bag')
        shutil.move(root / 'label_maps', tmp_path / 'sqlite3' / 'label_maps')
        root = tmp_path / 'sqlite3'
    copy = Rosbag(settings, root)
    assert len(copy) == 3
    for sample, expected in zip(copy, original):
        np.testing.assert_array_equal(sample.points, expected.points)
        image, source = sample.images[0], expected.images[0]
        pixels, true = (project(sample.points, i) for i in (image, source))
        assert len(true) > 10_000
        assert np.abs(pixels - true).max() < 0.1
        np.testing.assert_array_equal(image.image, source.image)
        np.testing.assert_array_equal(image.class_map, source.class_map)


def project(points, image):
    """Pixels of the points in front of the camera that fall into the image."""
    seen = apply(image.camera_from_lidar, points[:, :3]) @ image.intrinsics.T
    seen = seen[seen[:, 2] > 1]
    pixels = seen[:, :2] / seen[:, 2:]
    return pixels[(np.abs(pixels - 400) < 1500).all(axis=1)]


def convert(source, target):
    """A bag as sqlite3."""
    target.parent.mkdir()
    with open_bag(source) as bag:
        messages = [
            (topic, log_ns, message)
            for topic in bag.topics
            for log_ns, message in bag.messages(topic)
        ]
    for _, _, message in messages:
        message.__msgtype__ = type(message).__msgtype__
    write_bag(target, sorted(messages, key=lambda m: m[1]), StoragePlugin.SQLITE3)


def test_tf_and_labels_of_one_bag_serve_the_clouds_of_another(tmp_path):
    write_bag(tmp_path / 'bag', drive(2))
    clouds = [sweep(START), sweep(START + 100 * MS)]
    write_bag(tmp_path / 'clouds', clouds)
    write_bag(tmp_path / 'rest', without(drive(2), '/lidar/points'))
    assert {message[0] for message in (labels(START), tf(START), info())}.isdisjoint(
        {message[0] for message in clouds}
    )
    assert_same(reopen(tmp_path, path=['clouds', 'rest']), reopen(tmp_path))


def test_a_bag_that_does_not_define_its_types_is_read_with_those_of_ros(tmp_path):
    write_bag(tmp_path / 'bag', drive(2))
    write_bag(tmp_path / 'bare', drive(2), StoragePlugin.SQLITE3)
    database = sqlite3.connect(tmp_path / 'bare' / 'bare.db3')
    gone = "topic_type NOT LIKE 'sensor_msgs/msg/PointCloud2'"
    database.execute(f'DELETE FROM message_definitions WHERE {gone}')
    database.commit()
    database.close()
    assert_same(reopen(tmp_path, path='bare'), reopen(tmp_path))


def test_a_program_may_end_without_closing_the_bag(tmp_path):
    write_bag(tmp_path / 'bag', drive(1))
    program = (
        'from pathlib import Path\n'
        'from trainer.datasets.rosbag import Rosbag\n'
        'from trainer.datasets.rosbag_settings import RosbagSettings\n'
        "settings = RosbagSettings(format='rosbag', path='bag', intensity_max=100)\n"
        f'drive = Rosbag(settings, Path({str(tmp_path)!r}))\n'
        'sample = drive[0]\n'
    )
    command = [sys.executable, '-c', program]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stderr == ''
