# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The table of `gpu_check`: what was measured, what is asked, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    Attributes:
        check: what was looked at.
        value: the figure, or why there is none.
        asked: what it should be, empty where nothing is asked.
        met: whether it is; None where nothing is asked or nothing was measured.
    """

    check: str
    value: str
    asked: str = ''
    met: bool | None = None


def report_figures(path: Path) -> list[Figure]:
    """Counts of pytest's report."""
    suites = ElementTree.parse(path).getroot().iter('testsuite')
    counts = {'tests': 0, 'failures': 0, 'errors': 0, 'skipped': 0}
    for suite in suites:
        for name in counts:
            counts[name] += int(suite.get(name, 0))
    bad = counts['failures'] + counts['errors']
    passed = counts['tests'] - bad - counts['skipped']
    value = f'{passed} passed, {bad} failed, {counts["skipped"]} skipped'
    return [Figure('tests', value, 'none fails', bad == 0 and passed > 0)]


def training_figures(result: Any) -> list[Figure]:
    """Our fastest training backend over the fastest peer."""
    figures = [
        Figure(
            f'training {row["backend"]} {row["precision"]}',
            row.get('failed') or f'{1e3 * row["seconds"]:.1f} ms, {row["peak_mib"]:.0f} MiB',
        )
        for row in result['rows']
    ]
    peers = ('spconv', 'torchsparse')
    ratios = [
        row['seconds_ratio_to_peer']
        for row in result['rows']
        if row['backend'] not in peers and 'seconds_ratio_to_peer' in row
    ]
    asked = 'at least 1.2 times the fastest peer'
    if not ratios:
        return [*figures, Figure('training over peers', 'no peer is installed', asked)]
    return [
        *figures,
        Figure('training over peers', f'{max(ratios):.2f}', asked, max(ratios) >= 1.2),
    ]


def loss_figures(result: Any) -> list[Figure]:
    """The relational loss over the GPU's peak."""
    return [
        Figure(
            f'relational loss {row["precision"]}',
            f'{row["share_of_peak"]:.0%} of the peak, {1e3 * row["seconds"]:.1f} ms',
            'at least 40 %',
            row['share_of_peak'] >= 0.4,
        )
        for row in result['rows']
    ]


def onboard_figures(result: Any) -> list[Figure]:
    """Latency and labels of an engine; what is asked is asked of float16."""
    name = f'onboard {result["backend"]} {result["precision"]}'
    is_asked = result['precision'] == 'float16'
    p50, ratio = result['p50_ms'], result['p99_ms'] / result['p50_ms']
    figures = [
        Figure(
            f'{name}: p50 of {result["points"]} points',
            f'{p50:.1f} ms',
            'at most 10 ms' if is_asked else '',
            p50 <= 10 if is_asked else None,
        ),
        Figure(
            f'{name}: p99',
            f'{ratio:.2f} times p50',
            'at most 1.5' if is_asked else '',
            ratio <= 1.5 if is_asked else None,
        ),
        Figure(f'{name}: to open', f'{result["open_seconds"]:.1f} s'),
        Figure(f'{name}: GPU memory', f'{result["gpu_mib"]:.0f} MiB'),
    ]
    if result['engine_megabytes'] is not None:
        figures.append(Figure(f'{name}: engine', f'{result["engine_megabytes"]:.0f} MB'))
    agreement = result['label_agreement']
    if agreement is not None:
        figures.append(
            Figure(
                f'{name}: labels as torch float32',
                f'{agreement:.4%}',
                'at least 99.9 %',
                agreement >= 0.999,
            )
        )
    return figures


def line_of(figure: Figure) -> str:
    """A line of the table: check, figure, asked, met."""
    met = {True: 'yes', False: 'NO', None: ''}[figure.met]
    return f'{figure.check:48.48} {figure.value:44} {figure.asked:36} {met}'.rstrip()
