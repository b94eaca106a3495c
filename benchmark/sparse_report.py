# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The results of `benchmark.sparse` as ratios, as a table and as a picture.

`python -m benchmark.sparse_report OUT.json` prints the table and draws OUT.png again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reldistill_ros.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE = 'spconv-cpu-1'
MODE_TITLES = {
    'maps': 'kernel maps',
    'forward': 'forward',
    'forward_backward': 'forward + backward',
    'labeller': 'whole labeller',
}
PLOTTED_MODES = ('forward', 'forward_backward')
OURS, PEER, WRONG = '#1f6feb', '#8b949e', '#d0d7de'
DPI = 130

Row = dict[str, Any]


def ratios_to_peers(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many times faster and smaller each engine of ours is than each peer in its mode."""
    peers = [row for row in rows if not row['engine'].startswith('ours')]
    return [
        {
            **{key: ours[key] for key in ('case', 'network', 'mode', 'engine')},
            'peer': peer['engine'],
            'speed': peer['median_s'] / ours['median_s'],
            'memory': peer['peak_mb'] / max(ours['peak_mb'], 1.0),
        }
        for ours in rows
        if ours['engine'].startswith('ours')
        for peer in peers
        if _same_workload(ours, peer) and ours['mode'] == peer['mode']
    ]


def _same_workload(a: Row, b: Row) -> bool:
    return (a['case'], a['network']) == (b['case'], b['network'])


def markdown_report(results: dict[str, Any]) -> str:
    """Machine, sweeps and one table for each network and sweep, in Markdown."""
    parts = [_heading(results)]
    for case, network in _workloads(results['rows']):
        sweep = results['sweeps'][case]
        parts.append(
            f'### {network}, {case} beams: {sweep["points"]:,} points, '
            f'{sweep["voxels"][0]:,} voxels, '
            f'{sweep["mean_neighbours"][0]:.1f} neighbours of 27'
        )
        parts.append(_table(results, case, network))
    return '\n\n'.join(parts)


def _heading(results: dict[str, Any]) -> str:
    maps = results['numpy_maps']
    return (
        f'{results["date"]}, commit {results["commit"][:12]}, {results["device"]}: '
        f'{results["fma_peak_gflops"]:.0f} GFLOP/s of float32 multiply-adds in registers, '
        f'{results["gemm_peak_gflops"]:.0f} in a large matrix product. '
        f'Voxels and all maps of {maps["points"]:,} points: {1e3 * maps["ours_s"]:.2f} ms, '
        f'numpy {1e3 * maps["numpy_s"]:.1f} ms ({maps["ratio"]:.1f}x). '
        f'Median and interquartile range of {results["runs"]} turns.'
    )


def _workloads(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row['case'], row['network']) for row in rows))


def _table(results: dict[str, Any], case: str, network: str) -> str:
    lines = [
        f'| mode | engine | ms | x {BASELINE} | GFLOP/s | % of FMA peak | % of GEMM peak '
        '| peak MB | relative error |',
        '|---|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    rows = [r for r in results['rows'] if (r['case'], r['network']) == (case, network)]
    for mode, title in MODE_TITLES.items():
        of_mode = [row for row in rows if row['mode'] == mode]
        base = next((row['median_s'] for row in of_mode if row['engine'] == BASELINE), None)
        lines += [_line(row, title, base, results) for row in of_mode]
    notes = dict.fromkeys(f'* {row["engine"]}: {row["note"]}' for row in rows if row['note'])
    return '\n'.join([*lines, *(['', *notes] if notes else [])])


def _line(row: Row, title: str, base: float | None, results: dict[str, Any]) -> str:
    gflops, error = row['gflops'], row['relative_error']
    cells = [
        title,
        row['engine'] + (' *' if row['note'] else ''),
        f'{1e3 * row["median_s"]:.1f} ± {1e3 * row["iqr_s"]:.1f}',
        f'{base / row["median_s"]:.2f}' if base else '',
        f'{gflops:.0f}' if gflops else '',
        f'{100 * gflops / results["fma_peak_gflops"]:.0f}' if gflops else '',
        f'{100 * gflops / results["gemm_peak_gflops"]:.0f}' if gflops else '',
        f'{row["peak_mb"]:.0f}',
        f'{error:.0e}' if error is not None else '',
    ]
    return f'| {" | ".join(cells)} |'


def save_plot(results: dict[str, Any], path: Path) -> None:
    """Draw the times of forward and training, one row of panels for each workload."""
    workloads = _workloads(results['rows'])
    figure = Figure(figsize=(11, 1.2 + 2.2 * len(workloads)), layout='constrained')
    panels = figure.subplots(len(workloads), len(PLOTTED_MODES), squeeze=False, sharey='row')
    for axes, (case, network) in zip(panels, workloads):
        rows = [r for r in results['rows'] if (r['case'], r['network']) == (case, network)]
        for panel, mode in zip(axes, PLOTTED_MODES):
            _draw_panel(panel, rows, mode)
            title = f'{network}, {case} beams: {MODE_TITLES[mode]}'
            panel.set_title(title, fontsize=10, loc='left')
        axes[0].invert_yaxis()
    for panel in panels[-1]:
        panel.set_xlabel(f'ms, map building included; speed over {BASELINE}', fontsize=9)
    kinds = {'ours': OURS, 'peer': PEER, 'peer with a data race: wrong output': WRONG}
    patches = [Patch(color=color, label=label) for label, color in kinds.items()]
    figure.legend(
        handles=patches, loc='outside upper left', ncols=len(kinds), frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=DPI, format='png')


def _draw_panel(panel: Axes, rows: Sequence[Row], mode: str) -> None:
    """Bars of one mode; an engine without it keeps its place."""
    by_name = {row['engine']: row for row in rows if row['mode'] == mode}
    names = list(dict.fromkeys(row['engine'] for row in rows))
    times = [1e3 * by_name[name]['median_s'] if name in by_name else 0.0 for name in names]
    colors = [_color(by_name[name]) if name in by_name else PEER for name in names]
    bars = panel.barh(names, times, color=colors, height=0.7)
    base = 1e3 * by_name[BASELINE]['median_s'] if BASELINE in by_name else None
    panel.bar_label(bars, [_bar_label(t, base) for t in times], padding=4, fontsize=8)
    panel.set_xlim(0, 1.3 * max(times) or 1)
    panel.tick_params(labelsize=9, length=0)
    panel.spines[['top', 'right', 'left']].set_visible(False)


def _bar_label(milliseconds: float, base: float | None) -> str:
    if not milliseconds:
        return 'inference only'
    ratio = f'  {base / milliseconds:.1f}x' if base else ''
    return f'{milliseconds:.0f} ms{ratio}'


def _color(row: Row) -> str:
    if row['note']:
        return WRONG
    return OURS if row['engine'].startswith('ours') else PEER


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.sparse_report', description=__doc__)
    parser.add_argument('json', type=Path, help='file that benchmark.sparse wrote')
    path = parser.parse_args().json
    results = json.loads(path.read_text(encoding='utf-8'))
    with replacing(path.with_suffix('.png')) as partial:
        save_plot(results, partial)
    print(markdown_report(results))


if __name__ == '__main__':
    main()
