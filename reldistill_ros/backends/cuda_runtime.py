# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The few calls of the CUDA runtime that an engine needs, without torch.

Thin on purpose: memory, one stream, and a recorded sequence of work. Every object frees what it
holds when it is no longer used.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra

EXTRA = 'tensorrt'


class CudaError(RuntimeError):
    """A call of the CUDA runtime failed; says which and how."""


def runtime() -> Any:
    """The bindings of the CUDA runtime.

    Raises:
        InputError: the package cuda-bindings is not installed.
    """
    import_extra('cuda', EXTRA)
    return import_extra('cuda.bindings.runtime', EXTRA)


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime; returns its one result, if it has one.

    Raises:
        CudaError: it did not succeed.
    """
    status, *results = getattr(runtime(), name)(*arguments)
    if int(status) != 0:
        raise CudaError(f'{name}: {status.name}')
    return results[0] if results else None


def describe_gpu() -> tuple[str, str]:
    """Name and compute capability of the first GPU, as `NVIDIA H200` and `9.0`."""
    properties = call('cudaGetDeviceProperties', 0)
    name = properties.name.decode().rstrip('\0')
    return name, f'{properties.major}.{properties.minor}'


def free_memory() -> int:
    """Bytes of GPU memory that nobody has taken."""
    status, free, _ = runtime().cudaMemGetInfo()
    if int(status) != 0:
        raise CudaError(f'cudaMemGetInfo: {status.name}')
    return int(free)


class DeviceMemory:
    """Memory of the GPU.

    Args:
        num_bytes: its size.

    Attributes:
        address: where it begins, a multiple of 256.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.address = int(call('cudaMalloc', max(num_bytes, 1)))
        weakref.finalize(self, runtime().cudaFree, self.address)


class PinnedMemory:
    """Memory of the host that the GPU copies from and to without help of the CPU.

    Args:
        num_bytes: its size.

    Attributes:
        address: where it begins.
        values: the same as an array (num_bytes,), zeros at first; keeps the memory alive.
    """

    def __init__(self, num_bytes: int) -> None:
        flags = runtime().cudaHostAllocDefault
        self.address = int(call('cudaHostAlloc', max(num_bytes, 1), flags))
        content = (ctypes.c_uint8 * num_bytes).from_address(self.address)
        weakref.finalize(content, runtime().cudaFreeHost, self.address)
        self.values: NDArray[np.uint8] = np.ctypeslib.as_array(content)
        self.values[:] = 0


class Stream:
    """A queue of work for the GPU.

    Attributes:
        handle: its address, as TensorRT takes it.
    """

    def __init__(self) -> None:
        self._stream = call('cudaStreamCreateWithFlags', runtime().cudaStreamNonBlocking)
        self.handle = int(self._stream)
        weakref.finalize(self, runtime().cudaStreamDestroy, self._stream)

    def copy_in(self, target: DeviceMemory, source: PinnedMemory, num_bytes: int) -> None:
        """Copy to the GPU, in its turn."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(target.address, source.address, num_bytes, kind)

    def copy_out(self, target: PinnedMemory, source: DeviceMemory, num_bytes: int) -> None:
        """Copy from the GPU, in its turn."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.address, source.address, num_bytes, kind)

    def _copy(self, target: int, source: int, num_bytes: int, kind: Any) -> None:
        call('cudaMemcpyAsync', target, source, num_bytes, kind, self._stream)

    def wait(self) -> None:
        """Wait until all of it is done."""
        call('cudaStreamSynchronize', self._stream)

    def record(self, work: Callable[[], None]) -> Recording:
        """Record what some work puts into this stream instead of doing it."""
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call('cudaStreamBeginCapture', self._stream, mode)
        try:
            work()
        finally:  # also leaves the capture where the work failed
            graph = call('cudaStreamEndCapture', self._stream)
        return Recording(graph, self._stream)


class Recording:
    """Work that is handed to the GPU in one piece: a CUDA graph.

    Args:
        graph: what was captured; taken over.
        stream: where it runs.
    """

    def __init__(self, graph: Any, stream: Any) -> None:
        self._stream = stream
        self._executable = call('cudaGraphInstantiate', graph, 0)
        weakref.finalize(self, runtime().cudaGraphExecDestroy, self._executable)
        call('cudaGraphDestroy', graph)

    def replay(self) -> None:
        """Put the work into its stream."""
        call('cudaGraphLaunch', self._executable, self._stream)
