# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""TensorRT takes the exported graph: TensorRT-RTX parses and builds it, no GPU needed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.core.kernel_maps import NUM_LEVELS, build_kernel_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student, folded_copy
from trainer.onnx_graph import write_onnx

trt = pytest.importorskip('tensorrt_rtx', reason='needs TensorRT: pip install tensorrt-rtx-cu13')

NUM_FEATURES = 6
MIN_VOXELS, TYPICAL_VOXELS, MAX_VOXELS = 1_000, 22_000, 120_000

# Voxels of each level for one of the finest: a parent has at most 8 children. Typical are those
# of 32 beams at 0.1 m, and the most twice as many.
MIN_SHARES = [8.0**-level for level in range(NUM_LEVELS)]
TYPICAL_SHARES = [1.0, 0.61, 0.33, 0.15, 0.06]
MAX_SHARES = [min(1.0, 2 * share) for share in TYPICAL_SHARES]

LOGGER = trt.Logger(trt.Logger.ERROR)


@pytest.fixture(scope='module')
def student():
    return folded_copy(Student(StudentSettings(network='small', embedding_size=32), NUM_FEATURES))


@pytest.fixture(scope='module')
def graph(student, tmp_path_factory):
    path = tmp_path_factory.mktemp('graph') / 'student.onnx'
    write_onnx(student.backbone, NUM_FEATURES, path)
    return path.read_bytes()


def parse(graph):
    """Builder, network, and what the parser has to say against the graph."""
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, LOGGER)
    parsed = parser.parse(graph)
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert parsed == (not errors)
    return builder, network, errors


def inputs_of(network):
    return [network.get_input(i) for i in range(network.num_inputs)]


def shape_at(tensor, num_voxels, shares):
    """The shape of an input at a number of voxels of the finest level."""
    kind = tensor.name.rstrip('0123456789')
    level = int(tensor.name[len(kind) :] or 0) + (kind == 'down')
    size = max(1, int(num_voxels * shares[level]))
    return tuple(size if dim == -1 else dim for dim in tensor.shape)


def one_profile(builder, network):
    """A configuration with the sizes of the smallest, the typical and the largest sweep."""
    profile = builder.create_optimization_profile()
    for tensor in inputs_of(network):
        profile.set_shape(
            tensor.name,
            min=shape_at(tensor, MIN_VOXELS, MIN_SHARES),
            opt=shape_at(tensor, TYPICAL_VOXELS, TYPICAL_SHARES),
            max=shape_at(tensor, MAX_VOXELS, MAX_SHARES),
        )
    config = builder.create_builder_config()
    assert config.add_optimization_profile(profile) == 0
    return config


def scatter_add_graph():
    """Pairs that are added to their rows: the form that ONNX Runtime takes and TensorRT not."""
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ('x', TensorProto.FLOAT, ['voxels', 4]),
            ('rows', TensorProto.INT64, ['pairs', 1]),
            ('updates', TensorProto.FLOAT, ['pairs', 4]),
            ('y', TensorProto.FLOAT, ['voxels', 4]),
        )
    ]
    node = helper.make_node('ScatterND', ['x', 'rows', 'updates'], ['y'], reduction='add')
    model = helper.make_model(
        helper.make_graph([node], 'scatter', values[:3], values[3:]),
        opset_imports=[helper.make_opsetid('', 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def test_the_parser_takes_the_graph_with_the_inputs_of_the_tables(graph):
    _, network, errors = parse(graph)
    assert errors == []
    feats, *tables = inputs_of(network)
    assert (feats.name, tuple(feats.shape), feats.dtype) == ('feats', (-1, 6), trt.float32)
    expected = table_inputs(build_kernel_maps(np.zeros((1, 3), np.int32)))
    assert [table.name for table in tables] == list(expected)
    for table in tables:
        *fixed, size = table.shape
        assert (*fixed,) == expected[table.name].shape[:-1]
        assert (size, table.dtype) == (-1, trt.int32)


def test_an_engine_for_any_number_of_voxels_is_built_without_a_gpu(graph, student):
    builder, network, errors = parse(graph)
    assert errors == []
    engine = builder.build_serialized_network(network, one_profile(builder, network))
    assert engine is not None
    weights = student.backbone.parameters()
    assert engine.nbytes > sum(w.numel() * w.element_size() for w in weights)


def test_an_engine_is_refused_for_sizes_that_do_not_fit_together(graph):
    builder, network, _ = parse(graph)
    config = one_profile(builder, network)
    profile = builder.create_optimization_profile()
    for tensor in inputs_of(network):  # the tables of a level and its features differ in length
        size = 500 if tensor.name == 'feats' else 400
        shape = tuple(size if dim == -1 else dim for dim in tensor.shape)
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is None


def test_a_graph_that_scatters_is_reported_as_an_error():
    _, _, errors = parse(scatter_add_graph())
    assert len(errors) == 1
    assert 'ScatterND' in errors[0]
    assert 'reduction' in errors[0]
