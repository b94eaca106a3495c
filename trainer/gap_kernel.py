# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the relational loss does between two matrix products, as one Triton kernel.

In plain torch it is seven passes over a matrix that does not fit into the GPU's cache, which then
take as long as the products.
"""

# Triton reads annotations itself, and knows none but constexpr.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 1024


def gaps_to_signs(gap: Tensor, first: int, own: Tensor, others: Tensor | None) -> Tensor:
    """Turn gaps (B, N) into their signs times the weights of the pairs, in place.

    Args:
        gap: float32; row i belongs to row `first + i` of all N, and that column counts nothing.
        first: see there.
        own: (B,) weights of the rows.
        others: (N,) weights of the columns, added to those of the rows; None for none.

    Returns:
        Sum of the absolute gaps of each row (B,).
    """
    sums = torch.empty_like(own)
    columns = own if others is None else others  # not read if None
    if len(gap):
        _signs[len(gap),](
            gap, sums, own.contiguous(), columns.contiguous(), first, gap.shape[1],
            WITH_OTHERS=others is not None, COLUMNS=COLUMNS,
        )  # fmt: skip
    return sums


@triton.jit
def _add(one, other):
    return one + other


@triton.jit
def _signs(
    gap, sums, own, others, first, num, WITH_OTHERS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    weight = tl.load(own + row)
    total = tl.full((COLUMNS,), 0.0, tl.float32)
    start_of_row = gap + row.to(tl.int64) * num
    for start in range(0, num, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < num
        values = tl.load(start_of_row + columns, mask=inside, other=0.0)
        values = tl.where(columns == first + row, 0.0, values)
        total += tl.abs(values)
        weights = tl.full((COLUMNS,), 0.0, tl.float32) + weight
        if WITH_OTHERS:
            weights += tl.load(others + columns, mask=inside, other=0.0)
        signs = tl.where(values > 0, weights, tl.where(values < 0, -weights, 0.0))
        tl.store(start_of_row + columns, signs, mask=inside)
    tl.store(sums + row, tl.reduce(total, 0, _add))
