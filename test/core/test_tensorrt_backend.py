# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The backend for the GPU, on a GPU that is none: buffers, sizes, recordings and errors."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from random_student import NUM_FEATURES, make_student

from reldistill_ros.backends import cuda_runtime, tensorrt_backend, tensorrt_library
from reldistill_ros.backends.backend import open_backend
from reldistill_ros.backends.cuda_runtime import CudaError, DeviceMemory, PinnedMemory, Stream
from reldistill_ros.backends.engine_files import write_engine
from reldistill_ros.backends.engine_sizes import EngineSizes
from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.tensorrt_backend import TensorrtBackend
from reldistill_ros.backends.tensorrt_build import rebuild_command
from reldistill_ros.backends.tensorrt_job import Job, engine_key, target
from reldistill_ros.backends.tensorrt_library import Library
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.student import folded_copy
from trainer.onnx_graph import write_onnx

pytest.importorskip('cuda.bindings', reason='needs cuda-bindings')
from cuda.bindings.runtime import cudaError_t
from fake_cuda import FakeCuda, FakeEngine

SIZES = EngineSizes(((64,) * 5, (128,) * 5, (320, 320, 256, 192, 128)), 1)


@pytest.fixture(scope='module')
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp('graph') / 'student.onnx'
    write_onnx(folded_copy(make_student()).backbone, NUM_FEATURES, path)
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(cuda_runtime, 'runtime', lambda: fake)
    return fake


@pytest.fixture
def engine(cuda, session):
    return FakeEngine(cuda, session)


def sweep(count, seed=0):
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 12, (count, 3)), axis=0).astype(np.int32)[:count]
    feats = rng.normal(size=(len(coords), NUM_FEATURES)).astype(np.float32)
    return feats, build_kernel_maps(coords)


def test_sweeps_of_changing_size_give_the_features_of_the_graph(cuda, engine, session):
    backend = TensorrtBackend(engine, SIZES, NUM_FEATURES)
    for seed, count in enumerate((1, 300, 40, 64, 65, 300, 2, 128)):
        feats, maps = sweep(count, seed)
        (expected,) = session.run(None, {'feats': feats, **table_inputs(maps)})
        got = backend(feats, maps)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


def test_everything_is_set_up_and_recorded_before_the_first_sweep(cuda, engine):
    backend = TensorrtBackend(engine, SIZES, NUM_FEATURES)
    assert engine.num_contexts == len(SIZES.buckets)
    assert engine.num_kept == 1
    allocations, cuda.copies = cuda.num_allocations, []
    for count in (40, 300):
        backend(*sweep(count))
    assert cuda.num_allocations == allocations
    assert cuda.num_launches == 2
    # one copy in and one out, of the size of the bucket
    kinds = [kind for kind, _ in cuda.copies]
    assert kinds == 2 * [
        cuda.cudaMemcpyKind.cudaMemcpyHostToDevice,
        cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost,
    ]
    assert cuda.copies[1][1] == 64 * backend(*sweep(40)).shape[1] * 4
    assert cuda.copies[0][1] < cuda.copies[2][1]


def test_an_engine_that_cannot_be_recorded_gives_the_same(cuda, engine):
    feats, maps = sweep(50)
    expected = TensorrtBackend(engine, SIZES, NUM_FEATURES)(feats, maps).copy()
    launches, engine.records = cuda.num_launches, False
    got = TensorrtBackend(engine, SIZES, NUM_FEATURES)(feats, maps)
    np.testing.assert_array_equal(got, expected)
    assert cuda.num_launches == launches


def test_a_sweep_that_is_too_large_is_refused_and_the_next_one_is_labelled(engine, session):
    backend = TensorrtBackend(engine, SIZES, NUM_FEATURES)
    with pytest.raises(InputError, match=r'(?s)more voxels.*\(320, 320, 256, 192, 128\)'):
        backend(*sweep(900))
    feats, maps = sweep(50)
    (expected,) = session.run(None, {'feats': feats, **table_inputs(maps)})
    np.testing.assert_allclose(backend(feats, maps), expected, atol=1e-5 * np.abs(expected).max())


def test_features_that_do_not_fit_the_maps_are_refused(engine):
    backend = TensorrtBackend(engine, SIZES, NUM_FEATURES)
    feats, maps = sweep(50)
    with pytest.raises(InputError, match='do not fit the maps'):
        backend(feats[:-1], maps)
    with pytest.raises(InputError, match='do not fit the maps'):
        backend(feats[:, 1:].copy(), maps)


def test_all_memory_is_given_back_but_not_under_the_last_features(cuda, engine):
    backend = TensorrtBackend(engine, SIZES, NUM_FEATURES)
    features = backend(*sweep(50))
    expected = features.copy()
    del backend
    gc.collect()
    assert len(cuda.memory) == 1
    np.testing.assert_array_equal(features, expected)
    del features
    gc.collect()
    assert not cuda.memory


def test_pinned_memory_begins_as_zeros_and_is_what_the_gpu_copies(cuda):
    source, target, device = PinnedMemory(1000), PinnedMemory(1000), DeviceMemory(1000)
    assert not source.values.any()
    source.values[:] = np.arange(1000) % 251
    stream = Stream()
    stream.copy_in(device, source, 1000)
    stream.copy_out(target, device, 600)
    stream.wait()
    np.testing.assert_array_equal(target.values[:600], source.values[:600])
    assert not target.values[600:].any()


def test_what_fails_while_it_is_recorded_ends_the_recording(cuda):
    stream = Stream()

    def fails():
        raise RuntimeError('no such kernel')

    with pytest.raises(RuntimeError, match='no such kernel'):
        stream.record(fails)
    stream.wait()


def test_a_failed_call_names_itself_and_the_reason(cuda, monkeypatch):
    out_of_memory = cudaError_t.cudaErrorMemoryAllocation
    monkeypatch.setattr(cuda, 'cudaMalloc', lambda size: (out_of_memory, None))
    with pytest.raises(CudaError, match='cudaMalloc: cudaErrorMemoryAllocation'):
        DeviceMemory(1 << 40)


def test_the_real_bindings_report_that_there_is_no_gpu():
    if tensorrt_backend.has_cuda_device():
        pytest.skip('this machine has a GPU')
    with pytest.raises(CudaError, match='cudaMalloc: cudaError'):
        DeviceMemory(10)
    with pytest.raises(CudaError, match='cudaGetDeviceProperties'):
        cuda_runtime.describe_gpu()


def test_the_gpu_is_described_by_name_and_compute_capability(cuda):
    assert cuda_runtime.describe_gpu() == ('Orin', '8.7')


def test_without_a_gpu_the_backend_says_so_and_names_another(monkeypatch):
    monkeypatch.setattr(tensorrt_backend, 'has_cuda_device', lambda: False)
    with pytest.raises(InputError, match=r'(?s)needs a GPU.*backend fused'):
        open_backend(None, 'tensorrt', 1, 'float16')


@pytest.fixture
def orin(cuda, monkeypatch, tmp_path):
    """A machine for which an engine is to be built: its job."""
    library = Library('tensorrt', SimpleNamespace(__version__='10.3.0'), None)
    key = engine_key(library, b'graph', 'float16', SIZES, target(library))
    job = Job(b'graph', tmp_path, NUM_FEATURES, SIZES, key)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(tensorrt_backend, 'has_cuda_device', lambda: True)
    monkeypatch.setattr(tensorrt_backend, 'open_library', lambda: library)
    monkeypatch.setattr(tensorrt_backend, 'bundle_job', lambda *_: job)
    return job


def test_an_engine_file_for_another_gpu_is_refused_with_the_command(orin, tmp_path):
    file = tmp_path / 'a.engine'
    write_engine(file, orin.key.model_copy(update={'gpu': 'another'}), b'engine')
    bundle = SimpleNamespace(path=tmp_path / 'bundle')
    with pytest.raises(InputError, match=r'(?s)built for something else.*gpu Orin') as caught:
        open_backend(bundle, 'tensorrt', 1, 'float16', engine_file=file)
    command = rebuild_command(bundle.path, 'float16', file)
    assert f'to do: build it anew: {command}' in str(caught.value)


def test_an_engine_file_that_serves_is_the_one_that_is_opened(orin, engine, monkeypatch, tmp_path):
    file = tmp_path / 'a.engine'
    write_engine(file, orin.key.model_copy(update={'gpu': ''}), b'built elsewhere')
    opened = []
    monkeypatch.setattr(
        tensorrt_backend, 'Engine', lambda _, content, __: opened.append(content) or engine
    )
    open_backend(SimpleNamespace(path=tmp_path), 'tensorrt', 1, 'float16', engine_file=file)
    assert opened == [b'built elsewhere']


def test_an_engine_without_files_refuses_one(tmp_path):
    with pytest.raises(InputError, match='fused takes no engine from a file'):
        open_backend(None, 'fused', 1, engine_file=tmp_path / 'a.engine')


def test_without_tensorrt_it_says_what_to_install(monkeypatch):
    for name in tensorrt_library.MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    tensorrt_library.open_library.cache_clear()
    with pytest.raises(InputError, match=r'(?s)TensorRT is not installed.*\[tensorrt\].*JetPack'):
        tensorrt_library.open_library()
    tensorrt_library.open_library.cache_clear()


def test_without_the_cuda_bindings_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cuda', None)
    with pytest.raises(InputError, match=r'(?s)cuda is not installed.*\[tensorrt\]'):
        cuda_runtime.runtime()
