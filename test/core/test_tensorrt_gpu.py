# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""TensorRT on a real GPU: the same features as torch, from the first sweep on."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from reldistill_ros.backends.cuda_device import has_cuda_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_cuda_device(), reason='needs a CUDA device'),
]


@pytest.fixture(scope='module')
def library():
    from reldistill_ros.backends.cuda_runtime import describe_gpu
    from reldistill_ros.backends.tensorrt_library import open_library
    from reldistill_ros.core.errors import InputError

    pytest.importorskip('cuda.bindings', reason='needs cuda-bindings')
    try:
        library = open_library()
    except InputError as error:
        pytest.skip(str(error).partition('\n')[0])
    capability = describe_gpu()[1].replace('.', '')
    if library.is_rtx and f'SM{capability}' not in library.module.ComputeCapability.__members__:
        pytest.skip(f'TensorRT for RTX does not know SM{capability}')
    return library


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    from benchmark.gpu_bundle import write_bundle
    from reldistill_ros.core.bundle import load_bundle

    rng = np.random.default_rng(0)
    points = rng.uniform(-15, 15, (20_000, 4)).astype(np.float32)
    points[:, 2] = np.sin(points[:, 0]) + 0.1 * points[:, 2]
    path = tmp_path_factory.mktemp('gpu') / 'bundle'
    write_bundle(path, 'small', points)
    return load_bundle(path)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder))
        yield folder


def sweep(bundle, count, seed=0):
    from reldistill_ros.core.kernel_maps import build_kernel_maps

    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 40, (count, 3)), axis=0).astype(np.int32)
    size = bundle.manifest.inputs.num_features
    feats = rng.normal(size=(len(coords), size)).astype(np.float32)
    return feats, build_kernel_maps(coords)


@pytest.mark.parametrize(('precision', 'tolerance'), [('float32', 1e-4), ('float16', 2e-2)])
def test_features_are_those_of_torch(library, bundle, cache, precision, tolerance):
    from reldistill_ros.backends.backend import open_backend

    backend = open_backend(bundle, 'tensorrt', 1, precision)
    reference = open_backend(bundle, 'torch', 1)
    for seed, count in enumerate((1, 5000, 300, 15_000, 64, 5000)):
        feats, maps = sweep(bundle, count, seed)
        expected = reference(feats, maps)
        got = backend(feats, maps)
        np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


def test_the_engine_is_built_once_and_its_memory_given_back(library, bundle, cache, capsys):
    from reldistill_ros.backends.cuda_runtime import free_memory
    from reldistill_ros.backends.tensorrt_backend import TensorrtBackend

    TensorrtBackend.from_bundle(bundle, 'float16')
    gc.collect()
    capsys.readouterr()
    before = free_memory()
    for _ in range(3):
        TensorrtBackend.from_bundle(bundle, 'float16')
        gc.collect()
    assert 'building' not in capsys.readouterr().err
    assert before - free_memory() < 64 << 20
    assert list((cache / 'reldistill' / 'engines').glob('*.engine'))


def test_an_engine_of_another_gpu_is_refused(library, bundle, cache, tmp_path):
    from reldistill_ros.backends.engine_files import read_engine, write_engine
    from reldistill_ros.backends.tensorrt_backend import TensorrtBackend
    from reldistill_ros.core.errors import InputError

    TensorrtBackend.from_bundle(bundle, 'float16')
    for path in (cache / 'reldistill' / 'engines').glob('*.engine'):
        file = read_engine(path)
        if file.key.precision == 'float16':
            foreign = file.key.model_copy(update={'gpu': 'another'})
            write_engine(tmp_path / 'a.engine', foreign, file.engine)
    with pytest.raises(InputError, match=r'(?s)built for something else.*tensorrt_build'):
        TensorrtBackend.from_bundle(bundle, 'float16', tmp_path / 'a.engine')


def test_the_labeller_gives_the_labels_of_the_cpu(library, bundle, cache):
    from reldistill_ros.labeller import Labeller

    rng = np.random.default_rng(1)
    points = rng.uniform(-15, 15, (10_000, 4)).astype(np.float32)
    points[:, 2] = np.sin(points[:, 0]) + 0.1 * points[:, 2]
    expected = Labeller.from_bundle(bundle.path, 'fused', 1)(points).class_ids
    got = Labeller.from_bundle(bundle.path, 'tensorrt', 1, 'float16')(points).class_ids
    assert (got == expected).mean() > 0.995
