# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dense features of open_clip's timm towers, ConvNeXt and SigLIP, whose head pools the map.

Both are read out in one way: every location of the map before the pool goes through pool and
head alone, as if it were all of the image. An average over one location is that location, so a
ConvNeXt's norm and projection are applied to each (as FC-CLIP does to regions, Yu et al., NeurIPS
2023). Attention over one token is its value vector, so of SigLIP's attention pool the value path
remains, with its output projection and MLP: what MaskCLIP does to CLIP's last attention.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reldistill_ros.core.errors import import_extra


def is_convnext(visual: Any) -> bool:
    """Whether an image tower is a ConvNeXt that averages over the map."""
    convnext = import_extra('timm.models.convnext', 'clip').ConvNeXt
    return _has_trunk(visual, convnext) and visual.trunk.head.global_pool.pool_type == 'avg'


def is_siglip(visual: Any) -> bool:
    """Whether an image tower is a vision transformer that pools its patches by attention."""
    vit = import_extra('timm.models.vision_transformer', 'clip').VisionTransformer
    if not _has_trunk(visual, vit) or visual.trunk.pos_embed is None:
        return False
    return visual.trunk.attn_pool is not None and not visual.trunk.num_prefix_tokens


def _has_trunk(visual: Any, kind: type) -> bool:
    """Whether an image tower is a timm network of a kind, without a pool of open_clip's own."""
    tower = import_extra('open_clip.timm_model', 'clip').TimmModel
    if not isinstance(visual, tower):
        return False
    return isinstance(visual.trunk, kind) and 'pool' not in dict(visual.head.named_children())


def convnext_features(visual: Any, pixels: Tensor) -> Tensor:
    """Each cell of the last map in the text space.

    Args:
        visual: open_clip's TimmModel around a ConvNeXt.
        pixels: (N, 3, 32 h, 32 w), normalised.

    Returns:
        (N, C, h, w).
    """
    cells = visual.trunk.forward_features(pixels)  # (N, D, h, w)
    num, size, rows, columns = cells.shape
    alone = cells.permute(0, 2, 3, 1).reshape(-1, size, 1, 1)
    features: Tensor = visual.head(visual.trunk.forward_head(alone))  # (N * h * w, C)
    return features.reshape(num, rows, columns, -1).permute(0, 3, 1, 2)


def siglip_features(visual: Any, pixels: Tensor) -> Tensor:
    """Each patch in the text space, of images of any size.

    Args:
        visual: open_clip's TimmModel around a vision transformer with attention pool.
        pixels: (N, 3, h * patch, w * patch), normalised.

    Returns:
        (N, C, h, w).
    """
    tokens, (rows, columns) = siglip_tokens(visual.trunk, pixels)
    alone = tokens.reshape(-1, 1, tokens.shape[-1])
    features: Tensor = visual.head(visual.trunk.forward_head(alone))  # (N * h * w, C)
    return features.reshape(len(pixels), rows, columns, -1).permute(0, 3, 1, 2)


def siglip_tokens(trunk: Any, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Patch tokens (N, h * w, D) before the pool, and (h, w); positions are interpolated."""
    resample = import_extra('timm.layers', 'clip').resample_abs_pos_embed
    patches = trunk.patch_embed.proj(pixels)  # (N, D, h, w)
    grid = (patches.shape[2], patches.shape[3])
    positions = resample(
        trunk.pos_embed, grid, old_size=trunk.patch_embed.grid_size, num_prefix_tokens=0
    )
    tokens = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2)) + positions
    return trunk.norm(trunk.blocks(trunk.norm_pre(tokens))), grid
