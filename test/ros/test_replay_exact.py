# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What is measured without ROS holds for the node: the labels are the same, point by point."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')
pytest.importorskip('onnxscript', reason='the training extra is not installed')

from height_bag import points_of, write_bag
from tiny_bundle import write_bundle

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.labeller import Labeller
from reldistill_ros.replay import replay
from reldistill_ros.replay.bag import find_sweeps
from reldistill_ros.replay.schedule import Course

NUM_SWEEPS, NUM_POINTS = 4, 9000


def test_node_and_offline_replay_give_each_point_of_a_real_model_the_same_label(tmp_path):
    bag = write_bag(tmp_path / 'bag', num_sweeps=NUM_SWEEPS, num_points=NUM_POINTS)
    bundle = write_bundle(tmp_path / 'bundle')
    arguments = [bag, '--bundle', bundle, '--out', tmp_path / 'out', '--offline']
    replay.main([str(word) for word in arguments])
    lines = (tmp_path / 'out/sweeps.jsonl').read_text().splitlines()

    parameters = ['-p', f'bundle:={bundle}', '-p', 'backend:=fused', '-p', 'use_sim_time:=true']
    with open_bag(bag) as opened:
        sweeps = find_sweeps(opened, None, None, None)
        recording = replay.play(sweeps, parameters, Course(rate=None, loops=2), tmp_path)
    assert len(recording.answers) == 2 * NUM_SWEEPS

    labeller = Labeller.from_bundle(bundle)
    for stamp, answer in recording.answers.items():
        source = recording.sent[stamp].sweep.source
        points = points_of(source, NUM_POINTS) / np.float32([1, 1, 1, 255])
        expected = labeller(points).class_ids
        assert len(set(expected.tolist())) > 1
        np.testing.assert_array_equal(recording.labels[answer.labels], expected)
        # the probabilities too, to the last bit of their mean
        assert answer.mean_probability == json.loads(lines[source])['mean_probability']
