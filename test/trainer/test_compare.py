# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The comparison as a user runs it, and what its folder holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from tiny_plan import MODULES, arguments_of, edit, run_plan, starts, write_plan

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from trainer.compare.compare import compare
from trainer.compare.plan import MODULES as REAL_MODULES
from trainer.compare.plan import Plan
from trainer.settings import CHECKOUT, RunSettings

ONE_RUN = '*/relational/seed0/zero_shot'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_plan(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    return tmp_path


def test_the_folder_holds_what_is_needed_to_make_it_again(folder, tmp_path_factory):
    assert run_plan(folder, only=ONE_RUN) == 0
    inputs = folder / 'out/inputs'
    assert load_settings(inputs / 'plan.yaml', Plan) == load_settings(folder / 'plan.yaml', Plan)
    settings = folder / 'out/jobs/maps/relational/seed0/distil/settings.yaml'
    assert load_settings(settings, RunSettings).loss.kind == 'relational'
    origin = json.loads((folder / 'out/provenance.json').read_text())
    assert {'git_commit', 'packages', 'data_root'} <= origin.keys()
    again = tmp_path_factory.mktemp('again')
    shutil.copytree(inputs, again, dirs_exist_ok=True)
    assert run_plan(again, only=ONE_RUN) == 0
    marker = 'out/jobs/maps/relational/seed0/zero_shot/done.json'
    here, there = (json.loads((place / marker).read_text()) for place in (folder, again))
    assert here['fingerprint'] == there['fingerprint']


def test_an_optional_group_runs_where_it_is_asked_for_and_counts_from_then_on(folder):
    plan = yaml.safe_load((folder / 'plan.yaml').read_text())
    more = {'teachers': ['maps'], 'losses': ['extra'], 'protocols': ['zero_shot']}
    edit(
        folder / 'plan.yaml',
        losses={**plan['losses'], 'extra': {'loss': {'kind': 'similarity'}, 'pairs': 50}},
        groups={**plan['groups'], 'more': {**more, 'optional': True}},
        seeds=[0],
    )
    assert run_plan(folder) == 0
    assert not [name for name in starts(folder) if 'extra' in name]
    assert run_plan(folder, groups=['more']) == 0
    assert len([name for name in starts(folder) if 'extra' in name]) == 2
    assert run_plan(folder) == 0
    rows = json.loads((folder / 'out/results.json').read_text())['rows']
    assert {row['loss'] for row in rows} == {'similarity', 'relational', 'extra'}


def test_the_estimate_counts_what_is_left(folder, capsys):
    run_plan(folder, only=ONE_RUN)
    run_plan(folder, only=ONE_RUN)
    told = capsys.readouterr().out
    assert (
        '3 jobs, 0 of them done; the rest is about 3 minutes of work, 2 with 2 at a time' in told
    )
    assert '3 jobs, 3 of them done; the rest is about 0 minutes of work' in told


def test_no_workers_are_refused(folder):
    with pytest.raises(InputError, match='--workers'):
        run_plan(folder, workers=0)


def test_a_mistake_in_the_plan_ends_the_command_with_a_message(folder):
    edit(folder / 'plan.yaml', reference='best')
    command = [
        sys.executable,
        '-m',
        'trainer.compare',
        folder / 'plan.yaml',
        '--out',
        folder / 'x',
    ]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert 'the reference best is not among the losses' in ended.stderr
    assert 'Traceback' not in ended.stderr
    assert not (folder / 'x').exists()


@pytest.mark.slow
def test_the_real_commands_work_together(tmp_path):
    town = 'trainer.datasets.synthetic {out} --workers 1 --sweeps 2'
    plan = {
        'data': 'tiny_town',
        'seeds': [0],
        'reference': 'relational',
        'prepare': {
            'train': {'command': f'{town} --seed 1 --layout train'},
            'held_out': {'command': f'{town} --seed 101 --layout heldout'},
        },
        'changes': {'epochs': 1, 'pairs': 64, 'workers': 0, 'voxel': {'voxel_size': 0.8}},
        'teachers': {'label_maps': {'run': 'runs/town.yaml'}},
        'losses': {'relational': {'loss': {'kind': 'relational'}}},
        'protocols': {
            'zero_shot': {'kind': 'evaluate'},
            'structure': {'kind': 'structure'},
            'linear_probe': {
                'kind': 'few_shot',
                'file': 'protocols/town_linear_probe.yaml',
                'changes': {'epochs': 1},
            },
        },
        'groups': {
            'main': {
                'teachers': ['label_maps'],
                'losses': ['relational'],
                'protocols': ['zero_shot', 'structure', 'linear_probe'],
            }
        },
    }
    (tmp_path / 'plan.yaml').write_text(yaml.safe_dump(plan))
    assert REAL_MODULES != MODULES
    assert compare(arguments_of(tmp_path), REAL_MODULES) == 0
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert {row['protocol'] for row in results['rows']} == {'zero_shot', 'linear_probe'}
    assert all(0 < row['miou_mean'] < 1 for row in results['rows'])
    assert {'cross_gap', 'intra_gap'} <= {row['measure'] for row in results['structure']}
    assert (tmp_path / 'out/gap_cross_gap.png').exists()
