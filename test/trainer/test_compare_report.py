# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The report of figures that are known beforehand."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from tiny_plan import MODULES, arguments_of, edit, write_plan

from reldistill_ros.core.errors import InputError
from trainer.compare.compare import open_comparison
from trainer.compare.expansion import expand
from trainer.compare.jobs import Outcome
from trainer.compare.report import collect_scores, write_report

MIOU = {'similarity': (0.40, 0.45, 0.50), 'relational': (0.50, 0.60, 0.70)}


@pytest.fixture
def comparison(tmp_path):
    """Two losses, three seeds; few-shot is half of zero-shot, the gap is what is missing to 1."""
    write_plan(tmp_path, seeds=[0, 1, 2], gaps=['cross_gap'])
    comparison = open_comparison(arguments_of(tmp_path), MODULES)
    for job in expand(comparison, ['main']).values():
        write_result(job)
    return comparison


def write_result(job):
    """What a command would have left."""
    job.result.parent.mkdir(parents=True, exist_ok=True)
    miou = MIOU[job.labels['loss']][job.labels['seed']] if job.labels else 0
    values = {
        'evaluate': {
            'zero_shot': {'miou': miou, 'iou': {'car': 1.0}},
            'corruptions': {'fog': {'1': miou - 0.1, '2': miou - 0.3}},
        },
        'few_shot': {'protocol': 'few_shot_1', 'miou': miou / 2},
        'structure': {'cross_gap': 1 - miou, 'tolerance_2d': None, 'pairs': 9, 'seed': 0},
    }
    if job.kind != 'prepare':
        job.result.write_text(json.dumps(values.get(job.kind, 0)))
    else:
        job.result.mkdir()
    job.folder.mkdir(parents=True, exist_ok=True)
    record = {'fingerprint': job.fingerprint, 'seconds': 90.0}
    (job.folder / 'done.json').write_text(json.dumps(record))


def report(comparison, outcomes=None):
    jobs = expand(comparison, comparison.plan.groups)
    return write_report(comparison, jobs, outcomes or {}, 'python -m trainer.compare plan.yaml')


def row_of(rows, **wanted):
    (row,) = (row for row in rows if wanted.items() <= row.items())
    return row


def test_the_rows_hold_mean_and_deviation_of_every_protocol(comparison):
    rows = report(comparison)['rows']
    assert row_of(rows, loss='relational', protocol='zero_shot') == {
        'data': 'tiny',
        'teacher': 'maps',
        'loss': 'relational',
        'protocol': 'zero_shot',
        'miou_mean': pytest.approx(0.6),
        'miou_std': pytest.approx(0.1),
        'seeds': 3,
    }
    assert row_of(rows, loss='similarity', protocol='few_shot_1')['miou_mean'] == pytest.approx(
        0.225
    )
    fog = row_of(rows, loss='similarity', protocol='zero_shot.fog')
    assert fog['miou_mean'] == pytest.approx(0.25)  # 0.2 less on average
    assert {row['protocol'] for row in rows} == {'zero_shot', 'zero_shot.fog', 'few_shot_1'}


def test_structure_significance_and_correlations_are_told(comparison):
    results = report(comparison)
    assert {row['measure'] for row in results['structure']} == {'cross_gap'}  # not pairs, seed
    gap = row_of(results['structure'], loss='similarity')
    assert (gap['measure'], gap['mean']) == ('cross_gap', pytest.approx(0.55))
    test = row_of(results['significance'], loss='similarity', protocol='zero_shot')
    assert test['difference'] == pytest.approx(-0.15)
    assert test['p_wilcoxon'] == 0.25
    correlation = row_of(results['correlations'], measure='cross_gap', protocol='few_shot_1')
    assert correlation['pearson'] == pytest.approx(-1)
    assert correlation['runs'] == 6


def test_every_single_figure_is_kept_with_its_job(comparison):
    figures = report(comparison)['figures']
    car = row_of(figures, job='maps/relational/seed2/zero_shot', measure='zero_shot.iou.car')
    assert (car['value'], car['seed'], car['loss']) == (1.0, 2, 'relational')
    assert row_of(figures, job='maps/similarity/seed1/zero_shot', measure='corruptions.fog.2')
    assert not [figure for figure in figures if figure['measure'] == 'tolerance_2d']


def test_the_result_is_strict_json_with_its_origin(comparison):
    results = report(comparison)
    text = (comparison.out / 'results.json').read_text()
    assert json.loads(text) == json.loads(json.dumps(results))
    assert 'NaN' not in text
    assert results['command'] == 'python -m trainer.compare plan.yaml'
    assert {'commit', 'date'} <= results.keys()


def test_the_table_reads_as_it_should(comparison):
    report(comparison)
    table = (comparison.out / 'table.md').read_text()
    assert '| teacher | loss | zero_shot | zero_shot.fog | few_shot_1 | cross_gap |' in table
    assert (
        '| maps | similarity | 0.450 ± 0.050 (3) | 0.250 ± 0.050 (3) | 0.225 ± 0.025 (3) '
        '| 0.550 ± 0.050 (3) |'
    ) in table
    assert '| maps | relational | **0.600 ± 0.100 (3)** |' in table
    assert '| maps | zero_shot | similarity | -0.150 | -0.274 to -0.026 | 0.0351 | 0.25 | 3 |' in (
        table
    )
    assert 'the smallest p that Wilcoxon can reach is 0.25' in table
    assert '25 of 25 jobs done; 0.6 hours of 1 thread' not in table
    assert 'Not all' not in table


def test_what_is_missing_is_said_and_the_rest_is_told(comparison):
    for name in ('distil', 'zero_shot', 'few_shot_1', 'structure'):
        job = expand(comparison, ['main'])[f'maps/similarity/seed2/{name}']
        (job.folder / 'done.json').unlink()
    lost = 'maps/similarity/seed2/zero_shot'
    results = report(comparison, {lost: Outcome('failed', 'exit code 1')})
    assert row_of(results['rows'], loss='similarity', protocol='zero_shot')['seeds'] == 2
    assert results['jobs'][lost] == {'status': 'failed', 'message': 'exit code 1'}
    assert results['jobs']['maps/similarity/seed2/structure'] == {'status': 'not asked for'}
    table = (comparison.out / 'table.md').read_text()
    assert f'- {lost}: failed' in table
    assert '0.425 ± 0.035 (2)' in table


def test_a_report_of_nothing_is_a_report(tmp_path):
    write_plan(tmp_path)
    comparison = open_comparison(arguments_of(tmp_path), MODULES)
    comparison.out.mkdir()
    assert report(comparison)['rows'] == []
    assert 'Nothing yet.' in (comparison.out / 'table.md').read_text()


def test_there_is_a_picture_of_the_mious_and_of_every_gap(comparison):
    report(comparison)
    for name in ('miou', 'gap_cross_gap'):
        picture = Image.open(comparison.out / f'{name}.png').convert('RGB')
        assert len(picture.getcolors(1 << 20)) > 50
        assert min(picture.size) > 200


def test_a_gap_that_was_not_measured_is_refused_and_those_there_are_named(comparison, tmp_path):
    edit(tmp_path / 'plan.yaml', gaps=['croos_gap'])
    with pytest.raises(InputError, match=r'some of cross_gap'):
        report(open_comparison(arguments_of(tmp_path), MODULES))


def test_a_second_structure_protocol_has_columns_of_its_own(comparison, tmp_path):
    protocols = {**{'train_structure': {'kind': 'structure', 'drives': 'train'}}}
    plan = comparison.plan.model_dump(mode='json')
    group = {**plan['groups']['main'], 'protocols': ['train_structure']}
    edit(tmp_path / 'plan.yaml', protocols={**plan['protocols'], **protocols}, groups={'g': group})
    jobs = expand(open_comparison(arguments_of(tmp_path), MODULES), ['g'])
    for job in jobs.values():
        if not job.result.exists():
            write_result(job)
    assert list(collect_scores(jobs.values()).structure) == ['train_structure.cross_gap']
