# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dense CLIP features without training: MaskCLIP (Zhou et al., ECCV 2022) on open_clip's ViT."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from reldistill_ros.core.errors import InputError, import_extra
from trainer.datasets.sample import CameraImage
from trainer.open_clip_text import OpenClipEncoder, check_device
from trainer.teachers.patches import (
    PatchFeatures,
    check_short_side,
    scale_image,
    scaled_size,
)


class ClipTeacher:
    """The image tower of a CLIP model, read out patch by patch.

    Args:
        encoder: the CLIP model whose text tower sets the space.
        short_side: the image is scaled, its aspect ratio kept, until its shorter side has this
            many pixels; a multiple of the patch size. More is finer and slower.
        device: where the image tower runs (it is moved there).

    Raises:
        InputError: the image tower is not a plain vision transformer, `short_side` does not
            fit its patches, or the device is not there.
    """

    def __init__(self, encoder: OpenClipEncoder, *, short_side: int, device: str = 'cpu') -> None:
        check_device(device)
        visual = encoder.model.visual
        _check_plain_vit(encoder.name, visual)
        check_short_side(short_side, visual.patch_size[0])
        self.name = f'maskclip/{encoder.name}/{short_side}'
        self.embedding_size = encoder.embedding_size
        self.short_side = short_side
        self.device = device
        self.visual = visual.requires_grad_(False).eval().to(device)
        self._mean, self._std = _normalisation(encoder.model, device)

    @torch.no_grad()
    def __call__(self, image: CameraImage) -> PatchFeatures:
        size = image.image.shape[:2]
        target = scaled_size(size, self.short_side, self.visual.patch_size[0])
        scaled = scale_image(image.image, target, self.device)
        return PatchFeatures(dense_features(self.visual, (scaled - self._mean) / self._std), size)


def dense_features(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Give every patch its own place in the text space.

    All blocks but the last run as they are. In the last one every token attends to itself alone,
    so that attention returns its value vector through the output projection: the value path of
    MaskCLIP. As in MaskCLIP's published code for ViT, the block's residual and MLP stay; then
    the final norm and CLIP's projection follow, on patches instead of on the class token.

    Args:
        visual: open_clip's VisionTransformer.
        pixels: (1, 3, h * patch, w * patch), normalised as CLIP expects.

    Returns:
        (1, C, h, w), unit length along C.
    """
    tokens, (rows, columns) = embed_patches(visual, pixels)
    *first_blocks, last_block = visual.transformer.resblocks
    for block in first_blocks:
        tokens = block(tokens)
    tokens = last_block(tokens, attn_mask=_only_itself(tokens))
    features = F.normalize(visual.ln_post(tokens[:, 1:]) @ visual.proj, dim=-1)
    return features.transpose(1, 2).reshape(1, -1, rows, columns)


def embed_patches(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Embed patches and positions of an image of any size.

    Returns:
        Tokens (1, 1 + h * w, width), class token first, as the first block takes them; (h, w).
    """
    patches = visual.conv1(pixels)  # (1, width, h, w)
    grid = (patches.shape[2], patches.shape[3])
    tokens = patches.flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.expand(len(tokens), 1, -1)
    positions = positions_for(visual.positional_embedding, visual.grid_size, grid)
    return visual.ln_pre(torch.cat([class_token, tokens], dim=1) + positions), grid


def positions_for(
    positions: torch.Tensor, trained: tuple[int, int], grid: tuple[int, int]
) -> torch.Tensor:
    """Interpolate learned positions (1 + g * g, width) to another grid; the first is no patch."""
    if grid == trained:
        return positions
    plane = positions[1:].T.reshape(1, -1, *trained)
    scaled = F.interpolate(plane, grid, mode='bicubic', align_corners=False)
    return torch.cat([positions[:1], scaled.flatten(2)[0].T])


def _only_itself(tokens: torch.Tensor) -> torch.Tensor:
    """Additive attention mask (L, L): softmax over the one logit left is exactly 1."""
    mask = torch.full((tokens.shape[1],) * 2, -torch.inf, device=tokens.device)
    return mask.fill_diagonal_(0)


def _normalisation(model: Any, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of RGB (1, 3, 1, 1) that the weights were trained with."""
    expected = import_extra('open_clip', 'clip').get_model_preprocess_cfg(model)
    mean, std = (torch.tensor(expected[key], device=device) for key in ('mean', 'std'))
    return mean.reshape(1, 3, 1, 1), std.reshape(1, 3, 1, 1)


def _check_plain_vit(name: str, visual: Any) -> None:
    vit = import_extra('open_clip', 'clip').transformer.VisionTransformer
    if not isinstance(visual, vit) or visual.attn_pool is not None:
        raise InputError(
            'dense features need a CLIP model whose image tower is a plain vision transformer',
            where=name,
            expected='no attention pooling: for example ViT-B-16 or ViT-L-14',
            got=type(visual).__name__,
        )
