# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dense CLIP features without training: MaskCLIP (Zhou et al., ECCV 2022) on open_clip's ViT."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def maskclip_features(visual: Any, pixels: Tensor, smooth: bool = False) -> Tensor:
    """Give every patch its own place in the text space.

    All blocks but the last run as they are. In the last one every token attends to itself alone,
    so that attention returns its value vector through the output projection: the value path of
    MaskCLIP. As in MaskCLIP's published code for ViT, the block's residual and MLP stay; then
    the final norm and CLIP's projection follow, on patches instead of on the class token.

    Args:
        visual: open_clip's VisionTransformer.
        pixels: (N, 3, h * patch, w * patch), normalised as CLIP expects.
        smooth: see `smooth_by_keys`.

    Returns:
        (N, C, h, w).
    """
    tokens, (rows, columns) = embed_patches(visual, pixels)
    *first_blocks, last_block = visual.transformer.resblocks
    for block in first_blocks:
        tokens = block(tokens)
    keys = last_keys(last_block, tokens)[:, 1:] if smooth else None
    tokens = last_block(tokens, attn_mask=_only_itself(tokens))
    features: Tensor = visual.ln_post(tokens[:, 1:]) @ visual.proj  # (N, h * w, C)
    if keys is not None:
        features = smooth_by_keys(features, keys)
    return features.transpose(1, 2).reshape(len(pixels), -1, rows, columns)


def smooth_by_keys(features: Tensor, keys: Tensor) -> Tensor:
    """Sum over all patches of an image, weighted by the cosine of their keys.

    MaskCLIP's key smoothing, eq. 6, does so to class probabilities. Here there are no classes
    yet: the unit features are summed, and with them their products with any text.

    Args:
        features: (N, L, C).
        keys: (N, L, D) of the last block's attention.

    Returns:
        (N, L, C), of any length.
    """
    keys = F.normalize(keys, dim=-1)
    # (K K^T) F without the L x L matrix
    return keys @ (keys.transpose(1, 2) @ F.normalize(features, dim=-1))


def last_keys(block: Any, tokens: Tensor) -> Tensor:
    """Keys (N, L, width) of a block's attention, all heads side by side."""
    width = tokens.shape[-1]
    weight, bias = (
        parameter[width : 2 * width]
        for parameter in (block.attn.in_proj_weight, block.attn.in_proj_bias)
    )
    return F.linear(block.ln_1(tokens), weight, bias)


def embed_patches(visual: Any, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Embed patches and positions of images of any size.

    Returns:
        Tokens (N, 1 + h * w, width), class token first, as the first block takes them; (h, w).
    """
    patches = visual.conv1(pixels)  # (N, width, h, w)
    grid = (patches.shape[2], patches.shape[3])
    tokens = patches.flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.expand(len(tokens), 1, -1)
    positions = positions_for(visual.positional_embedding, visual.grid_size, grid)
    return visual.ln_pre(torch.cat([class_token, tokens], dim=1) + positions), grid


def positions_for(positions: Tensor, trained: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Interpolate learned positions (1 + g * g, width) to another grid; the first is no patch."""
    if grid == trained:
        return positions
    plane = positions[1:].T.reshape(1, -1, *trained)
    scaled = F.interpolate(plane, grid, mode='bicubic', align_corners=False)
    return torch.cat([positions[:1], scaled.flatten(2)[0].T])


def _only_itself(tokens: Tensor) -> Tensor:
    """Additive attention mask (L, L): softmax over the one logit left is exactly 1."""
    return torch.eye(tokens.shape[1], device=tokens.device).log()  # in operators that ONNX has
