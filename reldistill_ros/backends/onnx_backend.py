# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The exported student in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps


class OnnxBackend:
    """See `Backend`.

    Args:
        path: the graph with inputs `feats` and the tables of `table_inputs`.
        num_threads: threads of one inference.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise InputError(
                'ONNX Runtime does not take the graph', where=path, got=error
            ) from error

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        features: NDArray[np.float32] = self._session.run(
            None, {'feats': feats, **table_inputs(maps)}
        )[0]
        return features
