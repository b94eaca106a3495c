# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The whole way with a real (untrained) bundle: bag, node process, DDS, report."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')
pytest.importorskip('onnxscript', reason='the training extra is not installed')

from height_bag import write_bag
from tiny_bundle import write_bundle

from reldistill_ros.core.settings import InputSettings
from reldistill_ros.labeller import Labeller
from reldistill_ros.node.parameters import choose_intensity_max
from reldistill_ros.replay import replay


def test_labels_through_ros_are_those_of_the_labeller(tmp_path):
    # more than 512 KiB each
    bag = write_bag(tmp_path / 'bag', num_sweeps=3, num_points=40_000)
    bundle = write_bundle(tmp_path / 'bundle')
    out = tmp_path / 'out'
    replay.main([str(bag), '--bundle', str(bundle), '--out', str(out), '--rate', 'auto'])
    result = json.loads((out / 'replay.json').read_text())
    assert (result['frames_in'], result['frames_labelled']) == (3, 3)
    assert result['offline']['labels_equal'] == 1.0
    assert result['miou'] == result['offline']['miou']
    assert 0 < result['miou'] < 1
    assert (out / 'replay.png').exists()
    assert 'ready' in (out / 'node.log').read_text()


def test_a_student_that_does_not_see_the_intensity_needs_no_scale_and_no_intensity(tmp_path):
    blind = InputSettings(features=('offset', 'height', 'range'))
    bundle = write_bundle(tmp_path / 'bundle', blind, intensity_max=None)
    labeller = Labeller.from_bundle(bundle)
    choose_intensity_max(0.0, labeller.intensity_max)  # would raise
    points = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    with_intensity = labeller(points).class_ids
    points[::2, 3] = np.nan
    np.testing.assert_array_equal(labeller(points).class_ids, with_intensity)
    assert (with_intensity != 255).all()
