# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Lists of labels: nested, stored, read back, and only their labels are used."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_drive import LabelledDrive
from tiny_drive import WORDS

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer import splits
from trainer.datasets.open import open_dataset
from trainer.few_shot_settings import ProtocolSettings
from trainer.splits import (
    LabelledSector,
    Split,
    azimuths,
    check_sweeps,
    draw_nested,
    keep_sectors,
    labelled_sectors,
    make_split,
    read_split,
    true_classes,
    write_split,
)

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / 'config'
PROTOCOLS = sorted((CONFIG / 'protocols').glob('*.yaml'))
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
FAMILIES = ('town', 'town_other_sensor', 'pandaset_001', 'pandaset_001_pandargt')
VOCABULARY = Vocabulary(
    version=1, name='tiny', classes=[{'name': word, 'color': (0, 0, 0)} for word in WORDS]
)


def points_at(*degrees):
    angles = np.radians(degrees)
    columns = [7 * np.cos(angles), 7 * np.sin(angles), angles, angles]
    return np.stack(columns, axis=1).astype(np.float32)


def sectors_of(counts):
    return [LabelledSector(f's{i // 3}', i % 3 * 120, i % 3 * 120 + 120, n) for i, n in counts]


def protocol(**changes):
    drive = {'format': 'pandaset', 'path': 'x'}
    values = {
        'name': 'few',
        'kind': 'fine_tune',
        'percent': 10,
        'split': 'list.yaml',
        'vocabulary': 'tiny.yaml',
        'train': [drive],
        'evaluate': [drive],
        'epochs': 1,
        'batch_size': 1,
        'lr': 1e-3,
        'head_lr': 1e-2,
    }
    return ProtocolSettings(**{**values, **changes})


def test_azimuth_is_zero_ahead_and_ninety_to_the_left():
    found = azimuths(points_at(0, 90, 180, 270, 359))
    np.testing.assert_allclose(found, [0, 90, 180, 270, 359], atol=1e-4)


def test_an_azimuth_is_never_a_full_circle():
    almost = np.array([[1, -1e-30, 0, 0], [1, -0.0, 0, 0]], np.float32)
    assert (azimuths(almost) < 360).all()


def test_labels_outside_the_sectors_are_ignored():
    labels = np.arange(5, dtype=np.uint8)
    kept = keep_sectors(points_at(5, 25, 45, 200, 355), labels, [(20.0, 40.0), (350.0, 360.0)])
    np.testing.assert_array_equal(kept, [255, 1, 255, 255, 4])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 18, 180]))
@settings(max_examples=30, deadline=None)
def test_sectors_side_by_side_share_no_point_and_leave_none_out(seed, num):
    points = np.random.default_rng(seed).normal(size=(50, 4)).astype(np.float32)
    edges = np.linspace(0, 360, num + 1)
    kept = [keep_sectors(points, np.zeros(50, np.uint8), [pair]) == 0 for pair in pairwise(edges)]
    np.testing.assert_array_equal(np.sum(kept, axis=0), 1)


def test_every_labelled_point_is_counted_in_its_sector():
    drive = LabelledDrive()
    found = labelled_sectors([drive], VOCABULARY, width=20)
    assert sum(sector.num_points for sector in found) == 4 * 1200
    points = drive[0].points
    for sector in found[:3]:
        inside = keep_sectors(points, drive[0].labels, [(sector.start, sector.stop)])
        assert (inside != IGNORE_INDEX).sum() == sector.num_points


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(0, 100),
    st.lists(st.floats(0.5, 99), min_size=2, max_size=4),
)
def test_smaller_shares_lie_inside_larger_ones_and_hold_what_they_say(counts, seed, percents):
    sectors = sectors_of(enumerate(counts))
    drawn = draw_nested(sectors, percents, seed)
    for small, large in pairwise(sorted(percents)):
        assert {*drawn[small]} <= {*drawn[large]}
    for percent, chosen in drawn.items():
        held = [sector.num_points for sector in chosen]
        wanted = percent / 100 * sum(counts)
        assert sum(held) >= wanted * (1 - 1e-9)
        assert sum(held[:-1]) < wanted


def test_the_seed_decides_what_is_drawn():
    sectors = sectors_of(enumerate([5] * 100))
    first, again, other = (draw_nested(sectors, [10], seed)[10] for seed in (0, 0, 1))
    assert first == again
    assert {*first} != {*other}


def test_a_written_list_reads_back_the_same(tmp_path):
    sectors = sectors_of(enumerate([5] * 9))
    split = make_split(10.0, 3, sectors[2:7])
    write_split(tmp_path / 'list.yaml', split)
    assert read_split(protocol(), tmp_path) == split
    assert split.sectors == {
        's0': ((240.0, 360.0),),
        's1': ((0.0, 120.0), (120.0, 240.0), (240.0, 360.0)),
        's2': ((0.0, 120.0),),
    }


def test_a_list_of_another_share_is_refused(tmp_path):
    write_split(tmp_path / 'list.yaml', make_split(5.0, 0, sectors_of([(0, 1)])))
    with pytest.raises(InputError, match=r'(?s)another share.*percent: 10.*got: 5'):
        read_split(protocol(), tmp_path)


def test_a_list_that_is_not_there_is_named_with_what_makes_it(tmp_path):
    with pytest.raises(InputError, match=r'(?s)does not exist.*list\.yaml.*trainer\.splits'):
        read_split(protocol(), tmp_path)


def test_a_malformed_list_is_refused(tmp_path):
    for sectors in ({}, {'a': [[0, 361]]}, {'a': [[0]]}, {'a': ['all']}):
        (tmp_path / 'list.yaml').write_text(yaml.safe_dump({'percent': 10, 'sectors': sectors}))
        with pytest.raises(InputError, match='not valid'):
            read_split(protocol(), tmp_path)


def test_a_list_of_other_drives_is_refused():
    split = make_split(10.0, 0, sectors_of(enumerate([1] * 6)))
    check_sweeps(split, {'s0', 's1', 's2'})
    with pytest.raises(InputError, match=r'(?s)s1.*1 of 2 sweeps are missing'):
        check_sweeps(split, {'s0'})


def test_the_command_writes_one_list_for_each_share(tmp_path, monkeypatch, capsys):
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump(VOCABULARY.model_dump(mode='json')))
    values = protocol().model_dump(mode='json')
    (tmp_path / 'protocol.yaml').write_text(yaml.safe_dump(values))
    monkeypatch.setattr(splits, 'open_dataset', lambda *_: LabelledDrive())
    arguments = ['--data', tmp_path, '--out', tmp_path / 'lists/mine', '--sector', 5]
    command = ['splits', tmp_path / 'protocol.yaml', *arguments, '--percents', 2.5, 50]
    monkeypatch.setattr(sys, 'argv', list(map(str, command)))
    splits.main()
    small, large = (load_settings(tmp_path / f'lists/mine_{p}.yaml', Split) for p in (2.5, 50))
    assert (small.percent, large.percent, small.seed) == (2.5, 50, 0)
    assert all({*pairs} <= {*large.sectors[name]} for name, pairs in small.sectors.items())
    assert 'mine_2.5.yaml' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [('--sector', '7', 'circle'), ('--sector', '0', 'circle'), ('--percents', '100', 'share')],
)
def test_sectors_and_shares_that_are_not_possible_are_refused(
    option, value, message, tmp_path, monkeypatch
):
    command = ['splits', 'protocol.yaml', '--out', str(tmp_path / 'mine'), option, value]
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(InputError, match=message):
        splits.main()


@pytest.mark.parametrize('family', FAMILIES)
def test_stored_lists_are_nested(family):
    lists = [load_settings(CONFIG / f'splits/{family}_{p}.yaml', Split) for p in (1, 5, 10, 25)]
    for small, large in pairwise(lists):
        assert small.percent < large.percent
        for name, pairs in small.sectors.items():
            assert {*pairs} <= {*large.sectors[name]}


@pytest.mark.parametrize('path', PROTOCOLS, ids=lambda path: path.stem)
def test_stored_protocols_are_valid_and_their_lists_are_of_their_drives(path):
    stored = load_settings(path, ProtocolSettings)
    assert path.stem.endswith(stored.name)
    split = read_split(stored, DATA)
    if split is not None:
        drive = stored.train[0].path.as_posix()
        assert all(name.startswith(f'{drive}/') for name in split.sectors)


@pytest.mark.skipif(
    not (DATA / 'pandaset').is_dir(), reason=f'no real scenes: {DATA / "pandaset"} is absent'
)
@pytest.mark.parametrize('name', ['pandaset_few_shot_1', 'pandaset_few_shot_ood'])
def test_stored_lists_of_real_scenes_hold_the_share_that_they_say(name):
    stored = load_settings(CONFIG / f'protocols/{name}.yaml', ProtocolSettings)
    vocabulary = load_settings(CONFIG / stored.vocabulary, Vocabulary)
    split = read_split(stored, DATA)
    dataset = open_dataset(stored.train[0], DATA)
    table = vocabulary.label_table(dataset.name, dataset.label_names)
    total = held = 0
    for sample in (dataset[index] for index in range(len(dataset))):
        classes = true_classes(sample, table)
        sectors = split.sectors.get(sample.sample_id, ())
        total += (classes != IGNORE_INDEX).sum()
        held += (keep_sectors(sample.points, classes, sectors) != IGNORE_INDEX).sum()
    assert stored.percent <= 100 * held / total < stored.percent + 1
