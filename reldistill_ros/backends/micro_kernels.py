# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The innermost loops of the fused engine as LLVM vector code, for whatever CPU numba targets.

Both kernels are a loop of rank-1 updates of a block of accumulators that stays in registers:
`block[i][v] += scalar_i * vector_v`. LLVM's auto-vectoriser does not find this form by itself.
The block sizes follow the register file; everything else is left to LLVM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(','))
HAS_BFLOAT16 = {'+avx512f', '+avx512bf16'} <= FEATURES
LANES = 16 if '+avx512f' in FEATURES else 8 if '+avx' in FEATURES else 4

# Channels of a block and its most rows: rows x vectors accumulators, the vectors and a scalar
# must fit into 32 registers (AVX-512, NEON with 4 lanes) or 16 (AVX, SSE with 4 lanes).
if LANES == 16:
    BLOCK_ROWS = {16: 12, 32: 12, 48: 8, 64: 6, 96: 4}
elif LANES == 4 and '+sse2' in FEATURES:
    BLOCK_ROWS = {16: 2}
else:
    BLOCK_ROWS = {16: 6}

I32, I64 = ir.IntType(32), ir.IntType(64)
FLOAT = ir.FloatType()
FLOATS = ir.VectorType(FLOAT, LANES)
WORD = 4  # bytes of a float32, and of a pair of bfloat16

Builder = Any  # numba's subclass of ir.IRBuilder
Values = Sequence[Any]


def inline_code(typing: Callable[..., Any]) -> Any:
    """Code that numba puts where it is called; callers pass what `typing` takes but its first."""
    return intrinsic(typing)


class _Bfloat16(ir.Type):
    """LLVM's `bfloat`, which llvmlite has no class for."""

    def _to_string(self) -> str:
        return 'bfloat'


BFLOAT16 = _Bfloat16()


def declare(builder: Builder, kind: ir.FunctionType, name: str) -> Any:
    """An LLVM intrinsic by its name."""
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


def _fma(builder: Builder, total: Any, scalar: Any, vector: Any) -> Any:
    """`total + scalar * vector` in float32."""
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    name = f'llvm.fmuladd.v{LANES}f32'
    function = declare(builder, kind, name)
    return builder.call(function, [scalar, vector, total])


def _dot_pairs(builder: Builder, total: Any, scalar: Any, vector: Any) -> Any:
    """The same for two bfloat16 products at once, accumulated in float32 (AVX512_BF16)."""
    pairs = ir.VectorType(BFLOAT16, 2 * LANES)
    kind = ir.FunctionType(FLOATS, [FLOATS, pairs, pairs])
    name = 'llvm.x86.avx512bf16.dpbf16ps.512'
    function = declare(builder, kind, name)
    operands = [builder.bitcast(operand, pairs) for operand in (scalar, vector)]
    return builder.call(function, [total, *operands])


def _offset(builder: Builder, address: Any, words: int) -> Any:
    return builder.add(address, ir.Constant(I64, words * WORD))


def _load(builder: Builder, address: Any, kind: ir.Type) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=WORD)


def _load_index(builder: Builder, address: Any, index: Any) -> Any:
    """The int32 at an address and index, as int64."""
    item = builder.add(address, builder.mul(index, ir.Constant(I64, WORD)))
    return builder.sext(_load(builder, item, I32), I64)


def _broadcast(builder: Builder, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def _vectors(builder: Builder, address: Any, width: int, lane: ir.Type) -> list[Any]:
    kind = ir.VectorType(lane, LANES)
    return [_load(builder, _offset(builder, address, c), kind) for c in range(0, width, LANES)]


def _update_block(
    builder: Builder,
    block: Sequence[Any],
    width: int,
    count: Any,
    operands: Callable[[Any], tuple[Values, Values]],
    multiply_add: Callable[..., Any],
) -> None:
    """Emit the loop over `count` rank-1 updates of a block.

    The updates are summed up from zero and then added to the block: a sum of sums loses less in
    float32 than one long sum.

    Args:
        builder: where to emit; stands behind the loop afterwards.
        block: address of each row of the block.
        width: channels of the block.
        count: number of updates, at least 1.
        operands: emits the scalars (one a row) and the vectors of an update.
        multiply_add: emits `total + scalar * vector`.
    """
    entry, body = builder.block, builder.append_basic_block('update')
    builder.branch(body)
    builder.position_at_end(body)
    step = builder.phi(I64)
    step.add_incoming(ir.Constant(I64, 0), entry)
    totals = [[builder.phi(FLOATS) for _ in range(0, width, LANES)] for _ in block]
    updated = _update(builder, totals, operands(step), multiply_add)
    following = builder.add(step, ir.Constant(I64, 1))
    step.add_incoming(following, builder.block)
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    for total, value in zip(chain(*totals), chain(*updated)):
        total.add_incoming(zero, entry)
        total.add_incoming(value, builder.block)
    after = builder.append_basic_block('store')
    builder.cbranch(builder.icmp_signed('<', following, count), body, after)
    builder.position_at_end(after)
    for row, values in zip(block, updated):
        _add_to_row(builder, row, values)


def _update(
    builder: Builder,
    totals: Sequence[Values],
    operands: tuple[Values, Values],
    multiply_add: Callable[..., Any],
) -> list[list[Any]]:
    scalars, vectors = operands
    updated = []
    for row, scalar in zip(totals, scalars):
        spread = _broadcast(builder, scalar)
        updated.append([multiply_add(builder, t, spread, v) for t, v in zip(row, vectors)])
    return updated


def _add_to_row(builder: Builder, row: Any, values: Values) -> None:
    before = _vectors(builder, row, len(values) * LANES, FLOAT)
    for v, (old, value) in enumerate(zip(before, values)):
        pointer = builder.inttoptr(_offset(builder, row, v * LANES), FLOATS.as_pointer())
        builder.store(builder.fadd(old, value), pointer, align=WORD)


def _by_block_size(
    builder: Builder, width: Any, rows: Any, emit: Callable[[int, int], None]
) -> None:
    """Branch to the code made for a width and a number of rows that are known at run time."""
    end = builder.append_basic_block('end')
    by_width = builder.switch(width, end)
    for channels, most in BLOCK_ROWS.items():
        block = builder.append_basic_block(f'width{channels}')
        by_width.add_case(ir.Constant(I64, channels), block)
        builder.position_at_end(block)
        by_rows = builder.switch(rows, end)
        for num in range(1, most + 1):
            block = builder.append_basic_block(f'rows{num}')
            by_rows.add_case(ir.Constant(I64, num), block)
            builder.position_at_end(block)
            emit(channels, num)
            builder.branch(end)
    builder.position_at_end(end)


@inline_code
def multiply_rows(
    _: Any, element: Any, width: Any, rows: Any, x: Any, x_stride: Any, rows_in: Any, w: Any,
    depth: Any, y: Any, y_stride: Any, rows_out: Any,
) -> Any:  # fmt: skip
    """`y[rows_out[i], :width] += x[rows_in[i]] @ w` for i below `rows`.

    `element` is an array of float32, or of uint16 that holds bfloat16, and tells what x and w are.
    All others are int64; x, w, y (float32), rows_in and rows_out (int32) are addresses, strides
    are in bytes. w is (depth, width) float32 or (depth, width, 2) bfloat16: there the depth counts
    pairs of input channels. `width` is a key of `BLOCK_ROWS` and `rows` at most its value.
    """

    def codegen(_: Any, builder: Builder, signature: Any, args: Values) -> None:
        width, rows, x, x_stride, rows_in, w, depth, y, y_stride, rows_out = args[1:]
        half = signature.args[0].dtype == types.uint16
        lane, multiply_add = (I32, _dot_pairs) if half else (FLOAT, _fma)

        def row(base: Any, stride: Any, index: Any, number: int) -> Any:
            chosen = _load_index(builder, index, ir.Constant(I64, number))
            return builder.add(base, builder.mul(chosen, stride))

        def emit(channels: int, num: int) -> None:
            inputs = [row(x, x_stride, rows_in, i) for i in range(num)]
            outputs = [row(y, y_stride, rows_out, i) for i in range(num)]

            def operands(step: Any) -> tuple[Values, Values]:
                offset = builder.mul(step, ir.Constant(I64, WORD))
                scalars = [_load(builder, builder.add(r, offset), lane) for r in inputs]
                line = builder.mul(step, ir.Constant(I64, WORD * channels))
                return scalars, _vectors(builder, builder.add(w, line), channels, lane)

            _update_block(builder, outputs, channels, depth, operands, multiply_add)

        _by_block_size(builder, width, rows, emit)

    return types.void(element, *[types.int64] * 10), codegen


@inline_code
def add_outer_products(
    _: Any, width: Any, rows: Any, x: Any, x_stride: Any, rows_in: Any, y: Any, y_stride: Any,
    rows_out: Any, count: Any, w: Any, w_stride: Any,
) -> Any:  # fmt: skip
    """`w[:rows, :width] += sum_p outer(x[rows_in[p], :rows], y[rows_out[p], :width])`, float32.

    Arguments as for `multiply_rows`; `count` is the number of pairs, at least 1.
    """

    def codegen(_: Any, builder: Builder, signature: Any, args: Values) -> None:
        width, rows, x, x_stride, rows_in, y, y_stride, rows_out, count, w, w_stride = args

        def emit(channels: int, num: int) -> None:
            block = [
                builder.add(w, builder.mul(w_stride, ir.Constant(I64, i))) for i in range(num)
            ]

            def operands(step: Any) -> tuple[Values, Values]:
                left = builder.add(x, builder.mul(_load_index(builder, rows_in, step), x_stride))
                right = builder.add(y, builder.mul(_load_index(builder, rows_out, step), y_stride))
                scalars = [_load(builder, _offset(builder, left, i), FLOAT) for i in range(num)]
                return scalars, _vectors(builder, right, channels, FLOAT)

            _update_block(builder, block, channels, count, operands, _fma)

        _by_block_size(builder, width, rows, emit)

    return types.void(*[types.int64] * 11), codegen


@inline_code
def as_pointer(_: Any, address: Any) -> Any:
    """An address as what `numba.carray` takes."""

    def codegen(_: Any, builder: Builder, signature: Any, args: Values) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@inline_code
def fetch_and_add(_: Any, address: Any) -> Any:
    """Add 1 to the int64 at an address and return what it was, in one atomic step."""

    def codegen(_: Any, builder: Builder, signature: Any, args: Values) -> Any:
        pointer = builder.inttoptr(args[0], I64.as_pointer())
        return builder.atomic_rmw('add', pointer, ir.Constant(I64, 1), 'seq_cst')

    return types.int64(types.int64), codegen


@inline_code
def atomic_load(_: Any, address: Any) -> Any:
    """The int64 at an address, as the other threads left it."""

    def codegen(_: Any, builder: Builder, signature: Any, args: Values) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), 'seq_cst', 8)

    return types.int64(types.int64), codegen
