# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What every engine offers, and opening one for a bundle."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.bundle import STUDENT_ONNX, Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps

BackendName = Literal['onnx', 'torch']


class Backend(Protocol):
    """The student's backbone in one engine."""

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        """Input features (V, F) -> point features (V, D); V at least 1."""


def open_backend(bundle: Bundle, name: str, num_threads: int) -> Backend:
    """Load the student of a bundle into an engine.

    Raises:
        InputError: unknown engine, or its package is not installed.
    """
    if name == 'onnx':
        from reldistill_ros.backends.onnx_backend import OnnxBackend

        return OnnxBackend(bundle.path / STUDENT_ONNX, num_threads)
    if name == 'torch':
        from reldistill_ros.backends.torch_backend import TorchBackend

        return TorchBackend.from_bundle(bundle, num_threads)
    raise InputError('there is no such backend', expected=get_args(BackendName), got=name)
