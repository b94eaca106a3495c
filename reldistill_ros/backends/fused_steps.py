# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Steps of the fused engine from Python: packing weights, filling steps, running them in threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reldistill_ros.backends.fused_tiles import HALF, STEP, run_steps
from reldistill_ros.backends.micro_kernels import BLOCK_ROWS
from reldistill_ros.backends.tile_pairs import LARGEST_TILE, TilePairs

SMALLEST_BLOCK = min(BLOCK_ROWS)


def block_width(channels: int) -> int:
    """The widest block that divides a layer's output channels."""
    return max(width for width in BLOCK_ROWS if channels % width == 0)


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even; its bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + HALF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def pack_weights(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Order (K, C_in, C_out) as the engine reads it: (K, blocks, C_in, width)."""
    num_offsets, c_in, c_out = kernel.shape
    width = block_width(c_out)
    blocks = kernel.reshape(num_offsets, c_in, c_out // width, width)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))


def pack_bfloat16_weights(kernel: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The same with pairs of input channels side by side: (K, blocks, C_in / 2, width, 2)."""
    packed = to_bfloat16(pack_weights(kernel))
    num_offsets, blocks, c_in, width = packed.shape
    pairs = packed.reshape(num_offsets, blocks, c_in // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(3, 4))


def fill_pairs(step: Any, pairs: TilePairs) -> None:
    """Enter the pairs of a sweep into a step; they must live as long as it does."""
    step['rows_in'] = pairs.rows_in.ctypes.data
    step['rows_out'] = pairs.rows_out.ctypes.data
    step['starts'] = pairs.starts.ctypes.data
    step['num_rows'] = pairs.num_rows
    step['num_offsets'] = pairs.num_offsets
    step['tile_rows'] = pairs.tile_rows


def fill_layer(step: Any, weights: NDArray[Any], bias: NDArray[np.float32]) -> None:
    """Enter packed weights and a bias into a step; they must live as long as it does."""
    step['weights'], step['bias'] = weights.ctypes.data, bias.ctypes.data
    _, blocks, depth, width = weights.shape[:4]
    step['depth'] = depth
    step['c_out'] = blocks * width
    step['block'], step['block_rows'] = width, BLOCK_ROWS[width]


class ThreadTeam:
    """Threads that carry out one compiled function together.

    Args:
        num_threads: including the caller's.
    """

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self._memory = [np.zeros(0, np.float32) for _ in range(num_threads)]
        self._start()
        _teams.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._helpers = ThreadPoolExecutor(max(self.num_threads - 1, 1), 'fused')

    def run_steps(self, steps: NDArray[Any], dtype: DTypeLike = np.float32) -> None:
        """Carry out steps (S,) of dtype `STEP` one after the other.

        Args:
            steps: what they point at must live until this returns.
            dtype: of the activations: float32, or uint16 that holds bfloat16.
        """
        tile = LARGEST_TILE * int(steps['c_out'].max(initial=0))
        progress = np.zeros((len(steps), 2), np.int64)
        self.call(run_steps, np.zeros(0, dtype), steps, progress, memory=tile)

    def call(self, function: Callable[..., None], *arguments: object, memory: int = 0) -> None:
        """Call `function(*arguments, own)` in every thread, and wait for all of them.

        Args:
            function: compiled; shares the work out by itself, so that it is complete however
                many threads take part.
            arguments: the same for all.
            memory: floats of the array `own` that each thread has to itself.
        """
        with self._lock:
            if len(self._memory[0]) < memory:
                self._memory = [np.zeros(memory, np.float32) for _ in self._memory]
            helpers: list[Future[None]] = []
            try:
                for own in self._memory[1:]:
                    helpers.append(self._helpers.submit(function, *arguments, own))
                function(*arguments, self._memory[0])
            finally:  # what they work on must not go away under them
                wait(helpers)
            for helper in helpers:
                helper.result()


_teams: weakref.WeakSet[ThreadTeam] = weakref.WeakSet()


def _restart_teams() -> None:
    """A forked process has the teams of its parent, but not their threads."""
    for team in _teams:
        team._start()


os.register_at_fork(after_in_child=_restart_teams)


@cache
def thread_team(num_threads: int) -> ThreadTeam:
    """The one team of this size in the process; its threads sleep while nobody calls."""
    return ThreadTeam(num_threads)


def convolve(
    team: ThreadTeam,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    pairs: TilePairs,
) -> NDArray[np.float32]:
    """A single convolution, `bias + sum_k x[table_k] W_k`.

    Args:
        team: who computes.
        x: (U, C_in), contiguous.
        weights: packed by `pack_weights`.
        bias: (C_out,).
        pairs: (V output rows).

    Returns:
        (V, C_out).
    """
    steps = np.zeros(1, STEP)
    step = steps[0]
    fill_pairs(step, pairs)
    fill_layer(step, weights, bias)
    out = np.empty((pairs.num_rows, len(bias)), np.float32)
    step['source'], step['source_stride'] = x.ctypes.data, x.shape[1]
    step['target'], step['target_stride'] = out.ctypes.data, out.shape[1]
    team.run_steps(steps)
    return out
