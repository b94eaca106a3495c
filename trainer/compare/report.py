# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The result of a comparison: `results.json`, `table.md` and plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from statistics import mean
from typing import Any

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing, write_json
from trainer.compare.jobs import DONE, Outcome, is_done
from trainer.compare.plan import Comparison, Job, Plan
from trainer.compare.plots import save_bars, save_gaps
from trainer.compare.statistics import (
    Scores,
    all_correlations,
    all_summaries,
    all_tests,
)
from trainer.compare.table import markdown
from trainer.provenance import provenance
from trainer.structure.measures import MEASURES

RESULTS_FILE, TABLE_FILE = 'results.json', 'table.md'


def write_report(
    comparison: Comparison,
    jobs: Mapping[str, Job],
    outcomes: Mapping[str, Outcome],
    command: str,
) -> dict[str, Any]:
    """Write what is known so far.

    Args:
        comparison: whose folder is written to.
        jobs: of all groups of the plan; those that are done count, whenever they ran.
        outcomes: of the jobs that were asked for this time.
        command: that was typed.

    Returns:
        What was written to `results.json`.

    Raises:
        InputError: the plan wants to draw a measure that there is not.
    """
    plan, done = comparison.plan, [job for job in jobs.values() if is_done(job)]
    scores = collect_scores(done)
    gaps = _gaps_to_draw(plan, scores)
    results = {
        'plan': plan.model_dump(mode='json'),
        'rows': _rows(plan, scores),
        'structure': _structure_rows(plan, scores),
        'significance': [
            {'data': plan.data, **test} for test in all_tests(scores, plan.reference)
        ],
        'correlations': [{'data': plan.data, **entry} for entry in all_correlations(scores)],
        'figures': [figure for job in done for figure in _figures(job)],
        'jobs': {job.name: _job_entry(job, outcomes) for job in jobs.values()},
        'command': command,
        'commit': provenance()['git_commit'],
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }
    write_json(comparison.out / RESULTS_FILE, results)
    with replacing(comparison.out / TABLE_FILE) as partial:
        partial.write_text(markdown(plan, scores, results), encoding='utf-8')
    save_bars(scores, comparison.out / 'miou.png')
    for measure in gaps:
        save_gaps(scores, measure, comparison.out / f'gap_{measure}.png')
    return results


def collect_scores(jobs: Iterable[Job]) -> Scores:
    """The figures to compare; a score that is not defined (None) is left out."""
    scores = Scores()
    for job in jobs:
        if job.kind in ('prepare', 'distil'):
            continue
        labels = job.labels
        key = (labels['teacher'], labels['loss'], labels['seed'])
        into = scores.structure if job.kind == 'structure' else scores.miou
        for column, value in _columns(job):
            if value is not None:
                into.setdefault(column, {})[key] = value
    return scores


def _columns(job: Job) -> Iterator[tuple[str, float | None]]:
    values, protocol = _read(job), job.labels['protocol']
    if job.kind == 'structure':
        prefix = '' if protocol == 'structure' else f'{protocol}.'
        known = [measure for measure in MEASURES if measure in values]
        yield from ((f'{prefix}{measure}', values[measure]) for measure in known)
    elif job.kind == 'few_shot':
        yield protocol, values['miou']
    else:
        yield protocol, values['zero_shot']['miou']
        for name, by_severity in values.get('corruptions', {}).items():
            defined = [value for _, value in _numbers(by_severity)]
            yield f'{protocol}.{name}', mean(defined) if defined else None


def _read(job: Job) -> Any:
    return json.loads(job.result.read_text(encoding='utf-8'))


def _numbers(values: Any, prefix: str = '') -> Iterator[tuple[str, float]]:
    """Every number of a tree with its dotted name."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _numbers(value, f'{prefix}.{key}'.lstrip('.'))
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield prefix, float(values)


def _figures(job: Job) -> Iterator[dict[str, Any]]:
    if job.kind not in ('prepare', 'distil'):
        for measure, value in _numbers(_read(job)):
            yield {'job': job.name, **job.labels, 'measure': measure, 'value': value}


def _rows(plan: Plan, scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            'data': plan.data,
            'teacher': entry['teacher'],
            'loss': entry['loss'],
            'protocol': entry['column'],
            'miou_mean': entry['mean'],
            'miou_std': entry['std'],
            'seeds': entry['seeds'],
        }
        for entry in all_summaries(scores)
        if entry['column'] in scores.miou
    ]


def _structure_rows(plan: Plan, scores: Scores) -> list[dict[str, Any]]:
    return [
        {'data': plan.data, 'measure': entry.pop('column'), **entry}
        for entry in all_summaries(scores)
        if entry['column'] in scores.structure
    ]


def _job_entry(job: Job, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    outcome = outcomes.get(job.name, Outcome('done') if is_done(job) else None)
    if outcome is None:
        return {'status': 'not asked for'}
    if outcome.status != 'done':
        return {'status': outcome.status, 'message': outcome.message}
    seconds = json.loads((job.folder / DONE).read_text(encoding='utf-8'))['seconds']
    return {'status': 'done', 'seconds': seconds, 'command': ' '.join(job.template)}


def _gaps_to_draw(plan: Plan, scores: Scores) -> tuple[str, ...]:
    """The measures to draw; none where there are no figures to draw them against."""
    unknown = sorted(set(plan.gaps) - set(scores.structure))
    if scores.structure and unknown:
        raise InputError(
            'the plan wants to draw measures that there are not',
            where='gaps',
            expected=f'some of {", ".join(scores.structure)}',
            got=', '.join(unknown),
            fix='correct the plan and start the comparison again: finished jobs are kept',
        )
    return plan.gaps or tuple(scores.structure) if scores.structure and scores.miou else ()
