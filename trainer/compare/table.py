# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The result of a comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.compare.plan import Plan
from trainer.compare.statistics import Scores, over_seeds, summarise

FAULTY = ('failed', 'blocked', 'stopped')
NOTHING = '–'  # noqa: RUF001


def markdown(plan: Plan, scores: Scores, results: Mapping[str, Any]) -> str:
    """The whole page."""
    jobs = results['jobs'].values()
    hours = sum(job.get('seconds', 0) for job in jobs) / 3600
    sections = [
        f'# Comparison on {plan.data}, {results["date"][:10]}',
        f'`{results["command"]}`, commit {results["commit"]}; '
        f'{sum(job["status"] == "done" for job in jobs)} of {len(jobs)} jobs done, '
        f'{hours:.1f} hours of {plan.threads} thread(s) each.',
        _unfinished(results['jobs']),
        '## mIoU and structure',
        'Mean ± sample standard deviation over the seeds, (number of seeds). Bold: the highest '
        'mean mIoU of a teacher.',
        main_table(scores),
        f'## Differences to {plan.reference}',
        significance_note(results['significance'], len(plan.seeds)),
        significance_table(results['significance']),
        '## Structure against mIoU',
        'Correlation over all runs, with 95 % intervals. Runs that differ in the seed only are '
        'not independent, so the intervals are rather too narrow, and p rather too small. Over '
        'all teachers, a difference between teachers can look like a correlation.',
        correlation_table(results['correlations']),
    ]
    return '\n\n'.join(section for section in sections if section) + '\n'


def main_table(scores: Scores) -> str:
    """Rows: teacher and loss; columns: mIoU of each protocol, then each structure measure."""
    best = _best(scores)
    rows = []
    for teacher, loss in scores.rows():
        cells = [teacher, loss]
        for column, values in scores.columns.items():
            seeds = over_seeds(values, teacher, loss)
            cell = _mean_and_spread(seeds.values()) if seeds else NOTHING
            cells.append(f'**{cell}**' if (teacher, loss, column) in best else cell)
        rows.append(cells)
    return markdown_table(['teacher', 'loss', *scores.columns], rows)


def significance_note(tests: Sequence[Mapping[str, Any]], seeds: int) -> str:
    """What the p values can say at most."""
    smallest = 2 / 2**seeds
    return (
        f"Paired over the seeds: Student's t and Wilcoxon's signed rank, both two-sided. "
        f'{seeds} seeds give little power: the smallest p that Wilcoxon can reach is '
        f'{min(smallest, 1):.3g}, and t rests on {seeds - 1} degrees of freedom and normal '
        f'differences. No correction for the {len(tests)} tests below. Seeds change the start '
        f'and the order of the training, not the data.'
    )


def significance_table(tests: Iterable[Mapping[str, Any]]) -> str:
    """One row for each loss and protocol."""
    header = ['teacher', 'protocol', 'loss', 'difference', '95 % interval', 'p (t)']
    rows = [
        [
            *(test[key] for key in ('teacher', 'protocol', 'loss')),
            _signed(test['difference']),
            _interval(test['interval']),
            *(_number(test[key]) for key in ('p_t', 'p_wilcoxon')),
            str(test['seeds']),
        ]
        for test in tests
    ]
    return markdown_table([*header, 'p (Wilcoxon)', 'seeds'], rows)


def correlation_table(correlations: Iterable[Mapping[str, Any]]) -> str:
    """One row for each measure, protocol and choice of teachers."""
    header = ['teacher', 'measure', 'mIoU of', 'runs', 'Pearson', '95 %', 'p']
    rows = [
        [
            *(entry[key] for key in ('teacher', 'measure', 'protocol')),
            str(entry['runs']),
            *(
                text
                for kind in ('pearson', 'spearman')
                for text in (
                    _signed(entry[kind], 2),
                    _interval(entry[f'{kind}_interval'], 2),
                    _number(entry[f'{kind}_p']),
                )
            ),
        ]
        for entry in correlations
    ]
    return markdown_table([*header, 'Spearman', '95 %', 'p'], rows)


def _best(scores: Scores) -> set[tuple[str, str, str]]:
    """Teacher, loss and column of the highest mean mIoU of each teacher."""
    best = set()
    for column, values in scores.miou.items():
        means: dict[str, dict[str, float]] = {}
        for teacher, loss in scores.rows():
            seeds = over_seeds(values, teacher, loss)
            if seeds:
                means.setdefault(teacher, {})[loss] = summarise(seeds.values())['mean']
        best |= {(t, max(losses, key=lambda k: losses[k]), column) for t, losses in means.items()}
    return best


def _unfinished(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f'- {name}: {job["status"]}' for name, job in jobs.items() if job['status'] in FAULTY]
    return '\n'.join(['**Not all that was asked for is done:**', '', *lines]) if lines else ''


def _mean_and_spread(values: Iterable[float]) -> str:
    found = summarise(values)
    spread = '' if found['std'] is None else f' ± {found["std"]:.3f}'
    return f'{found["mean"]:.3f}{spread} ({found["seeds"]})'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells below a header."""
    if not rows:
        return 'Nothing yet.'
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f'{value:.3g}'


def _signed(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f'{value:+.{digits}f}'


def _interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    return NOTHING if ends is None else f'{ends[0]:+.{digits}f} to {ends[1]:+.{digits}f}'
