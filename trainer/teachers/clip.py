# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The image tower of a CLIP model, read out patch by patch instead of once for the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reldistill_ros.core.errors import InputError, import_extra
from trainer.open_clip_text import OpenClipEncoder, check_device
from trainer.teachers.maskclip import maskclip_features
from trainer.teachers.pooled_towers import (
    convnext_features,
    is_convnext,
    is_siglip,
    siglip_features,
)
from trainer.weights_digest import weights_digest

ReadOut = Callable[[Tensor], Tensor]


class ClipNetwork:
    """Patch features in the text space of a CLIP model; see `PatchNetwork`.

    The read-out follows the tower: MaskCLIP's value path for a plain ViT, each cell of the map
    through the projection for a ConvNeXt, each token alone through the attention pool for
    SigLIP; see `trainer.teachers.maskclip` and `trainer.teachers.pooled_towers`.

    Args:
        encoder: the CLIP model whose text tower sets the space.
        key_smoothing: average the features of patches whose keys are alike, as in MaskCLIP.
        device: where the image tower runs (it is moved there).

    Raises:
        InputError: the tower is of another kind, has no keys to smooth by, or the device is not
            there.
    """

    def __init__(
        self, encoder: OpenClipEncoder, *, key_smoothing: bool = False, device: str = 'cpu'
    ) -> None:
        check_device(device)
        visual = encoder.model.visual.requires_grad_(False).eval().to(device)
        self.patch_size, self._read_out = _choose_read_out(encoder.name, visual, key_smoothing)
        smoothed = '/smoothed by keys' if key_smoothing else ''
        self.name = f'clip/{encoder.name}@{weights_digest(visual)}{smoothed}'
        self.embedding_size = encoder.embedding_size
        self.device = device
        expected = import_extra('open_clip', 'clip').get_model_preprocess_cfg(encoder.model)
        self.mean, self.std = tuple(expected['mean']), tuple(expected['std'])

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        return F.normalize(self._read_out(pixels), dim=1)


def _choose_read_out(name: str, visual: Any, key_smoothing: bool) -> tuple[int, ReadOut]:
    """Patch size of an image tower, and how its patches are placed in the text space."""
    vit = import_extra('open_clip', 'clip').transformer.VisionTransformer
    if isinstance(visual, vit) and visual.attn_pool is None:
        return visual.patch_size[0], partial(maskclip_features, visual, smooth=key_smoothing)
    if key_smoothing:
        raise InputError(
            'key smoothing needs a CLIP model whose image tower is a plain vision transformer',
            where=name,
            got=type(visual).__name__,
            fix='set key_smoothing: false',
        )
    if is_convnext(visual):
        return visual.trunk.feature_info[-1]['reduction'], partial(convnext_features, visual)
    if is_siglip(visual):
        return visual.trunk.patch_embed.patch_size[0], partial(siglip_features, visual)
    raise InputError(
        'there is no read-out of patches for this image tower',
        where=name,
        expected='a plain vision transformer, a ConvNeXt with average pooling or a SigLIP: for '
        'example ViT-B-16, convnext_base_w or ViT-B-16-SigLIP2',
        got=type(visual).__name__,
    )
