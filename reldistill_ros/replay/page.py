# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The page of a replay, `replay.html`: one file with everything in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing
from reldistill_ros.replay.charts import Chart, time_chart
from reldistill_ros.replay.process_memory import MemorySample
from reldistill_ros.replay.sweeps import SweepResult
from reldistill_ros.replay.worst import Picture, find_worst

TEMPLATE = Path(__file__).with_name('replay.html.jinja')


def write_page(
    path: Path,
    summary: Mapping[str, Any],
    results: Sequence[SweepResult],
    *,
    memory: Sequence[MemorySample],
    draw: Callable[[SweepResult], Picture],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: HTML file to write.
        summary: as in `replay.json`.
        results: one per sweep.
        memory: of the node, over the seconds since the first sweep.
        draw: makes the picture of a sweep.
    """
    worst = {
        title: [draw(result) for result in chosen]
        for title, chosen in find_worst(results).items()
        if chosen
    }
    page = render(
        TEMPLATE,
        summary=summary,
        charts=_charts(results, memory),
        stages=_stage_bars(summary['stages_ms']),
        drops={name: count for name, count in summary.get('drops', {}).items() if count},
        classes={k: v for k, v in summary['per_class_iou'].items() if v is not None},
        worst=worst,
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding='utf-8')


def render(template: Path, **values: Any) -> str:
    """Fill a template; what it names must be there, and no value is taken for HTML."""
    jinja2 = import_extra('jinja2', 'replay')
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
    )
    environment.filters['number'] = format_number
    page: str = environment.from_string(template.read_text(encoding='utf-8')).render(values)
    return page


def format_number(value: float | None, spec: str = '.3f') -> str:
    """The number, or a dash for one that is not known."""
    return '-' if value is None else format(value, spec)


def _charts(results: Sequence[SweepResult], memory: Sequence[MemorySample]) -> list[Chart]:
    """Latency with the dropped sweeps, and where there was a node, age and memory."""
    end = max((result.sent_s for result in results), default=0.0)
    dropped = [result.sent_s for result in results if result.dropped is not None]
    charts = [_chart('Latency', 'ms', 'latency_ms', results, end, dropped)]
    if any(result.age_sweeps is not None for result in results):
        charts.append(_chart('Age of the labels', 'sweeps', 'age_sweeps', results, end, dropped))
    during = [(sample.seconds, sample.mb) for sample in memory if 0 <= sample.seconds <= end]
    if during:
        charts.append(time_chart("The node's memory", 'MiB', during, end=end))
    return charts


def _chart(
    title: str,
    unit: str,
    name: str,
    results: Sequence[SweepResult],
    end: float,
    dropped: Sequence[float],
) -> Chart:
    values = [(result.sent_s, getattr(result, name)) for result in results]
    known = [(second, float(value)) for second, value in values if value is not None]
    whole = unit == 'sweeps'
    return time_chart(title, unit, known, end=end, marks=dropped, whole=whole)


def _stage_bars(stages: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """Each stage with its share of the mean latency, in percent."""
    total = sum(times['mean'] or 0.0 for times in stages.values()) or 1.0
    return [
        {'name': name, 'share': 100 * (times['mean'] or 0.0) / total, **times}
        for name, times in stages.items()
    ]
