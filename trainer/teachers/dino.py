# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Self-supervised vision transformers of timm, such as DINOv2 (Oquab et al., 2024) and DINOv3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reldistill_ros.core.errors import InputError, import_extra
from trainer.hub_log import without_log
from trainer.open_clip_text import check_device
from trainer.torchvision_ops import make_torchvision_importable
from trainer.weights_digest import weights_digest

VIT_MODULES = ('timm.models.vision_transformer', 'timm.models.eva')  # DINOv3 is in the second
# What timm lets through from a failed download, or from weights of another model.
LOAD_ERRORS = (RuntimeError, OSError, SafetensorError, KeyError, ValueError)


class DinoNetwork:
    """Final patch tokens of a vision transformer, unit length; see `PatchNetwork`.

    Args:
        model: of timm, made for images of any size.
        name: of the model.
        device: where it runs (it is moved there).
    """

    def __init__(self, model: Any, name: str, device: str = 'cpu') -> None:
        check_device(device)
        self.name = f'dino/{name}@{weights_digest(model)}'
        self.device = device
        self.embedding_size: int = model.num_features
        self.patch_size: int = model.patch_embed.patch_size[0]
        expected = import_extra('timm.data', 'dino').resolve_model_data_config(model)
        self.mean, self.std = expected['mean'], expected['std']
        self._model = model.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        rows, columns = (side // self.patch_size for side in pixels.shape[2:])
        tokens = self._model.forward_features(pixels)  # (N, prefix + rows * columns, C)
        patches = tokens[:, self._model.num_prefix_tokens :]
        features = patches.transpose(1, 2).reshape(len(pixels), -1, rows, columns)
        return F.normalize(features, dim=1)


def load_dino(model: str, weights: Path | None, *, device: str) -> DinoNetwork:
    """Build a vision transformer with its weights.

    Args:
        model: timm's name with its tag, such as `vit_small_patch14_dinov2.lvd142m` or
            `vit_small_patch16_dinov3.lvd1689m`.
        weights: safetensors file; None for those that timm downloads once and keeps.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: unknown model, no vision transformer, no such weights, no such device.
    """
    make_torchvision_importable()
    timm = import_extra('timm', 'dino')
    _check_model(timm, model)
    try:
        with without_log():
            network = timm.create_model(
                model, pretrained=weights is None, num_classes=0, dynamic_img_size=True
            )
        if weights:
            _load_weights(network, weights)
    except LOAD_ERRORS as error:
        raise InputError(
            'the weights of the teacher cannot be loaded',
            where=weights or model,
            got=f'{type(error).__name__}: {str(error)[:500]}',
            fix='connect this machine to the network once, or name a safetensors file of these '
            'weights as `weights`, or use an ONNX graph (teacher kind: onnx_features)',
        ) from error
    return DinoNetwork(network, model, device)


def _check_model(timm: Any, model: str) -> None:
    if not timm.is_model(model):
        raise InputError(
            'timm has no such model',
            where=model,
            expected=f'for example one of {", ".join(timm.list_models("*dinov[23]*"))}',
        )
    if timm.models.model_entrypoint(model.partition('.')[0]).__module__ not in VIT_MODULES:
        raise InputError(
            'patch features need a vision transformer',
            where=model,
            expected='for example vit_small_patch14_dinov2.lvd142m',
        )


def _load_weights(network: Any, path: Path) -> None:
    """Fill all weights of a network; what else the file holds, such as a classifier, is unused."""
    missing, _ = network.load_state_dict(load_file(path), strict=False)
    if missing:
        raise KeyError(f'no weights for {", ".join(missing[:5])}')
