# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An affine map of many rows in the fused engine.

numpy's own product would do, but the threads of its BLAS go on spinning afterwards, on the cores
that the next sweep needs: it made a whole sweep a third slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.fused_steps import (
    SMALLEST_BLOCK,
    convolve,
    pack_weights,
    thread_team,
)
from reldistill_ros.backends.tile_pairs import linear_pairs, tile_rows


class FusedLinear:
    """`rows @ matrix + bias`.

    Args:
        matrix: (D, C) float32.
        bias: (C,) float32.
        num_threads: of one product.
    """

    def __init__(
        self, matrix: NDArray[np.float32], bias: NDArray[np.float32], num_threads: int
    ) -> None:
        self._team = thread_team(num_threads)
        missing = -len(bias) % SMALLEST_BLOCK
        self._weights = pack_weights(np.pad(matrix, ((0, 0), (0, missing)))[None])
        self._bias = np.pad(bias, (0, missing))
        self._c_in = len(matrix)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map rows (N, D) to (N, C'), where the columns from C on are zero."""
        if rows.shape[1:] != (self._c_in,):
            raise ValueError(f'expected rows of {self._c_in} values, got {rows.shape}')
        rows = np.ascontiguousarray(rows, np.float32)
        pairs = linear_pairs(len(rows), tile_rows(len(rows)))
        return convolve(self._team, rows, self._weights, self._bias, pairs)
