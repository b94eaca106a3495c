# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The complete runs on public data sets: their settings fit the data sets and vocabularies."""

from __future__ import annotations

import importlib.util

import pytest
from tiny_nuscenes import CATEGORIES, TinyNuScenes
from tiny_semantic_kitti import write_sequence

from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.config_files import CONFIG_FOLDER
from trainer.datasets.open import open_dataset
from trainer.datasets.semantic_kitti import SPLITS
from trainer.settings import RunSettings

VAL_SCENE, TRAIN_SCENE = 'scene-0003', 'scene-0001'
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec('pyarrow') is None,
    reason='the optional package pyarrow is not installed',
)


def load_run(name):
    run = load_settings(CONFIG_FOLDER / 'runs' / f'{name}.yaml', RunSettings)
    return run, load_settings(CONFIG_FOLDER / run.vocabulary, Vocabulary)


def write_nuscenes(root):
    TinyNuScenes(root / 'nuscenes', version='v1.0-trainval', scenes=(TRAIN_SCENE, VAL_SCENE))


def open_drives(run, root):
    return [open_dataset(drive, root) for drive in (*run.train, *run.evaluate)]


def check_recipe(run):
    """CLIP teaches with one of the field's recipes, and the words are those of the same model."""
    assert run.teacher.kind == 'clip'
    assert run.text.kind == 'open_clip'
    assert run.network == 'minkunet34'
    optimiser = run.optimiser
    assert (optimiser.kind, optimiser.lr, optimiser.momentum) == ('sgd', 0.5, 0.9)
    assert (run.epochs, run.batch_size, run.pairs) == (50, 16, 4096)


def test_the_nuscenes_run_opens_its_splits_and_knows_their_labels(tmp_path):
    run, vocabulary = load_run('nuscenes')
    write_nuscenes(tmp_path)
    train, val = open_drives(run, tmp_path)
    check_recipe(run)
    assert {name.split('/')[1] for name in train.sample_ids} == {TRAIN_SCENE}
    assert {name.split('/')[1] for name in val.sample_ids} == {VAL_SCENE}
    assert len(train[0].images) == 6
    table = vocabulary.label_table(val.name, val.label_names)
    assert val.label_names == CATEGORIES
    assert set(table[:32]) == {*range(16), 255}
    assert run.inputs.intensity_mean == pytest.approx(18.742 / 255, abs=1e-4)
    assert run.inputs.intensity_std == pytest.approx(22.046 / 255, abs=1e-4)


def test_the_semantic_kitti_run_opens_its_splits_and_knows_their_labels(tmp_path):
    run, vocabulary = load_run('semantic_kitti')
    for number in (*SPLITS['train'], *SPLITS['val']):
        write_sequence(tmp_path / 'semantic_kitti', number, num_sweeps=1)
    train, val = open_drives(run, tmp_path)
    check_recipe(run)
    assert (len(train), len(val)) == (10, 1)
    table = vocabulary.label_table(val.name, val.label_names)
    assert set(table[: len(val.label_names)]) == {*range(19), 255}
    assert run.voxel.voxel_size == 0.05


@needs_pyarrow
def test_the_argoverse2_run_is_judged_on_nuscenes(tmp_path):
    from tiny_argoverse2 import YAWS, write_log

    run, vocabulary = load_run('argoverse2')
    write_nuscenes(tmp_path)
    write_log(tmp_path / 'argoverse2' / 'sensor' / 'train' / 'a_log')
    drive = run.train[0].model_copy(update={'cameras': tuple(YAWS)})
    train, val = open_dataset(drive, tmp_path), open_dataset(run.evaluate[0], tmp_path)
    check_recipe(run)
    assert len(train[0].images) == 3
    assert 'intensity' not in run.inputs.features
    assert set(vocabulary.label_table(val.name, val.label_names)[:32]) == {*range(16), 255}


def test_a_drive_that_does_not_exist_names_its_format(tmp_path):
    run, _ = load_run('nuscenes')
    with pytest.raises(ValueError, match=r'(?s)does not exist.*format nuscenes'):
        open_dataset(run.train[0], tmp_path)
