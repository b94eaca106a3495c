# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One report over the replays of many bags: `results.json`, `table.md` and `index.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.replay.page import format_number, render
from reldistill_ros.replay.requirements import Requirement, check, flatten
from trainer.compare.jobs import DONE, Outcome, is_done
from trainer.compare.plan import Job
from trainer.compare.report import RESULTS_FILE, TABLE_FILE
from trainer.provenance import provenance

INDEX_FILE = 'index.html'
TEMPLATE = Path(__file__).with_name('replay_bags.html.jinja')
# key in replay.json, heading, how to write it
COLUMNS = (
    ('frames_in', 'sweeps', '.0f'),
    ('frames_dropped', 'dropped', '.0f'),
    ('unaccounted_sweeps', 'unaccounted', '.0f'),
    ('latency_ms.p50', 'p50, ms', '.1f'),
    ('latency_ms.p95', 'p95, ms', '.1f'),
    ('latency_ms.max', 'max, ms', '.1f'),
    ('age_sweeps.max', 'age, sweeps', '.0f'),
    ('memory.growth_mb', 'growth, MiB', '+.1f'),
    ('offline.labels_equal', 'as offline', '.6g'),
    ('accuracy', 'accuracy', '.3f'),
    ('miou', 'mIoU', '.3f'),
)
SUMS = ('frames_in', 'frames_dropped', 'unaccounted_sweeps')


def write_report(
    out: Path,
    jobs: Mapping[str, Job],
    outcomes: Mapping[str, Outcome],
    *,
    requirements: Sequence[Requirement],
    command: str,
) -> bool:
    """Write what is known so far; returns whether all that is known is as required.

    Args:
        out: folder of the report.
        jobs: of all bags; those that are done count, whenever they ran.
        outcomes: of the bags that were asked for this time.
        requirements: of each bag.
        command: that was typed.

    Raises:
        InputError: a requirement names what there is not in the summary of a bag.
    """
    bags = {name: _entry(job, outcomes, requirements) for name, job in jobs.items()}
    results = {
        'bags': bags,
        'command': command,
        'commit': provenance()['git_commit'],
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }
    write_json(out / RESULTS_FILE, results)
    rows = [_row(name, entry) for name, entry in bags.items()]
    rows += [_row('all', _sums(bags))] if len(rows) > 1 else []
    _write(out / TABLE_FILE, _markdown(rows))
    _write(out / INDEX_FILE, _page(results, rows))
    return all(entry['passed'] is not False for entry in bags.values())


def _entry(
    job: Job, outcomes: Mapping[str, Outcome], requirements: Sequence[Requirement]
) -> dict[str, Any]:
    """What is known of a bag; `passed` is None where it was not replayed."""
    if not is_done(job):
        outcome = outcomes.get(job.name)
        status = outcome.status if outcome else 'not asked for'
        message = outcome.message if outcome else ''
        return {'status': status, 'message': message, 'numbers': {}, 'passed': None}
    summary = json.loads(job.result.read_text(encoding='utf-8'))
    numbers = flatten(summary)
    findings = check(requirements, summary)
    return {
        'status': 'done',
        'seconds': json.loads((job.folder / DONE).read_text(encoding='utf-8'))['seconds'],
        'page': f'jobs/{job.name}/out/replay.html',
        'mode': summary['mode'],
        'numbers': {key: numbers.get(key) for key, _, _ in COLUMNS},
        'drops': {name: count for name, count in summary.get('drops', {}).items() if count},
        'requirements': [asdict(finding) for finding in findings],
        'passed': all(finding.passed for finding in findings),
    }


def _sums(bags: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The row below all others."""
    numbers = {}
    for key in SUMS:
        known = [entry['numbers'].get(key) for entry in bags.values()]
        known = [value for value in known if value is not None]
        numbers[key] = sum(known) if known else None
    return {'status': '', 'numbers': numbers, 'passed': None}


def _row(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a bag as text."""
    judged = {True: 'passed', False: 'failed', None: ''}[entry['passed']]
    return {
        'name': name,
        'page': entry.get('page'),
        'cells': [format_number(entry['numbers'].get(key), spec) for key, _, spec in COLUMNS],
        'status': entry['status'] if entry['status'] != 'done' else judged,
    }


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    headings = ['bag', *(heading for _, heading, _ in COLUMNS), 'requirements']
    lines = [headings, ['---', *['---:'] * len(COLUMNS), '---']]
    lines += [[row['name'], *row['cells'], row['status']] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def _page(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    return render(
        TEMPLATE,
        results=results,
        rows=rows,
        headings=[heading for _, heading, _ in COLUMNS],
        failures=[
            {'bag': name, **finding}
            for name, entry in results['bags'].items()
            for finding in entry.get('requirements', ())
            if not finding['passed']
        ],
    )


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8')
