# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A recording labelled without ROS holds what the node would publish for it."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')

from fake_node import HeightLabeller
from height_bag import points_of, write_bag

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.core.errors import InputError
from reldistill_ros.point_cloud import read_fields
from trainer.label_bag import label_bag

TOPIC = '/lidar/points'
OUTPUT = '/segment_node/output/pointcloud/'


def label(tmp_path):
    with open_bag(write_bag(tmp_path / 'bag')) as bag:
        entries = bag.index(TOPIC)
        num = label_bag(bag, TOPIC, HeightLabeller(), 255.0, tmp_path / 'out')
    assert num == len(entries) == 6
    return entries


def test_every_cloud_comes_back_with_its_stamp_and_a_class_for_each_point(tmp_path):
    entries = label(tmp_path)
    with open_bag(tmp_path / 'out' / 'bag') as labelled:
        found = labelled.index(f'{OUTPUT}segmentation')
        assert [entry.stamp_ns for entry in found] == [entry.stamp_ns for entry in entries]
        for number, entry in enumerate(found):
            points, message = points_of(number), labelled.read(entry)
            classes = read_fields(message, ['class_id'])['class_id']
            np.testing.assert_array_equal(classes, HeightLabeller()(points).class_ids)
            assert message.header.frame_id
        assert len(labelled.index(f'{OUTPUT}visualization')) == len(entries)


def test_the_bag_says_what_its_classes_mean(tmp_path):
    label(tmp_path)
    with open_bag(tmp_path / 'out' / 'bag') as labelled:
        ((_, message),) = labelled.messages('/segment_node/label_info')
    names = HeightLabeller().vocabulary.class_names
    assert json.loads(message.data)['class_names'] == list(names)


def test_what_exists_is_not_overwritten(tmp_path):
    (tmp_path / 'out').mkdir()
    with pytest.raises(InputError, match='exists already'):
        label(tmp_path)
