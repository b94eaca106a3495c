# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The table of `gpu_check`: what was measured, what is asked, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

PEERS = ('spconv', 'torchsparse')
HALF, WIDE = ('bfloat16', 'float16'), ('float32', 'tf32')


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


def not_done(check: str, reason: str) -> Figure:
    """The line of what should have run to its end and did not."""
    return Figure(check, reason, 'runs to its end', False)


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
    """Times of a step, and our fastest backend over the fastest peer.

    What is asked is asked of half precision; backends in float32 and TF32 are only compared.
    """
    figures = [
        Figure(
            f'training {row["backend"]} {row["precision"]}',
            row.get('failed') or f'{1e3 * row["seconds"]:.1f} ms, {row["peak_mib"]:.0f} MiB',
        )
        for row in result['rows']
    ]
    asked = 'at least 1.2 times the fastest peer'
    wide, half = (_ratio_to_peers(result['rows'], names) for names in (WIDE, HALF))
    if wide is not None:
        figures.append(Figure('training over peers, float32 or TF32', f'{wide:.2f}'))
    if half is None:
        peers_ran = any(
            'seconds_ratio_to_peer' in row and row['backend'] in PEERS and row['precision'] in HALF
            for row in result['rows']
        )
        reason = 'none of ours has run' if peers_ran else 'not measured: no peer has run'
        met = False if peers_ran else None
        return [*figures, Figure('training over peers', reason, asked, met)]
    return [*figures, Figure('training over peers', f'{half:.2f}', asked, half >= 1.2)]


def _ratio_to_peers(rows: list[Any], precisions: tuple[str, ...]) -> float | None:
    """How many times as fast as the fastest peer the fastest of ours is in these precisions."""
    ratios = [
        row['seconds_ratio_to_peer']
        for row in rows
        if row['backend'] not in PEERS
        and row['precision'] in precisions
        and 'seconds_ratio_to_peer' in row
    ]
    return max(ratios, default=None)


def loss_figures(result: Any) -> list[Figure]:
    """The relational loss over the GPU's peak in TF32; without rounding, nothing is asked."""
    figures = []
    for row in result['rows']:
        is_asked = row['precision'] == 'tf32'
        share, seconds = row['share_of_peak'], row['seconds']
        figures.append(
            Figure(
                f'relational loss {row["precision"]}',
                f'{share:.0%} of the peak in TF32, {1e3 * seconds:.1f} ms',
                'at least 40 %' if is_asked else '',
                share >= 0.4 if is_asked else None,
            )
        )
    return figures


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
    if not result['is_reference']:
        figures.append(_agreement_figure(name, result['label_agreement']))
    return figures


def _agreement_figure(name: str, agreement: float | None) -> Figure:
    check, asked = f'{name}: labels as torch float32', 'at least 99.9 %'
    if agreement is None:
        return Figure(check, 'not measured: torch in float32 has not run', asked)
    return Figure(check, f'{agreement:.4%}', asked, agreement >= 0.999)


def line_of(figure: Figure) -> str:
    """A line of the table: check, figure, asked, met."""
    met = {True: 'yes', False: 'NO', None: ''}[figure.met]
    return f'{figure.check:48.48} {figure.value:44} {figure.asked:36} {met}'.rstrip()
