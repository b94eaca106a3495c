# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A CLIP of open_clip with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainer.open_clip_text import OpenClipEncoder
from trainer.torchvision_ops import make_torchvision_importable

TINY_TEXT = {'context_length': 77, 'vocab_size': 49408, 'width': 32, 'heads': 2, 'layers': 2}
TINY_VISION = {'image_size': 32, 'layers': 1, 'width': 32, 'head_width': 16, 'patch_size': 8}


def tiny_clip(folder: Path, name: str, text: dict[str, object], **more: object) -> OpenClipEncoder:
    """A CLIP with random weights, large enough that its sentences differ."""
    make_torchvision_importable()
    open_clip = pytest.importorskip('open_clip', reason='the clip extra is not installed')
    config = {'embed_dim': 24, 'vision_cfg': TINY_VISION, 'text_cfg': text} | more
    (folder / f'{name}.json').write_text(json.dumps(config))
    open_clip.add_model_config(folder / f'{name}.json')
    torch.manual_seed(0)
    model = open_clip.create_model(name).requires_grad_(False).eval()
    size, tokenizer = config['embed_dim'], open_clip.get_tokenizer(name)
    return OpenClipEncoder(f'open_clip/{name}/random', size, model, tokenizer)
