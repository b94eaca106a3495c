# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From the label numbers that a file holds to positions in a data set's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError


def name_labels(
    raw: NDArray[np.unsignedinteger[Any]], numbers: Sequence[int], where: object
) -> NDArray[np.uint8]:
    """Position of each label's number in the data set's list of numbers.

    Args:
        raw: (N,) uint8 or uint16.
        numbers: of the data set's label names, in their order; fewer than 255.
        where: file of the labels, for the error.

    Raises:
        InputError: a number has no name: the file is of another data set, or broken.
    """
    table = np.full(np.iinfo(raw.dtype).max + 1, -1, np.int16)
    table[list(numbers)] = np.arange(len(numbers))
    labels: NDArray[np.int16] = table[raw]
    unknown = np.unique(raw[labels < 0])
    if len(unknown):
        raise InputError(
            'the labels hold numbers without a name',
            where=where,
            expected=f'some of {list(numbers)}',
            got=unknown[:20].tolist(),
            fix='restore the original file',
        )
    return labels.astype(np.uint8, copy=False)
