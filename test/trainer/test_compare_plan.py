# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A plan stands for the right jobs, and each knows what decides its result."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_plan import MODULES, arguments_of, edit, write_plan

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from trainer.compare.compare import open_comparison
from trainer.compare.expansion import choose, expand, merge
from trainer.compare.plan import Plan
from trainer.config_files import CONFIG_FOLDER

SETTINGS = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(['kind', 'a', 'b']), inner, max_size=3),
    max_leaves=8,
)


def jobs_of(folder, groups=('main',), **given):
    return expand(open_comparison(arguments_of(folder, **given), MODULES), groups)


def fingerprints(folder, **given):
    return {name: job.fingerprint for name, job in jobs_of(folder, **given).items()}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_a_plan_is_expanded_seed_by_seed_with_what_is_needed_first(tmp_path):
    write_plan(tmp_path)
    jobs = jobs_of(tmp_path)
    assert len(jobs) == 1 + 2 * 2 * 4
    assert list(jobs)[:5] == [
        'prepare/drives/train',
        'maps/similarity/seed0/distil',
        'maps/similarity/seed0/zero_shot',
        'maps/similarity/seed0/few_shot_1',
        'maps/similarity/seed0/structure',
    ]
    order = list(jobs)
    for job in jobs.values():
        assert all(order.index(needed) < order.index(job.name) for needed in job.needs)
    seeds = [job.labels['seed'] for job in jobs.values() if job.labels]
    assert seeds == sorted(seeds)


def test_a_job_is_a_command_of_the_project_with_paths_of_its_own(tmp_path):
    write_plan(tmp_path)
    jobs = jobs_of(tmp_path)
    folder = tmp_path / 'out/jobs/maps/relational/seed1'
    data = str(tmp_path / 'out/data')
    distil = jobs['maps/relational/seed1/distil']
    assert distil.command == (
        *('fake_distil', f'{folder}/distil/settings.yaml'),
        *('--out', f'{folder}/distil/out', '--data', data),
    )
    settings = distil.files['settings.yaml']
    assert (settings['seed'], settings['loss'], settings['threads']) == (
        1,
        {'kind': 'relational'},
        1,
    )
    assert jobs['maps/relational/seed1/few_shot_1'].command == (
        *('fake_few_shot', f'{folder}/distil/out', f'{folder}/few_shot_1/protocol.yaml'),
        *('--out', f'{folder}/few_shot_1/out', '--data', data),
    )
    assert jobs['prepare/drives/train'].command == (
        'fake_prepare',
        '--out',
        f'{data}/drives/train',
    )


def test_where_the_folders_lie_does_not_decide_a_result(tmp_path):
    write_plan(tmp_path, prepare={})
    here = jobs_of(tmp_path, data=tmp_path / 'here')
    there = jobs_of(tmp_path, data=tmp_path / 'there')
    assert (
        here['maps/similarity/seed0/distil'].command
        != there['maps/similarity/seed0/distil'].command
    )
    assert fingerprints(tmp_path, data=tmp_path / 'here') == fingerprints(
        tmp_path, data=tmp_path / 'there'
    )


def test_a_changed_loss_changes_its_own_runs_and_all_that_judges_them(tmp_path):
    path = write_plan(tmp_path)
    before = fingerprints(tmp_path)
    losses = {'similarity': {'loss': {'kind': 'similarity'}, 'pairs': 99}}
    edit(path, losses={**yaml.safe_load(path.read_text())['losses'], **losses})
    after = fingerprints(tmp_path)
    assert changed(before, after) == {name for name in before if '/similarity/' in name}


def test_a_changed_protocol_changes_its_own_jobs_only(tmp_path):
    write_plan(tmp_path)
    before = fingerprints(tmp_path)
    edit(tmp_path / 'protocol.yaml', epochs=9)
    after = fingerprints(tmp_path)
    assert changed(before, after) == {name for name in before if name.endswith('few_shot_1')}


def test_a_changed_vocabulary_of_the_project_changes_the_runs_that_name_it(tmp_path, monkeypatch):
    write_plan(tmp_path)
    (tmp_path / 'config').mkdir()
    monkeypatch.setattr('trainer.config_files.CONFIG_FOLDER', tmp_path / 'config')
    (tmp_path / 'config/tiny.yaml').write_text('one')
    before = fingerprints(tmp_path)
    (tmp_path / 'config/tiny.yaml').write_text('other')
    assert 'maps/relational/seed0/distil' in changed(before, fingerprints(tmp_path))


def test_data_made_in_another_way_change_everything(tmp_path):
    path = write_plan(tmp_path)
    before = fingerprints(tmp_path)
    edit(path, prepare={'drives/train': {'command': "fake_prepare --out '{out}' --sweeps 3"}})
    assert changed(before, fingerprints(tmp_path)) == set(before)


def test_only_takes_what_the_chosen_jobs_need_with_it(tmp_path):
    write_plan(tmp_path)
    chosen = choose(jobs_of(tmp_path), '*/relational/seed1/zero_shot')
    assert list(chosen) == [
        'prepare/drives/train',
        'maps/relational/seed1/distil',
        'maps/relational/seed1/zero_shot',
    ]
    assert choose(jobs_of(tmp_path), None).keys() == jobs_of(tmp_path).keys()
    with pytest.raises(InputError, match=r'matches no job'):
        choose(jobs_of(tmp_path), '*/seed7/*')


@given(SETTINGS)
def test_settings_with_no_change_or_with_themselves_stay_as_they_are(values):
    assert merge(values, values) == values
    if isinstance(values, dict):
        assert merge(values, {}) == values


@given(SETTINGS, SETTINGS)
def test_a_change_made_twice_is_made_once(values, changes):
    once = merge(values, changes)
    assert merge(once, changes) == once


def test_another_kind_replaces_a_section_and_the_same_kind_changes_it():
    values = {'loss': {'kind': 'relational', 'intra_weight': 2}, 'pairs': 8}
    assert merge(values, {'loss': {'kind': 'similarity'}}) == {
        'loss': {'kind': 'similarity'},
        'pairs': 8,
    }
    assert merge(values, {'loss': {'kind': 'relational', 'anchor_weights': True}})['loss'] == {
        'kind': 'relational',
        'intra_weight': 2,
        'anchor_weights': True,
    }


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seeds': [0, 0]}, 'a seed stands twice'),
        ({'reference': 'best'}, 'reference best is not among the losses'),
        (
            {'groups': {'g': {'teachers': ['maps'], 'losses': ['x'], 'protocols': ['zero_shot']}}},
            'group g: x not among the losses',
        ),
        ({'teachers': {n: {'run': 'run.yaml'} for n in ('maps', 'all')}}, 'called all'),
        ({'prepare': {'../train': {'command': 'x'}}}, 'pattern'),
        ({'speed': 3}, 'speed'),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(tmp_path, changes, message):
    path = write_plan(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        load_settings(path, Plan)


def test_a_change_that_no_run_knows_is_refused_before_anything_runs(tmp_path):
    write_plan(tmp_path, changes={'epoch': 3})
    with pytest.raises(
        InputError, match=r'epoch: there is no such key(.|\n)*maps/similarity/seed0/distil'
    ):
        jobs_of(tmp_path)


def test_a_plan_that_makes_its_data_takes_no_other_data(tmp_path):
    write_plan(tmp_path)
    with pytest.raises(InputError, match='makes its own data'):
        open_comparison(arguments_of(tmp_path, data=tmp_path), MODULES)


def test_a_group_that_the_plan_does_not_have_is_refused(tmp_path):
    write_plan(tmp_path)
    with pytest.raises(InputError, match='no such group'):
        open_comparison(arguments_of(tmp_path, groups=['ablation']), MODULES)


@pytest.mark.parametrize('path', sorted((CONFIG_FOLDER / 'plans').glob('*.yaml')), ids=str)
def test_the_plans_of_the_project_can_be_expanded_and_take_at_most_90_minutes(tmp_path, path):
    arguments = arguments_of(tmp_path)
    arguments.plan = path
    comparison = open_comparison(arguments, MODULES)
    plan = comparison.plan
    jobs = expand(comparison, [n for n, group in plan.groups.items() if not group.optional])
    assert sum(job.minutes for job in jobs.values()) / 2 <= 90
    assert len(expand(comparison, plan.groups)) > len(jobs)
