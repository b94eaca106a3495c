# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Join comparisons: `python -m benchmark.science COMPARISON... --json benchmark/results/science.json`.

Takes the folders that `python -m trainer.compare` wrote, one for each data set, joins their
results into one JSON file and prints the tables of `benchmark/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from trainer.compare.table import NOTHING, markdown_table

JOINED = ('rows', 'structure', 'significance', 'correlations')


def join(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of all comparisons, one after the other; the date is that of the last."""
    results = list(results)
    joined: dict[str, Any] = {
        key: [entry for result in results for entry in result[key]] for key in JOINED
    }
    joined['command'] = ' && '.join(result['command'] for result in results)
    joined['commit'] = ', '.join(dict.fromkeys(result['commit'] for result in results))
    joined['date'] = max(result['date'] for result in results)
    return joined


def tables(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown of one comparison: mIoU, structure, correlations."""
    yield _pivot(result['rows'], 'protocol', lambda r: _spread(r['miou_mean'], r['miou_std']))
    yield _pivot(result['structure'], 'measure', lambda r: _spread(r['mean'], r['std']))
    for teacher in dict.fromkeys(entry['teacher'] for entry in result['correlations']):
        entries = [e for e in result['correlations'] if e['teacher'] == teacher]
        runs = max(entry['runs'] for entry in entries)
        yield f'Pearson / Spearman over the runs of teacher {teacher}, up to {runs} runs:'
        yield _pivot(entries, 'protocol', _correlation, rows=('measure',))


def _pivot(
    entries: Iterable[Mapping[str, Any]],
    column: str,
    cell: Any,
    rows: tuple[str, ...] = ('teacher', 'loss'),
) -> str:
    """A table with a column for each value of `column` and a row for each value of `rows`."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for entry in entries:
        found.setdefault(tuple(entry[key] for key in rows), {})[entry[column]] = cell(entry)
    columns = list(dict.fromkeys(name for cells in found.values() for name in cells))
    lines = [
        [*key, *(cells.get(name, NOTHING) for name in columns)] for key, cells in found.items()
    ]
    return markdown_table([*rows, *columns], lines)


def _spread(mean: float, std: float | None) -> str:
    return f'{mean:.3f}' if std is None else f'{mean:.3f} ± {std:.3f}'


def _correlation(entry: Mapping[str, Any]) -> str:
    if entry['pearson'] is None:
        return NOTHING
    return f'{entry["pearson"]:+.2f} / {entry["spearman"]:+.2f}'


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.science', description=__doc__)
    parser.add_argument('comparisons', type=Path, nargs='+', help='folders of trainer.compare')
    parser.add_argument('--json', type=Path, required=True, help='file to write')
    arguments = parser.parse_args()
    results = [
        json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        for folder in arguments.comparisons
    ]
    write_json(arguments.json, join(results))
    for result in results:
        print(f'\n### {result["plan"]["data"]}\n')
        print('\n\n'.join(tables(result)))


if __name__ == '__main__':
    run_command(main)
