# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bag reader, without ROS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')

from height_bag import START, STORE, points_of, write_bag
from rosbags.rosbag2 import StoragePlugin, Writer

from reldistill_ros.bags.bag import POINT_CLOUD, open_bag
from reldistill_ros.core.errors import InputError
from reldistill_ros.point_cloud import read_points


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_every_message_is_found_by_its_stamp(tmp_path, storage):
    with open_bag(write_bag(tmp_path / 'bag', storage=storage)) as bag:
        entries = bag.index('/lidar/points')
        assert [entry.stamp_ns for entry in entries] == [
            START * 10**9 + index * 100_000_000 for index in range(6)
        ]
        for index in (5, 0, 3):
            points = read_points(bag.read(entries[index]), 1.0)
            np.testing.assert_array_equal(points, points_of(index))


def test_one_file_without_metadata_is_read_too(tmp_path):
    write_bag(tmp_path / 'bag')
    with open_bag(next((tmp_path / 'bag').glob('*.mcap'))) as bag:
        assert len(bag.index('/lidar/points')) == 6


def test_topics_are_found_by_type(tmp_path):
    with open_bag(write_bag(tmp_path / 'bag')) as bag:
        assert bag.topics_of(POINT_CLOUD) == ('/lidar/labels', '/lidar/points')
        assert bag.only_topic('std_msgs/msg/String') == '/lidar/label_info'
        with pytest.raises(InputError, match='several topics'):
            bag.only_topic(POINT_CLOUD)
        with pytest.raises(InputError, match='no such topic'):
            bag.only_topic(POINT_CLOUD, '/other')
        with pytest.raises(InputError, match='no such topic'):
            bag.index('/other')
        with pytest.raises(InputError, match='have no header'):
            bag.index('/lidar/label_info')


def test_a_bag_that_is_not_there_or_not_readable_is_told(tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    old = tmp_path / 'old.bag'
    old.write_bytes(b'#ROSBAG V2.0\n')
    text = tmp_path / 'text.mcap'
    text.write_text('not a bag')
    for path, words in (
        (tmp_path / 'none', 'does not exist'),
        (empty, 'holds no bag'),
        (old, 'cannot be read'),
        (text, 'cannot be read'),
    ):
        with pytest.raises(InputError, match=words), open_bag(path):
            pass


@pytest.mark.parametrize('num_bytes', [0, 1, 11])
def test_a_message_that_ends_before_its_stamp_is_told(tmp_path, num_bytes):
    with Writer(tmp_path / 'bag', version=9) as writer:
        connection = writer.add_connection('/lidar/points', POINT_CLOUD, typestore=STORE)
        writer.write(connection, 1, bytes(num_bytes))
    with open_bag(tmp_path / 'bag') as bag, pytest.raises(InputError, match='before its stamp'):
        bag.index('/lidar/points')


def test_a_cut_off_file_is_told(tmp_path):
    path = next(write_bag(tmp_path / 'bag').glob('*.mcap'))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match='cannot be read'), open_bag(tmp_path / 'bag') as bag:
        bag.index('/lidar/points')
