# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What every engine offers, and opening one for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.bundle import STUDENT_ONNX, Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps

BackendName = Literal['tensorrt', 'fused', 'onnx', 'torch']
Precision = Literal['float32', 'bfloat16', 'float16', 'int8']

# of weights and features; the first one is that of the others' comparison
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    'tensorrt': ('float32', 'float16', 'int8'),
    'fused': ('float32', 'bfloat16'),
    'onnx': ('float32',),
    'torch': ('float32',),
}


class Backend(Protocol):
    """The student's backbone in one engine."""

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        """Input features (V, F) -> point features (V, D); V at least 1."""


def open_backend(
    bundle: Bundle,
    name: str,
    num_threads: int,
    precision: Precision = 'float32',
    *,
    engine_file: Path | None = None,
) -> Backend:
    """Load the student of a bundle into an engine.

    Args:
        bundle: the model.
        name: `tensorrt` runs on the GPU and is the fastest where there is one; `fused` is our own
            CPU engine and the fastest there; `onnx` runs the exported graph in ONNX Runtime;
            `torch` is the reference.
        num_threads: of one inference on the CPU.
        precision: of the engine's weights and features, see `PRECISIONS`.
        engine_file: of `tensorrt`, see `TensorrtBackend.from_bundle`.

    Raises:
        InputError: unknown engine, a precision that the engine or the machine does not have, a
            file for an engine that has none, or its package is not installed.
    """
    _check_request(name, precision, engine_file)
    if name == 'tensorrt':
        from reldistill_ros.backends.tensorrt_backend import TensorrtBackend

        return TensorrtBackend.from_bundle(bundle, precision, engine_file)
    if name == 'fused':
        from reldistill_ros.backends.fused_backend import FusedBackend

        return FusedBackend.from_bundle(bundle, num_threads, precision)
    if name == 'onnx':
        from reldistill_ros.backends.onnx_backend import OnnxBackend

        return OnnxBackend(bundle.path / STUDENT_ONNX, num_threads)
    from reldistill_ros.backends.torch_backend import TorchBackend

    return TorchBackend.from_bundle(bundle, num_threads)


def _check_request(name: str, precision: str, engine_file: Path | None) -> None:
    _check_offered(name, get_args(BackendName), 'backend')
    _check_offered(precision, get_args(Precision), 'precision')
    if precision not in PRECISIONS[name]:
        able = [other for other, precisions in PRECISIONS.items() if precision in precisions]
        raise InputError(
            f'the backend {name} does not compute in {precision}',
            expected=' or '.join(PRECISIONS[name]),
            got=precision,
            fix=f'use backend {" or ".join(able)}',
        )
    if engine_file is not None and name != 'tensorrt':
        raise InputError(
            f'the backend {name} takes no engine from a file',
            where=engine_file,
            fix='use backend tensorrt, or leave the file out',
        )


def _check_offered(value: str, offered: tuple[str, ...], what: str) -> None:
    if value not in offered:
        raise InputError(f'there is no such {what}', expected=offered, got=value)
