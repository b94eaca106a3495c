# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A graph in 16 bits: TensorRT computes in the types that a graph names.

Inputs and outputs keep their 32 bits. Sums inside a matrix product are the engine's own matter.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx

from reldistill_ros.core.errors import import_extra


def halve_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with weights and features in float16; `graph` itself may be changed."""
    converter = import_extra('onnxruntime.transformers.float16', 'train')
    models = import_extra('onnxruntime.transformers.onnx_model', 'train')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of weights below the smallest number of float16
        half = converter.convert_float_to_float16(graph, keep_io_types=True)
    model = models.OnnxModel(half)
    model.topological_sort()  # the converter puts its casts last
    onnx.checker.check_model(model.model, full_check=True)
    return model.model  # type: ignore[no-any-return]


def write_half_graph(graph: Path, out: Path) -> None:
    """Write the float16 form of a graph's file."""
    onnx.save(halve_graph(onnx.load(graph)), out)
