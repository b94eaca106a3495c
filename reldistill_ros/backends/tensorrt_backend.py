# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student in TensorRT on the GPU, without torch.

Kernel maps are built on the CPU and copied with the features in one piece: 6 MB for 25 thousand
voxels. All memory is taken when the engine is opened. For each of the engine's sizes the copy to
the GPU, the network and the copy back are recorded once and then replayed as one piece of work.

Every sparse convolution of the graph is a gather and a matrix product: `Concat` (the row of
zeros), `Gather` with a table (K, V), `Reshape`, `MatMul` with the kernel (K C_in, C_out), `Add`,
`Relu`. A kernel of our own would take the place of exactly these nodes as one node
`reldistill::SparseConvolution` with the inputs features (V_in, C_in), table (K, V), kernel
(K, C_in, C_out), bias and residual; this file would stay as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.backends.cuda_runtime import DeviceMemory, PinnedMemory, Stream
from reldistill_ros.backends.engine_files import (
    EngineCache,
    read_fitting_engine,
    user_engine_folder,
)
from reldistill_ros.backends.engine_sizes import EngineSizes
from reldistill_ros.backends.padded_inputs import Layout
from reldistill_ros.backends.tensorrt_build import (
    find_engine,
    rebuild_command,
)
from reldistill_ros.backends.tensorrt_engine import Engine
from reldistill_ros.backends.tensorrt_job import bundle_job
from reldistill_ros.backends.tensorrt_library import open_library
from reldistill_ros.core.bundle import Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps


@dataclass(frozen=True, eq=False)
class _Bucket:
    """One size, ready to run.

    Attributes:
        layout: of the inputs.
        context: of TensorRT; what was recorded belongs to it.
        run: puts all work, from the host's inputs to the host's output, into the stream.
    """

    layout: Layout
    context: Any
    run: Callable[[], None]


class TensorrtBackend:
    """See `Backend`; what it returns is valid until its next call.

    Args:
        engine: open.
        sizes: that it was built for.
        num_features: input features of a voxel.
    """

    def __init__(self, engine: Engine, sizes: EngineSizes, num_features: int) -> None:
        self._engine, self._sizes, self._num_features = engine, sizes, num_features
        layouts = [Layout(bucket, num_features) for bucket in sizes.buckets]
        num_rows, self._width = sizes.buckets[-1][0], engine.width
        num_bytes = num_rows * self._width * np.dtype(np.float32).itemsize
        self._stream = Stream()
        self._inputs = PinnedMemory(layouts[-1].num_bytes)
        self._device_inputs = DeviceMemory(layouts[-1].num_bytes)
        self._device_output = DeviceMemory(num_bytes)
        self._output = PinnedMemory(num_bytes)
        self._features = self._output.values.view(np.float32).reshape(num_rows, self._width)
        self._lock = threading.Lock()
        self._buckets = [self._open_bucket(layout) for layout in layouts]
        engine.keep_compiled()

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, precision: str, engine_file: Path | None = None
    ) -> TensorrtBackend:
        """Open the engine of a bundle.

        Args:
            bundle: the model.
            precision: of weights and features.
            engine_file: an engine that must be the right one; None for the user's cache, and to
                build it where it is not there.

        Raises:
            InputError: no GPU, a package is missing, or the engine cannot be built or opened.
        """
        if not has_cuda_device():
            raise InputError(
                'the backend tensorrt needs a GPU, and this machine shows none',
                fix='check nvidia-smi (on a Jetson: tegrastats), or use the backend fused',
            )
        library, cache = open_library(), EngineCache(user_engine_folder())
        job = bundle_job(bundle, precision, library)
        if engine_file is None:
            content = find_engine(bundle, library, job, cache)
        else:
            rebuild = rebuild_command(bundle.path, precision, engine_file)
            content = read_fitting_engine(engine_file, job.key, rebuild)
        compiled = cache.folder / f'{job.key.digest[:32]}.compiled'
        return cls(Engine(library, content, compiled), job.sizes, job.num_features)

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        expected = (maps[0].num_voxels, self._num_features)
        if feats.shape != expected:
            raise InputError(
                'the features do not fit the maps or the student',
                expected=expected,
                got=feats.shape,
            )
        index = self._sizes.fit([level.num_voxels for level in maps])
        bucket = self._buckets[index]
        with self._lock:  # the buffers serve one sweep at a time
            bucket.layout.fill(self._inputs.values, feats, maps)
            bucket.run()
            self._stream.wait()
        return self._features[: len(feats)]

    def _open_bucket(self, layout: Layout) -> _Bucket:
        """Run one size once, which sets it up, and record it."""
        context = self._engine.new_context(
            {name: place.shape for name, place in layout.places.items()},
            {
                **{n: self._device_inputs.address + p.start for n, p in layout.places.items()},
                self._engine.output: self._device_output.address,
            },
        )

        def work() -> None:
            num_bytes = layout.sizes[0] * self._width * self._features.itemsize
            self._stream.copy_in(self._device_inputs, self._inputs, layout.num_bytes)
            self._engine.enqueue(context, self._stream)
            self._stream.copy_out(self._output, self._device_output, num_bytes)

        work()  # on tables of zeros, which are valid: no voxel is the sweep's yet
        self._stream.wait()
        if self._engine.can_record(context, self._stream):
            return _Bucket(layout, context, self._stream.record(work).replay)
        return _Bucket(layout, context, work)
