# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""CLIP and SigLIP models of open_clip: loading with errors that say what to do; text towers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn

from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.prompts import unit_rows
from trainer.hub_log import without_log
from trainer.text import check_texts, short_digest
from trainer.torchvision_ops import make_torchvision_importable
from trainer.weights_digest import weights_digest

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
CONFIG = 'open_clip_config.json'
NO_WEIGHTS = (
    'connect this machine to the network once, or name a checkpoint file or a folder of the hub '
    'as `pretrained`, or take another teacher: class maps (kind: label_maps), and with them the '
    'text encoder that needs no download (kind: minilm)'
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
            own activation; for a file with OpenAI's weights name `ViT-B-16-quickgelu`. Or the
            folder of a model as the Hugging Face hub has it: open_clip_config.json, weights, and
            the tokenizer, which SigLIP would download even where its weights are a file.
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
    path = None if tag else _checkpoint(open_clip, model, data_root / pretrained)
    # a folder brings its own configuration and tokenizer
    folder = f'local-dir:{path.resolve()}' if path and path.is_dir() else None
    try:
        with without_log():
            clip = open_clip.create_model(
                folder or model,
                pretrained=None if folder else str(path or pretrained),
                # open_clip only warns where an activation is not the one its weights had
                force_quick_gelu=bool(tag.get('quick_gelu')),
                require_pretrained=True,
            )
            tokenizer = open_clip.get_tokenizer(folder or model)
    except LOAD_ERRORS as error:
        raise InputError(
            'the weights of the CLIP model cannot be loaded',
            where=f'{model}, pretrained {pretrained}',
            got=f'{type(error).__name__}: {str(error)[:500]}',
            fix=NO_WEIGHTS,
        ) from error
    source = f'{path.name}@{_digest(path, clip)}' if path else pretrained
    return OpenClipEncoder(
        name=f'open_clip/{model}/{source}',
        embedding_size=open_clip.get_model_config(model)['embed_dim'],
        model=clip.requires_grad_(False).eval().to(device),
        tokenizer=tokenizer,
        device=device,
    )


def _digest(path: Path, model: nn.Module) -> str:
    """Digest of a checkpoint file, or of the weights that a folder's held."""
    return weights_digest(model) if path.is_dir() else short_digest(path)


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


def _checkpoint(open_clip: Any, model: str, path: Path) -> Path:
    """A checkpoint file, or a folder of this model."""
    if path.is_file():
        return path
    if (path / CONFIG).is_file():
        _check_folder(open_clip, model, path / CONFIG)
        return path
    tags = open_clip.list_pretrained_tags_by_model(model)
    raise InputError(
        'the weights are neither a tag of open_clip nor a file',
        where=path,
        expected=f'a file, a folder with {CONFIG}, or for {model} one of '
        f'{", ".join(tags) or "(no tags)"}',
        fix=NO_WEIGHTS,
    )


def _check_folder(open_clip: Any, model: str, config: Path) -> None:
    """Refuse a folder whose model has other towers than the one that is named."""
    try:
        found = _architecture(json.loads(config.read_text(encoding='utf-8'))['model_cfg'])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError('the configuration cannot be read', where=config, got=error) from error
    named = _architecture(open_clip.get_model_config(model))
    if found != named:
        raise InputError(
            'the folder holds another model than the one that is named',
            where=config,
            expected=f'{model}: {named}',
            got=found,
            fix='name as `model` the one that the folder holds',
        )


def _architecture(config: Any) -> dict[str, Any]:
    """What tells models apart; the hub leaves out settings that are as usual."""
    keys = ('timm_model_name', 'layers', 'width', 'patch_size')
    vision = config['vision_cfg']
    return {'embed_dim': config['embed_dim'], **{k: vision[k] for k in keys if k in vision}}
