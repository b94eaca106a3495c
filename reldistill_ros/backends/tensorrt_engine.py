# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An open engine of TensorRT, and what runs it for one set of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reldistill_ros.backends.cuda_runtime import DeviceMemory, Stream
from reldistill_ros.backends.engine_files import read_blob, write_blob
from reldistill_ros.backends.tensorrt_library import Library
from reldistill_ros.core.errors import InputError


class Engine:
    """An engine with one scratch memory for all its contexts, of which one runs at a time.

    Args:
        library: that built it.
        content: of its file, checked.
        compiled: where TensorRT for RTX keeps what it compiles for this GPU.

    Raises:
        InputError: TensorRT does not open it; it said why on stderr.
    """

    def __init__(self, library: Library, content: bytes, compiled: Path) -> None:
        self._library, self._compiled = library, compiled
        runtime = library.module.Runtime(library.logger)
        self._engine = runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise InputError(
                'TensorRT does not open the engine; it says why above',
                fix=f'remove {compiled.with_suffix(".engine")}, so that it is built anew',
            )
        # its own size, not that of the shapes at hand: one memory serves all
        self._scratch = DeviceMemory(self._engine.device_memory_size_v2)
        strategy = library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self._cache: Any = None
        self._settings = strategy
        if library.is_rtx:
            self._settings, self._cache = self._rtx_settings(strategy)

    @property
    def scratch_bytes(self) -> int:
        """GPU memory for what lies between the layers."""
        return self._scratch.num_bytes

    @property
    def output(self) -> str:
        """Name of the one output, which the builder chooses."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        output = self._library.module.TensorIOMode.OUTPUT
        (name,) = [name for name in names if self._engine.get_tensor_mode(name) == output]
        return str(name)

    @property
    def width(self) -> int:
        """Columns of the output."""
        return int(self._engine.get_tensor_shape(self.output)[1])

    def new_context(
        self, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]
    ) -> Any:
        """What runs the engine for these shapes.

        Args:
            shapes: of all inputs.
            addresses: of inputs and outputs on the GPU.

        Raises:
            InputError: the engine was not built for these shapes.
        """
        context = self._engine.create_execution_context(self._settings)
        if context is None:
            raise InputError('TensorRT makes no execution context; it says why above')
        context.set_device_memory(self._scratch.address, self._scratch.num_bytes)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise InputError('the engine does not take a shape', where=name, got=shape)
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise InputError('the engine has no such input or output', where=name)
        return context

    def enqueue(self, context: Any, stream: Stream) -> None:
        """Put one run of a context into a stream.

        Raises:
            RuntimeError: TensorRT does not take it; it said why on stderr.
        """
        if not context.execute_async_v3(stream.handle):
            raise RuntimeError('TensorRT does not run the engine; it says why above')

    def can_record(self, context: Any, stream: Stream) -> bool:
        """Whether runs of a context may be recorded; TensorRT for RTX knows, TensorRT always."""
        return not self._library.is_rtx or bool(context.is_stream_capturable(stream.handle))

    def keep_compiled(self) -> None:
        """Keep what TensorRT for RTX has compiled, for the next start."""
        if self._cache is not None:
            write_blob(self._compiled, bytes(self._cache.serialize()))

    def _rtx_settings(self, strategy: Any) -> tuple[Any, Any]:
        """Kernels are compiled for each shape when it is first run, not while others run."""
        module = self._library.module
        settings = self._engine.create_runtime_config()
        settings.set_execution_context_allocation_strategy(strategy)
        settings.dynamic_shapes_kernel_specialization_strategy = (
            module.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        cache = settings.create_runtime_cache()
        kept = read_blob(self._compiled)
        if kept is not None:
            cache.deserialize(kept)  # refused, and compiled anew, where the driver is another one
        settings.set_runtime_cache(cache)
        return settings, cache
