# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps as the integer inputs of the exported graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.kernel_maps import KernelMaps


def table_inputs(maps: KernelMaps) -> dict[str, NDArray[np.int32]]:
    """The exported graph's inputs besides `feats`, by name.

    `submanifold<l>` (27, V_l) and `down<l>` (8, V_l+1) index rows, with V_l for a hole;
    `up<l>` (V_l,) is `parent * 8 + child`.
    """
    tables: dict[str, NDArray[np.int32]] = {}
    for index, level in enumerate(maps):
        tables[f'submanifold{index}'] = level.submanifold
        if index < len(maps) - 1:
            tables[f'down{index}'] = level.down
            tables[f'up{index}'] = level.parent * np.int32(8) + level.child
    return tables
