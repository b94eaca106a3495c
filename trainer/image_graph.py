# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Image networks as ONNX graphs that scale and normalise the camera's image themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from reldistill_ros.cameras.image_encoder import ImageEncoderSettings
from reldistill_ros.core.errors import InputError, import_extra
from trainer.onnx_graph import IR_VERSION, OPSET
from trainer.text_graph import export_in_16_bits


def torch_graph(network: nn.Module, example: Tensor) -> onnx.ModelProto:
    """A network as a graph, `pixels` to `output`, its large weights in 16 bits.

    Args:
        network: on the CPU.
        example: an input; the graph takes others of its shape only.
    """
    ir = import_extra('onnx_ir', 'train')
    model: onnx.ModelProto = ir.to_proto(
        export_in_16_bits(network, (example,), ['pixels'], 'output')
    )
    return model


def followed_by(part: onnx.ModelProto, network: nn.Module, example: Tensor) -> onnx.ModelProto:
    """A graph of any origin, with a network after it that gives `output`.

    Args:
        part: with one input and one output.
        network: what comes after it.
        example: an output of the graph.

    Raises:
        InputError: the graph cannot be converted to the opset of the bundle.
    """
    # its names may be ours
    return _merge(onnx.compose.add_prefix(part, 'network/'), torch_graph(network, example))


def with_scaling(graph: onnx.ModelProto, settings: ImageEncoderSettings) -> onnx.ModelProto:
    """A graph that takes `image` (H, W, 3) uint8 of any size instead of normalised pixels.

    Raises:
        InputError: the graph cannot be converted to the opset of the bundle.
    """
    merged = _merge(_scaling_graph(settings), graph)
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _merge(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """One graph after the other, in the newer opset of the two."""
    opset = max(OPSET, _opset(first), _opset(second))
    first, second = _converted(first, opset), _converted(second, opset)
    joint = (first.graph.output[0].name, second.graph.input[0].name)
    return onnx.compose.merge_models(first, second, io_map=[joint])


def _opset(model: onnx.ModelProto) -> int:
    versions = {entry.domain: int(entry.version) for entry in model.opset_import}
    return versions.get('', 0) or versions['ai.onnx']


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The graph in another opset and in our IR version."""
    if _opset(model) != opset:
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                'the image network cannot be converted to the opset of the bundle',
                expected=f'opset {opset}',
                got=f'opset {_opset(model)}: {str(error)[:300]}',
                fix=f'export the network with opset {opset}',
            ) from error
    model.ir_version = IR_VERSION
    return model


def _scaling_graph(settings: ImageEncoderSettings) -> onnx.ModelProto:
    """`image` (H, W, 3) to `pixels` (1, 3, h, w): Pillow's bicubic filter, as in training."""
    height, width = settings.input_size

    def constant(name: str, values: NDArray[Any]) -> onnx.TensorProto:
        return numpy_helper.from_array(values, name)

    def colours(name: str, values: tuple[float, ...]) -> onnx.TensorProto:
        return constant(name, np.array(values, np.float32).reshape(1, 3, 1, 1))

    nodes = [
        helper.make_node('Cast', ['image'], ['as_float'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['as_float'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'first_axis'], ['batch']),
        helper.make_node('Div', ['batch', 'white'], ['bright']),
        helper.make_node(
            'Resize',
            ['bright', '', '', 'size'],
            ['scaled'],
            mode='cubic',
            cubic_coeff_a=-0.5,
            antialias=1,
            exclude_outside=1,  # as Pillow and torch do at the edges
        ),
        helper.make_node('Clip', ['scaled', 'zero', 'one'], ['clipped']),
        helper.make_node('Sub', ['clipped', 'mean'], ['shifted']),
        helper.make_node('Div', ['shifted', 'std'], ['pixels']),
    ]
    constants = [
        constant('first_axis', np.array([0], np.int64)),
        constant('white', np.array(255, np.float32)),
        constant('size', np.array([1, 3, height, width], np.int64)),
        constant('zero', np.array(0, np.float32)),
        constant('one', np.array(1, np.float32)),
        colours('mean', settings.mean),
        colours('std', settings.std),
    ]
    graph = helper.make_graph(
        nodes,
        'scaling',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['height', 'width', 3])],
        [helper.make_tensor_value_info('pixels', TensorProto.FLOAT, [1, 3, height, width])],
        constants,
    )
    opset = helper.make_opsetid('', OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    # the network may have a `mean` of its own
    return onnx.compose.add_prefix(model, 'scaling/', rename_inputs=False, rename_outputs=False)
