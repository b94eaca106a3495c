# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A dense 2D network as the image encoder of a bundle, checked against the original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from reldistill_ros.cameras.image_encoder import (
    IMAGE_CLASSES,
    IMAGE_ENCODER,
    IMAGE_ENCODER_SETTINGS,
    ImageEncoder,
    most_likely,
)
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from trainer.image_graph import with_scaling
from trainer.image_networks import ImageNetwork
from trainer.teachers.grids import normalise, scale_image

# Largest 1 - cosine of a patch, or share of pixels with another class. Weights are stored in 16
# bits, and ONNX Runtime scales images by its own code.
TOLERANCE = 1e-3


def export_image(
    network: ImageNetwork, folder: Path, images: Sequence[NDArray[np.uint8]]
) -> dict[str, float]:
    """Write the files of the image encoder, and compare them with the original.

    Args:
        network: what to export.
        folder: of the bundle.
        images: (H, W, 3) RGB to compare on, of the camera if possible.

    Returns:
        `max_error`, see `TOLERANCE`, `num_images` and `megabytes` of the graph.

    Raises:
        InputError: the exported encoder differs from the original.
    """
    path, settings = folder / IMAGE_ENCODER, network.settings
    onnx.save(with_scaling(network.graph, settings), path)
    write_json(folder / IMAGE_ENCODER_SETTINGS, settings.model_dump(mode='json'))
    if network.class_embeddings is not None:
        np.savez(folder / IMAGE_CLASSES, embeddings=network.class_embeddings)
    exported = ImageEncoder(
        settings,
        path.read_bytes(),
        network.class_embeddings,
        embedding_mean=np.zeros(settings.channels, np.float32),
        num_threads=1,
    )
    error = max(_error(network, exported, image) for image in images)
    if not error <= TOLERANCE:
        raise InputError(
            'the exported image encoder differs from the original; no bundle was written',
            where=settings.name,
            expected=f'a difference of at most {TOLERANCE}',
            got=error,
            fix='export with --without-image-encoder, and report this',
        )
    size = path.stat().st_size / 1e6
    return {'max_error': max(error, 0.0), 'num_images': len(images), 'megabytes': size}


@torch.no_grad()
def _error(network: ImageNetwork, exported: ImageEncoder, image: NDArray[np.uint8]) -> float:
    """Largest 1 - cosine of a patch, or share of cells with another class."""
    settings = network.settings
    scaled = scale_image(image, settings.input_size, 'cpu')
    pixels = normalise(scaled, settings.mean, settings.std)
    expected: NDArray[np.float32] = network.original(pixels)[0].numpy()
    got = exported.run(image)
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
