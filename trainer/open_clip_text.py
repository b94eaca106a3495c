# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""CLIP models of open_clip: loading with errors that say what to do, and the text tower."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.prompts import unit_rows
from trainer.text import check_texts, short_digest
from trainer.torchvision_ops import make_torchvision_importable

BATCH_SIZE = 256
# What open_clip lets through from a failed download, or a file that holds something else.
LOAD_ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    AttributeError,
    KeyError,
    TypeError,
    StopIteration,
)
NO_WEIGHTS = (
    'connect this machine to the network once, or name a checkpoint file on disk as '
    '`pretrained`, or use the text encoder that needs no download (kind: minilm)'
)


@dataclass(frozen=True)
class OpenClipEncoder:
    """A CLIP model, called for its text tower.

    Attributes:
        name: model and weights.
        embedding_size: C.
        model: open_clip's CLIP, frozen; `ClipTeacher` uses its image tower.
        tokenizer: texts to token ids.
        device: where the text tower runs.
    """

    name: str
    embedding_size: int
    model: Any
    tokenizer: Any
    device: str = 'cpu'

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts(texts)
        rows = [np.zeros((0, self.embedding_size), dtype=np.float32)]
        for start in range(0, len(texts), BATCH_SIZE):
            tokens = self.tokenizer(list(texts[start : start + BATCH_SIZE])).to(self.device)
            rows.append(self.model.encode_text(tokens).float().cpu().numpy())
        return unit_rows(np.concatenate(rows))


def load_open_clip(
    model: str, pretrained: str, *, data_root: Path, device: str
) -> OpenClipEncoder:
    """Load a CLIP model with its weights.

    Args:
        model: open_clip's name of the architecture, such as `ViT-B-16`.
        pretrained: one of open_clip's tags for it, such as `openai` (downloaded once, then
            cached), or a checkpoint file, absolute or relative to `data_root`. A tag brings its
            own activation; for a file with OpenAI's weights name `ViT-B-16-quickgelu`.
        data_root: folder that a relative `pretrained` starts from.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: unknown model, no such weights, weights of another model, no such device.
    """
    make_torchvision_importable()
    open_clip = import_extra('open_clip', 'clip')
    check_device(device)
    _check_model_name(open_clip, model)
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    weights = (
        pretrained if tag else str(_checkpoint_file(open_clip, model, data_root / pretrained))
    )
    # open_clip only warns where an architecture's activation is not the one its weights had.
    quick_gelu = bool(tag.get('quick_gelu'))
    try:
        clip = open_clip.create_model(model, pretrained=weights, force_quick_gelu=quick_gelu)
        tokenizer = open_clip.get_tokenizer(model)
    except LOAD_ERRORS as error:
        raise InputError(
            'the weights of the CLIP model cannot be loaded',
            where=f'{model}, pretrained {pretrained}',
            got=f'{type(error).__name__}: {str(error)[:500]}',
            fix=NO_WEIGHTS,
        ) from error
    source = pretrained if tag else f'{Path(weights).name}@{short_digest(Path(weights))}'
    return OpenClipEncoder(
        name=f'open_clip/{model}/{source}',
        embedding_size=open_clip.get_model_config(model)['embed_dim'],
        model=clip.requires_grad_(False).eval().to(device),
        tokenizer=tokenizer,
        device=device,
    )


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        InputError: `cuda` or `cuda:N` without that device.
    """
    index = int(device.partition(':')[2] or 0)
    if device.startswith('cuda') and index >= torch.cuda.device_count():
        raise InputError(
            'the device is not there',
            expected=f'cpu, or one of {torch.cuda.device_count()} CUDA devices',
            got=device,
            fix='set device: cpu, or install a CUDA build of torch',
        )


def _check_model_name(open_clip: Any, model: str) -> None:
    names = open_clip.list_models()
    if model not in names:
        family = [name for name in names if name[:3] == model[:3]]
        raise InputError(
            'open_clip has no such model',
            expected=f'one of {", ".join(family or names)}',
            got=model,
        )


def _checkpoint_file(open_clip: Any, model: str, path: Path) -> Path:
    if path.is_file():
        return path
    tags = open_clip.list_pretrained_tags_by_model(model)
    raise InputError(
        'the weights are neither a tag of open_clip nor a file',
        where=path,
        expected=f'a file, or for {model} one of {", ".join(tags) or "(no tags)"}',
        fix=NO_WEIGHTS,
    )
