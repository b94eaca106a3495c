# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A CUDA runtime without a GPU: its memory is the host's, its streams work at once.

Functions take and return what those of `cuda.bindings.runtime` do.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
from cuda.bindings import runtime as real


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorStreamCaptureInvalidated = 901


GOOD = (Status.cudaSuccess,)


class FakeCuda:
    """See the module; counts what it was asked for."""

    cudaHostAllocDefault = real.cudaHostAllocDefault
    cudaStreamNonBlocking = real.cudaStreamNonBlocking
    cudaMemcpyKind = real.cudaMemcpyKind
    cudaStreamCaptureMode = real.cudaStreamCaptureMode

    def __init__(self):
        self.memory = {}
        self.captured = None
        self.copies = []
        self.num_allocations = self.num_launches = 0

    def _allocate(self, num_bytes):
        buffer = ctypes.create_string_buffer(num_bytes + 256)
        address = -(-ctypes.addressof(buffer) // 256) * 256
        self.memory[address] = buffer
        self.num_allocations += 1
        return Status.cudaSuccess, address

    def cudaMalloc(self, num_bytes):
        return self._allocate(num_bytes)

    def cudaHostAlloc(self, num_bytes, flags):
        return self._allocate(num_bytes)

    def cudaFree(self, address):
        del self.memory[address]
        return GOOD

    cudaFreeHost = cudaFree

    def cudaMemGetInfo(self):
        return Status.cudaSuccess, 3 << 30, 4 << 30

    def cudaGetDeviceProperties(self, device):
        return Status.cudaSuccess, SimpleNamespace(name=b'Orin', major=8, minor=7)

    def cudaStreamCreateWithFlags(self, flags):
        return Status.cudaSuccess, real.cudaStream_t(17)

    def cudaStreamDestroy(self, stream):
        return GOOD

    def cudaStreamSynchronize(self, stream):
        return GOOD if self.captured is None else (Status.cudaErrorStreamCaptureInvalidated,)

    def submit(self, work):
        """Do work now, or note it down while a stream is captured."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def cudaMemcpyAsync(self, target, source, num_bytes, kind, stream):
        def copy():
            self.copies.append((kind, num_bytes))
            ctypes.memmove(target, source, num_bytes)

        self.submit(copy)
        return GOOD

    def cudaStreamBeginCapture(self, stream, mode):
        self.captured = []
        return GOOD

    def cudaStreamEndCapture(self, stream):
        work, self.captured = self.captured, None
        return Status.cudaSuccess, work

    def cudaGraphInstantiate(self, graph, flags):
        return Status.cudaSuccess, list(graph)

    def cudaGraphDestroy(self, graph):
        return GOOD

    def cudaGraphExecDestroy(self, executable):
        return GOOD

    def cudaGraphLaunch(self, executable, stream):
        self.num_launches += 1
        for work in executable:
            work()
        return GOOD


class FakeEngine:
    """An engine whose network runs in ONNX Runtime, on the fake GPU's memory."""

    def __init__(self, cuda, session):
        self.cuda, self.session = cuda, session
        self.num_contexts = self.num_kept = 0
        self.records = True

    @property
    def output(self):
        return self.session.get_outputs()[0].name

    @property
    def width(self):
        return self.session.get_outputs()[0].shape[1]

    def new_context(self, shapes, addresses):
        self.num_contexts += 1
        return SimpleNamespace(shapes=shapes, addresses=addresses)

    def enqueue(self, context, stream):
        assert stream.handle == 17
        self.cuda.submit(lambda: self._run(context))

    def can_record(self, context, stream):
        return self.records

    def keep_compiled(self):
        self.num_kept += 1

    def _run(self, context):
        (output,) = self.session.get_outputs()
        inputs = {}
        for entry in self.session.get_inputs():
            dtype = ctypes.c_float if entry.type == 'tensor(float)' else ctypes.c_int32
            inputs[entry.name] = self._array(
                context, entry.name, context.shapes[entry.name], dtype
            )
        (features,) = self.session.run(None, inputs)
        self._array(context, output.name, features.shape, ctypes.c_float)[:] = features

    def _array(self, context, name, shape, dtype):
        address = context.addresses[name]
        assert any(a <= address < a + len(b) for a, b in self.cuda.memory.items())
        pointer = ctypes.cast(address, ctypes.POINTER(dtype))
        return np.ctypeslib.as_array(pointer, shape)
