# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""TensorRT takes every exported graph: TensorRT for RTX parses and builds it, no GPU needed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from tiny_clip import TINY_TEXT, tiny_clip
from torch import nn

from reldistill_ros.backends.engine_files import EngineKey, read_engine
from reldistill_ros.backends.engine_sizes import SweepSizes, engine_sizes, input_shapes
from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.tensorrt_build import build_engine
from reldistill_ros.backends.tensorrt_job import Job
from reldistill_ros.backends.tensorrt_library import open_library
from reldistill_ros.cameras.image_encoder import ImageEncoderSettings
from reldistill_ros.core.bundle import load_bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student, folded_copy
from trainer.check_tensorrt import (
    build_graph,
    fixed_shapes,
    report,
    text_shapes,
    without_scaling,
)
from trainer.export import export
from trainer.half_graph import halve_graph
from trainer.image_graph import torch_graph, with_scaling
from trainer.int8_graph import write_int8_graph
from trainer.onnx_graph import write_onnx
from trainer.settings import CHECKOUT
from trainer.teachers.maskclip import maskclip_features
from trainer.text_graph import causal_tower, write_text_graph

trt = pytest.importorskip('tensorrt_rtx', reason='needs TensorRT: pip install tensorrt-rtx-cu13')

NUM_FEATURES = 6
# voxels of 32 beams at 0.1 m
SEEN = SweepSizes(
    num_sweeps=1,
    small=(10_000, 6_000, 3_300, 1_500, 600),
    typical=(22_000, 13_400, 7_300, 3_300, 1_300),
    large=(30_000, 19_000, 10_000, 4_500, 1_800),
    largest=(60_000, 36_000, 20_000, 9_000, 3_600),
)
SIZES = engine_sizes(SEEN)


@pytest.fixture(scope='module')
def library():
    return open_library(('tensorrt_rtx',))


@pytest.fixture(scope='module')
def student():
    return folded_copy(Student(StudentSettings(network='small', embedding_size=32), NUM_FEATURES))


@pytest.fixture(scope='module')
def graphs(student, tmp_path_factory):
    """The student's graph by precision."""
    path = tmp_path_factory.mktemp('graph') / 'student.onnx'
    write_onnx(student.backbone, NUM_FEATURES, path)
    half = halve_graph(onnx.load(path)).SerializeToString()
    coords = np.unique(np.random.default_rng(0).integers(0, 9, (300, 3)), axis=0).astype(np.int32)
    feats = np.random.default_rng(1).random((len(coords), NUM_FEATURES), np.float32)
    feeds = {'feats': feats, **table_inputs(build_kernel_maps(coords))}
    write_int8_graph(path, [feeds], path.with_name('int8.onnx'))
    int8 = path.with_name('int8.onnx').read_bytes()
    return {'float32': path.read_bytes(), 'float16': half, 'int8': int8}


def job_for(graph, precision='float32', compute_capabilities=('8.6', '8.9')):
    key = EngineKey(
        model=hashlib.sha256(graph).hexdigest(),
        library='tensorrt_rtx',
        version=trt.__version__,
        gpu='',
        compute_capabilities=compute_capabilities,
        precision=precision,
        profile=SIZES.profile,
    )
    return Job(graph, Path('student.onnx'), NUM_FEATURES, SIZES, key)


def inputs_of(network):
    return [network.get_input(i) for i in range(network.num_inputs)]


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


@pytest.mark.parametrize('precision', ['float32', 'float16', 'int8'])
def test_the_parser_takes_the_graph_with_the_inputs_of_the_tables(library, graphs, precision):
    builder = trt.Builder(library.logger)
    network = library.parse(builder, graphs[precision], 'student.onnx')
    feats, *tables = inputs_of(network)
    assert (feats.name, tuple(feats.shape), feats.dtype) == ('feats', (-1, 6), trt.float32)
    expected = table_inputs(build_kernel_maps(np.zeros((1, 3), np.int32)))
    assert [table.name for table in tables] == list(expected)
    for table in tables:
        *fixed, size = table.shape
        assert (*fixed,) == expected[table.name].shape[:-1]
        assert (size, table.dtype) == (-1, trt.int32)
    output = network.get_output(0)
    assert (network.num_outputs, output.name, output.dtype) == (1, 'features', trt.float32)


@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_the_network_computes_in_the_precision_of_the_graph(library, graphs, precision):
    builder = trt.Builder(library.logger)
    network = library.parse(builder, graphs[precision], 'student.onnx')
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    products = [layer for layer in layers if layer.type == trt.LayerType.MATRIX_MULTIPLY]
    assert len(products) == 32
    assert {layer.get_output(0).dtype for layer in products} == {getattr(trt, precision)}


def test_engines_are_built_without_a_gpu_and_smaller_in_fewer_bits(library, graphs, student):
    engines = {p: build_engine(library, job_for(graphs[p], p)) for p in graphs}
    weights = sum(w.numel() for w in student.backbone.parameters())
    assert len(engines['float32']) > 4 * weights
    assert 2 * weights < len(engines['float16']) < len(engines['float32']) - weights
    assert weights < len(engines['int8']) < len(engines['float16'])


def test_a_gpu_that_the_library_does_not_know_is_refused(library, graphs):
    with pytest.raises(InputError, match=r'(?s)does not know this GPU.*SM90'):
        build_engine(library, job_for(graphs['float32'], compute_capabilities=('9.0',)))


def test_an_engine_is_refused_for_sizes_that_do_not_fit_together(library, graphs, monkeypatch):
    def mixed_up(sizes, num_features):  # a level's features and its tables differ in length
        return {**input_shapes(sizes, num_features), 'feats': (sizes[0] + 100, num_features)}

    monkeypatch.setattr('reldistill_ros.backends.tensorrt_build.input_shapes', mixed_up)
    with pytest.raises(InputError, match='cannot build the graph'):
        build_engine(library, job_for(graphs['float32']))


def test_a_graph_that_scatters_is_reported_with_the_node(library):
    job = replace(job_for(scatter_add_graph()), where=Path('scatter.onnx'))
    with pytest.raises(InputError, match=r'(?s)does not take the graph.*scatter\.onnx.*ScatterND'):
        build_engine(library, job)


class DenseTower(nn.Module):
    """Features of the patches of normalised pixels."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def forward(self, pixels):
        return maskclip_features(self.visual, pixels)


def image_settings(clip, size):
    return ImageEncoderSettings(
        name='tiny',
        input_size=size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        output='features',
        channels=clip.embedding_size,
    )


def test_text_and_image_encoders_are_built_in_both_precisions(library, tmp_path):
    clip = tiny_clip(tmp_path, 'tiny-tensorrt', TINY_TEXT)
    text = tmp_path / 'text_encoder.onnx'
    write_text_graph(causal_tower(clip.model), text, context_length=77)
    size = (32, 48)
    tower = torch_graph(DenseTower(clip.model.visual).eval(), torch.zeros(1, 3, *size))
    image = with_scaling(tower, image_settings(clip, size)).SerializeToString()
    with pytest.raises(InputError, match='Antialiasing is not supported'):
        library.parse(trt.Builder(library.logger), image, 'image.onnx')
    for name, graph, shapes in (
        ('text', text.read_bytes(), text_shapes),
        ('image', without_scaling(image), fixed_shapes),
    ):
        half = halve_graph(onnx.load_from_string(graph)).SerializeToString()
        sizes = [build_graph(library, name, g, shapes).megabytes for g in (graph, half)]
        assert 0 < sizes[1] < sizes[0]


@pytest.fixture(scope='module')
def bundle_path(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp('bundle') / 'tiny'
    export(trained, path, num_threads=1)
    return path


def test_a_bundle_is_checked_and_its_engine_built_by_command(bundle_path, tmp_path):
    line = report(bundle_path)
    assert line.startswith('TensorRT takes it: student.onnx ')
    assert 'student_float16.onnx' in line
    out = tmp_path / 'student.engine'
    command = [sys.executable, '-m', 'reldistill_ros.backends.tensorrt_build', bundle_path]
    build = [*command, '--compute-capability', '8.6', '8.9', '--out', out]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    key = read_engine(out).key
    assert (key.gpu, key.compute_capabilities) == ('', ('8.6', '8.9'))
    assert key.model == load_bundle(bundle_path).manifest.files['student_float16.onnx']


def test_without_a_gpu_the_command_asks_for_one_or_a_compute_capability(bundle_path):
    from reldistill_ros.backends.cuda_device import has_cuda_device

    if has_cuda_device():
        pytest.skip('this machine has a GPU')
    result = subprocess.run(
        [sys.executable, '-m', 'reldistill_ros.backends.tensorrt_build', bundle_path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert 'no GPU to build for' in result.stderr
    assert '--compute-capability 8.9' in result.stderr
