# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which engines the node tries, and in which precision."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from reldistill_ros.backends import cuda_device
from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.node import parameters
from reldistill_ros.node.parameters import NodeSettings, engines_of, in_engine


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a GPU."""

    def make(has_gpu):
        monkeypatch.setattr(parameters, 'has_cuda_device', lambda: has_gpu)

    return make


def test_tensorrt_is_the_first_of_the_ladder_where_there_is_a_gpu_and_absent_elsewhere(machine):
    machine(True)
    assert engines_of(NodeSettings(bundle='x')) == ('tensorrt', 'fused', 'onnx', 'torch')
    machine(False)
    assert engines_of(NodeSettings(bundle='x')) == ('fused', 'onnx', 'torch')


def test_an_engine_that_is_asked_for_is_the_only_one(machine):
    machine(False)
    assert engines_of(NodeSettings(bundle='x', backend='tensorrt')) == ('tensorrt',)


@pytest.mark.parametrize(
    ('engine', 'asked', 'expected'),
    [
        ('tensorrt', 'float16', 'float16'),
        ('tensorrt', 'int8', 'int8'),
        ('fused', 'float16', 'float32'),
        ('fused', 'int8', 'float32'),
        ('fused', 'bfloat16', 'bfloat16'),
        ('tensorrt', 'bfloat16', 'float32'),
        ('torch', 'float16', 'float32'),
    ],
)
def test_in_the_ladder_an_engine_without_the_precision_takes_float32(engine, asked, expected):
    settings = in_engine(NodeSettings(bundle='x', precision=asked), engine)
    assert (settings.backend, settings.precision) == (engine, expected)


def test_an_engine_that_is_asked_for_keeps_the_precision_that_is_asked_for():
    settings = NodeSettings(bundle='x', backend='fused', precision='float16')
    assert in_engine(settings, 'fused') == settings


def test_in_the_ladder_only_tensorrt_takes_the_engine_file():
    settings = NodeSettings(bundle='x', engine_file='a.engine')
    files = {e: in_engine(settings, e).engine_file for e in ('tensorrt', 'fused', 'torch')}
    assert files == {'tensorrt': 'a.engine', 'fused': '', 'torch': ''}
    asked = settings.model_copy(update={'backend': 'fused'})
    assert in_engine(asked, 'fused').engine_file == 'a.engine'  # which is refused with a reason


class Driver:
    """NVIDIA's driver library as far as it is asked."""

    def __init__(self, error, count):
        self._error, self._count = error, count

    def cuInit(self, flags):
        return self._error

    def cuDeviceGetCount(self, pointer):
        pointer._obj.value = self._count
        return 0

    def cuDeviceGet(self, pointer, number):
        pointer._obj.value = 7
        return 0

    def cuDeviceGetAttribute(self, pointer, attribute, device):
        assert device.value == 7
        pointer._obj.value = {75: 8, 76: 9}[attribute]
        return 0


@pytest.mark.parametrize(
    ('driver', 'expected'),
    [
        (None, False),
        (Driver(0, 1), True),
        (Driver(0, 0), False),
        (Driver(100, 0), False),  # CUDA_ERROR_NO_DEVICE
    ],
)
def test_a_gpu_is_there_when_the_driver_sees_one(monkeypatch, driver, expected):
    def load(name):
        if driver is None:
            raise OSError(f'{name}: cannot open shared object file')
        return driver

    monkeypatch.setattr(cuda_device.ctypes, 'CDLL', load)
    has_cuda_device.cache_clear()
    assert has_cuda_device() is expected
    monkeypatch.undo()
    has_cuda_device.cache_clear()
    assert ctypes.CDLL is not load


@pytest.mark.parametrize(('error', 'expected'), [(0, '8.9'), (100, '')])
def test_the_driver_tells_the_compute_capability(monkeypatch, error, expected):
    monkeypatch.setattr(cuda_device.ctypes, 'CDLL', lambda _: Driver(error, 1))
    has_cuda_device.cache_clear()
    assert cuda_device.compute_capability() == expected
    has_cuda_device.cache_clear()


def test_asking_for_a_gpu_imports_nothing_heavy():
    script = (
        'import sys; from reldistill_ros.node.parameters import NodeSettings, engines_of; '
        "engines_of(NodeSettings(bundle='x')); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {'torch', 'tensorrt', 'tensorrt_rtx', 'cuda.bindings'} & set(loaded)
