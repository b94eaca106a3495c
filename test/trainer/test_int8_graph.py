# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The graph in int8: what is quantised, on what it is calibrated, and what it changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from reldistill_ros.backends.tensorrt_job import GRAPHS
from reldistill_ros.core.bundle import STUDENT_INT8_ONNX, load_bundle
from reldistill_ros.core.errors import InputError
from trainer.export import export
from trainer.export_parity import parity_sweeps
from trainer.export_parts import Parts
from trainer.export_table import export_table
from trainer.int8_graph import calibration_feeds

INT8 = Parts(text_encoder=False, int8=True)


@pytest.fixture(scope='module')
def bundle_path(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp('bundle') / 'int8'
    export(trained, path, num_threads=1, parts=INT8)
    return path


@pytest.fixture(scope='module')
def model(bundle_path):
    return onnx.load(bundle_path / STUDENT_INT8_ONNX)


def constants(model):
    return {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}


def test_every_matrix_product_but_the_first_takes_two_quantised_inputs(model):
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    products = [node for node in model.graph.node if node.op_type == 'MatMul']
    kinds = [[makers.get(name) for name in node.input] for node in products]
    assert len(kinds) > 30
    assert 'DequantizeLinear' not in kinds[0]
    assert kinds[1:] == [['DequantizeLinear'] * 2] * (len(kinds) - 1)


def test_zero_points_are_zero_and_only_weights_have_a_scale_for_each_channel(model):
    known = constants(model)
    pairs = [node for node in model.graph.node if node.op_type == 'QuantizeLinear']
    assert len(pairs) > 60
    for node in pairs:
        values, scale, zero = node.input
        assert known[zero].dtype == np.int8
        assert not known[zero].any()
        assert (known[scale] > 0).all()
        assert known[scale].shape == (known[values].shape[1:] if values in known else ())
    # what a product gives is not quantised: biases and residuals are added in float32
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert 'MatMul' not in {makers.get(node.input[0]) for node in pairs}


def test_its_labels_are_nearly_those_of_torch_and_the_manifest_and_the_table_say_so(bundle_path):
    manifest = load_bundle(bundle_path).manifest
    parity = manifest.parity['onnx int8']
    assert 0.9 < parity['label_agreement'] <= 1
    assert 1e-4 < parity['max_diff'] < 1
    table = export_table(bundle_path, manifest.parity, INT8)
    changed = f'{1 - parity["label_agreement"]:.2%}'
    (line,) = [line for line in table.splitlines() if STUDENT_INT8_ONNX in line]
    assert f'changes {changed} of the labels' in line


def test_what_it_is_calibrated_on_is_not_what_it_is_judged_on(trained):
    drives = trained.run.open_training()
    judged = [parity_sweeps(drive) for drive in drives]
    feeds = list(calibration_feeds(trained.run, drives, judged))
    assert len(feeds) == len(drives[0]) - len(judged[0])
    others = calibration_feeds(trained.run, drives, [range(1, len(drives[0]))])
    (first,) = [feed['feats'] for feed in others]  # sweep 0, which is judged
    assert not any(np.array_equal(feed['feats'], first) for feed in feeds)


def test_drives_too_short_to_be_judged_apart_are_refused(trained):
    drives = trained.run.open_training()
    with pytest.raises(InputError, match=r'(?s)sweeps to calibrate on.*without --int8'):
        list(calibration_feeds(trained.run, drives, [range(len(drives[0]))]))


def test_without_the_option_there_is_none(trained, tmp_path):
    export(trained, tmp_path / 'bundle', num_threads=1, parts=Parts(text_encoder=False))
    assert not load_bundle(tmp_path / 'bundle').holds(GRAPHS['int8'])
