# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A dense 2D network as the image encoder of a bundle, checked against the original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from reldistill_ros.cameras.image_encoder import (
    IMAGE_CLASSES,
    IMAGE_ENCODER,
    IMAGE_ENCODER_SETTINGS,
    ImageEncoder,
    ImageEncoderSettings,
    most_likely,
)
from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.files import write_json
from trainer.onnx_graph import IR_VERSION, OPSET
from trainer.open_clip_text import OpenClipEncoder
from trainer.teachers.grids import scale_image, scaled_size
from trainer.teachers.maskclip import maskclip_features
from trainer.text_graph import export_in_16_bits

# Largest 1 - cosine of a patch, or share of pixels with another class. Weights are stored in 16
# bits, and ONNX Runtime scales images by its own code.
TOLERANCE = 1e-3


def export_image(
    network: nn.Module,
    settings: ImageEncoderSettings,
    folder: Path,
    *,
    images: Sequence[NDArray[np.uint8]],
    class_embeddings: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Write the files of the image encoder, and compare them with the original.

    Args:
        network: normalised pixels (1, 3, H, W) of `settings.input_size` to features or logits
            (1, channels, h, w), on the CPU.
        settings: what it takes and gives.
        folder: of the bundle.
        images: (H, W, 3) RGB to compare on, of the camera if possible.
        class_embeddings: (L, C) for a network with classes, see `ImageEncoder`.

    Returns:
        `max_error`, see `TOLERANCE`, `num_images` and `megabytes` of the graph.

    Raises:
        InputError: the exported encoder differs from the original.
    """
    path = folder / IMAGE_ENCODER
    write_image_graph(network.eval(), settings, path)
    write_json(folder / IMAGE_ENCODER_SETTINGS, settings.model_dump(mode='json'))
    if class_embeddings is not None:
        np.savez(folder / IMAGE_CLASSES, embeddings=class_embeddings)
    no_mean = np.zeros(settings.channels, np.float32)
    exported = ImageEncoder(
        settings, path.read_bytes(), class_embeddings, embedding_mean=no_mean, num_threads=1
    )
    error = max(_error(network, exported, image) for image in images)
    if not error <= TOLERANCE:
        raise InputError(
            'the exported image encoder differs from the original; no bundle was written',
            where=settings.name,
            expected=f'a difference of at most {TOLERANCE}',
            got=error,
            fix='export without the image encoder, and report this',
        )
    size = path.stat().st_size / 1e6
    return {'max_error': error, 'num_images': len(images), 'megabytes': size}


def write_image_graph(network: nn.Module, settings: ImageEncoderSettings, path: Path) -> None:
    """Write the graph: `image` (H, W, 3) uint8 of any size to `output` (1, channels, h, w)."""
    ir = import_extra('onnx_ir', 'train')
    example = torch.zeros(1, 3, *settings.input_size)
    model = export_in_16_bits(network, (example,), ['pixels'], 'output')
    merged = onnx.compose.merge_models(
        _scaling_graph(settings), ir.to_proto(model), io_map=[('pixels', 'pixels')]
    )
    onnx.checker.check_model(merged, full_check=True)
    onnx.save(merged, path)


def clip_network(
    encoder: OpenClipEncoder, *, short_side: int, image_size: tuple[int, int]
) -> tuple[nn.Module, ImageEncoderSettings]:
    """The image tower of a CLIP model, read out patch by patch, and what to export it with.

    Args:
        encoder: whose text tower sets the space.
        short_side: see `trainer.teachers.settings.ClipTeacherSettings`.
        image_size: H, W of the camera.
    """
    visual = encoder.model.visual
    expected = import_extra('open_clip', 'clip').get_model_preprocess_cfg(encoder.model)
    patch = int(visual.patch_size[0])
    settings = ImageEncoderSettings(
        name=f'maskclip/{encoder.name}/{short_side}',
        input_size=scaled_size(image_size, short_side, patch),
        mean=tuple(expected['mean']),
        std=tuple(expected['std']),
        patch_size=patch,
        output='features',
        channels=encoder.embedding_size,
    )
    return _DenseClip(visual), settings


class _DenseClip(nn.Module):
    """`maskclip_features` as a module, which the exporter asks for."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (1, C, h, w) of pixels (1, 3, H, W)."""
        return maskclip_features(self.visual, pixels)


def _scaling_graph(settings: ImageEncoderSettings) -> onnx.ModelProto:
    """`image` (H, W, 3) to `pixels` (1, 3, h, w): Pillow's bicubic filter, as in training."""
    height, width = settings.input_size

    def constant(name: str, values: NDArray[Any]) -> onnx.TensorProto:
        return numpy_helper.from_array(values, name)

    def colours(name: str, values: Sequence[float]) -> onnx.TensorProto:
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
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


@torch.no_grad()
def _error(network: nn.Module, exported: ImageEncoder, image: NDArray[np.uint8]) -> float:
    """Largest 1 - cosine of a patch, or share of cells with another class."""
    settings = exported.settings
    scaled = scale_image(image, settings.input_size, 'cpu')
    mean, std = (scaled.new_tensor(v).reshape(1, 3, 1, 1) for v in (settings.mean, settings.std))
    expected: NDArray[np.float32] = network((scaled - mean) / std)[0].numpy()
    got = exported.encode(image).output
    if got.shape != expected.shape or len(got) != settings.channels:
        raise InputError(
            'the image encoder gives another number of values than announced',
            where=settings.name,
            expected=settings.channels,
            got=got.shape,
        )
    if settings.output == 'classes':
        return float((most_likely(got)[0] != most_likely(expected)[0]).mean())
    lengths = np.linalg.norm(got, axis=0) * np.linalg.norm(expected, axis=0)
    return float((1 - (got * expected).sum(axis=0) / lengths).max())
