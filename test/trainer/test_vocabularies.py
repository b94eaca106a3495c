# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The vocabularies that come with the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.datasets.pandaset import PandaSet, PandaSetSettings

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / 'config' / 'vocabularies').glob('*.yaml'))
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
COCO_NAMES = DATA / 'clip_text' / 'coco_stuff_171_names.txt'


def load(name):
    return load_settings(REPOSITORY / 'config' / 'vocabularies' / f'{name}.yaml', Vocabulary)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_vocabulary_is_valid_and_named_after_its_file(path):
    assert load_settings(path, Vocabulary).name == path.stem


def test_both_cityscapes_lists_hold_the_19_classes_in_the_same_order():
    plain, coco = load('cityscapes'), load('cityscapes_coco_stuff')
    assert plain.class_names == coco.class_names
    assert [plain.class_names.index(name) for name in ('road', 'sky', 'bicycle')] == [0, 10, 18]
    assert len(plain.classes) == 19


def test_every_word_of_the_evaluation_is_taught_by_a_class_of_its_own():
    coco = load('cityscapes_coco_stuff')
    assert set(load('coarse_driving').prompts) <= set(coco.prompts)
    assert len(coco.prompts) == 19


@pytest.mark.skipif(not COCO_NAMES.is_file(), reason=f'no text embeddings: {COCO_NAMES} is absent')
@pytest.mark.parametrize('name', ['cityscapes_coco_stuff', 'coarse_driving'])
def test_every_word_has_a_real_text_embedding(name):
    vocabulary = load(name)
    assert vocabulary.templates == ('{}',)
    assert set(vocabulary.prompts) <= set(COCO_NAMES.read_text().splitlines())


@pytest.mark.skipif(
    not (DATA / 'pandaset').is_dir(), reason=f'no real scenes: {DATA / "pandaset"} is absent'
)
def test_every_mapped_label_is_one_of_the_real_scenes():
    scene = PandaSet(PandaSetSettings(format='pandaset', path='pandaset/001'), DATA)
    assert set(load('coarse_driving').label_names['pandaset']) <= set(scene.label_names)
