# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Opening a graph in ONNX Runtime on the CPU, with its threads said."""

from __future__ import annotations

from typing import Any

import onnxruntime

from reldistill_ros.core.errors import InputError


def open_session(
    graph: str | bytes,
    num_threads: int,
    *,
    what: str,
    where: object,
    spins: bool = True,
    keeps_memory: bool = True,
) -> Any:
    """Open a graph.

    Args:
        graph: its file, or what stands in it.
        num_threads: of one inference.
        what: the graph, for the error.
        where: its file, for the error.
        spins: whether threads that wait stay on their cores: no where others label sweeps.
        keeps_memory: whether the memory of the largest batch is kept for good.

    Raises:
        InputError: ONNX Runtime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    if not spins:
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.enable_cpu_mem_arena = keeps_memory
    try:
        return onnxruntime.InferenceSession(graph, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise InputError(
            f'ONNX Runtime does not take the {what}', where=where, got=error
        ) from error
