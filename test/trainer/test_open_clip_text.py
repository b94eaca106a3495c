# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""CLIP's text tower and the loading of its weights, on a tiny random CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reldistill_ros.core.errors import InputError
from trainer.open_clip_text import OpenClipEncoder, load_open_clip
from trainer.torchvision_ops import make_torchvision_importable

TINY_CLIP = {
    'embed_dim': 24,
    'vision_cfg': {'image_size': 32, 'layers': 2, 'width': 32, 'head_width': 16, 'patch_size': 8},
    'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 32, 'heads': 2, 'layers': 2},
}


@pytest.fixture(scope='module')
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Register a tiny architecture and write random weights of it."""
    make_torchvision_importable()
    open_clip = pytest.importorskip('open_clip', reason='the clip extra is not installed')
    folder = tmp_path_factory.mktemp('open_clip')
    (folder / 'tiny-text-test.json').write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / 'tiny-text-test.json')
    torch.manual_seed(0)
    torch.save(open_clip.create_model('tiny-text-test').state_dict(), folder / 'tiny.pt')
    return folder


def load(
    folder: Path,
    *,
    model: str = 'tiny-text-test',
    pretrained: str = 'tiny.pt',
    device: str = 'cpu',
) -> OpenClipEncoder:
    return load_open_clip(model, pretrained, data_root=folder, device=device)


def test_a_local_checkpoint_loads_with_its_own_text_tower(tiny_model: Path):
    import open_clip

    encoder = load(tiny_model)
    rows = encoder(['a car', 'a tree'])
    model = open_clip.create_model('tiny-text-test', pretrained=str(tiny_model / 'tiny.pt')).eval()
    with torch.no_grad():
        tokens = open_clip.get_tokenizer('tiny-text-test')(['a car', 'a tree'])
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert encoder.embedding_size == 24
    assert encoder.name.startswith('open_clip/tiny-text-test/tiny.pt@')
    assert encoder([]).shape == (0, 24)


def test_more_texts_than_a_batch_come_out_in_order(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder = load(tiny_model)
    texts = ['car', 'tree', 'road', 'grass', 'pole']
    whole = encoder(texts)
    monkeypatch.setattr('trainer.open_clip_text.BATCH_SIZE', 2)
    np.testing.assert_allclose(encoder(texts), whole, atol=1e-6)


def test_weights_that_cannot_be_downloaded_say_what_to_do(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError('Name or service not known')

    monkeypatch.setattr('open_clip.factory.download_pretrained', no_network)
    with pytest.raises(InputError) as caught:
        load(tiny_model, model='ViT-B-16', pretrained='openai')
    message = str(caught.value)
    assert 'ViT-B-16, pretrained openai' in message
    assert 'Name or service not known' in message
    assert 'checkpoint file' in message
    assert 'kind: minilm' in message


def test_a_tag_brings_the_activation_its_weights_were_trained_with(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    import open_clip

    asked = {}

    def create(model: str, **values: object) -> None:
        asked[values['pretrained']] = values['force_quick_gelu']
        raise RuntimeError('seen enough')

    monkeypatch.setattr(open_clip, 'create_model', create)
    for tag in ('openai', 'laion2b_s34b_b88k'):
        with pytest.raises(InputError, match='seen enough'):
            load(tiny_model, model='ViT-B-16', pretrained=tag)
    assert asked == {'openai': True, 'laion2b_s34b_b88k': False}


def test_weights_that_are_neither_tag_nor_file_are_refused(tiny_model: Path):
    with pytest.raises(
        InputError, match=r'(?s)neither a tag.*absent\.pt.*tiny-text-test.*no tags'
    ):
        load(tiny_model, pretrained='absent.pt')
    with pytest.raises(InputError, match=r'(?s)neither a tag.*openai, laion400m_e31'):
        load(tiny_model, model='ViT-B-16', pretrained='opneai')


def test_an_unknown_architecture_is_refused_with_its_family(tiny_model: Path):
    with pytest.raises(InputError, match=r'(?s)no such model.*ViT-B-16.*got: ViT-B-17'):
        load(tiny_model, model='ViT-B-17')


@pytest.mark.parametrize('content', [b'', b'no checkpoint at all', b'PK\x03\x04'])
def test_a_file_that_is_no_checkpoint_is_refused(tiny_model: Path, content: bytes):
    (tiny_model / 'bad.pt').write_bytes(content)
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*bad\.pt'):
        load(tiny_model, pretrained='bad.pt')


def test_a_bad_safetensors_file_is_refused(tiny_model: Path):
    (tiny_model / 'bad.safetensors').write_bytes(b'no checkpoint')
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*bad\.safetensors'):
        load(tiny_model, pretrained='bad.safetensors')


def test_weights_of_another_architecture_are_refused(tiny_model: Path):
    for content in ({'visual.proj': torch.zeros(3, 3)}, {}, [1, 2], torch.zeros(3)):
        torch.save(content, tiny_model / 'other.pt')
        with pytest.raises(InputError, match=r'(?s)cannot be loaded.*other\.pt'):
            load(tiny_model, pretrained='other.pt')


def test_a_gpu_that_is_not_there_is_refused(tiny_model: Path):
    with pytest.raises(InputError, match=r'(?s)device is not there.*got: cuda:99.*device: cpu'):
        load(tiny_model, device='cuda:99')
