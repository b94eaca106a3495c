# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Weights that cannot be downloaded: one error, and not pages of retries."""

from __future__ import annotations

import logging

import pytest

from reldistill_ros.core.errors import InputError
from trainer.hub_log import without_log
from trainer.open_clip_text import load_open_clip
from trainer.torchvision_ops import make_torchvision_importable


def test_nothing_is_logged_inside_and_all_is_as_before_afterwards(caplog):
    def fail():
        with without_log():
            logging.getLogger('huggingface_hub').error('retrying')
            raise OSError('no network')

    with pytest.raises(OSError, match='no network'):
        fail()
    assert caplog.text == ''
    logging.getLogger('another').warning('heard')
    assert 'heard' in caplog.text


def test_weights_that_cannot_be_had_are_told_once(monkeypatch, caplog, tmp_path):
    make_torchvision_importable()
    open_clip = pytest.importorskip('open_clip', reason='the clip extra is not installed')

    def create_model(*_, **__):
        logging.error('Failed to download weights')
        raise RuntimeError('Name or service not known')

    monkeypatch.setattr(open_clip, 'create_model', create_model)
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*Name or service not known'):
        load_open_clip('ViT-B-16', 'openai', data_root=tmp_path, device='cpu')
    assert caplog.text == ''
