# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The exported student in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.onnx_session import open_session


class OnnxBackend:
    """See `Backend`.

    Args:
        path: the graph with inputs `feats` and the tables of `table_inputs`.
        num_threads: threads of one inference.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        self._session: Any = open_session(str(path), num_threads, what='graph', where=path)

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        features: NDArray[np.float32] = self._session.run(
            None, {'feats': feats, **table_inputs(maps)}
        )[0]
        return features
