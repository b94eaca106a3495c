# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The demo's report: one HTML page with its pictures inside."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from reldistill_ros.core.files import replacing
from trainer.metrics_log import METRICS

TEMPLATE = Path(__file__).with_name('report.html.jinja')
PICTURES = {
    'From above: truth, what the teacher sees, what the student says': 'birds_eye_*.png',
    "The student's labels over the cameras": 'overlay_*.png',
    'Confusion': 'confusion.png',
}


def write_report(out: Path, metrics: dict[str, Any]) -> Path:
    """Write `report.html` from a demo folder.

    Args:
        out: folder with `run/` and `replay/`.
        metrics: as in `metrics.json`.
    """
    evaluation = out / 'run/evaluation'
    sections = {
        title: [_embed(path.read_bytes()) for path in sorted(evaluation.glob(pattern))]
        for title, pattern in PICTURES.items()
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters['number'] = format_number
    page = environment.from_string(TEMPLATE.read_text(encoding='utf-8')).render(
        metrics=metrics,
        classes=_class_rows(metrics),
        sections=sections,
        losses=_embed(_draw_losses(out / 'run' / METRICS)),
        replay=_embed((out / 'replay/replay.png').read_bytes()),
        settings=(out / 'run/settings.yaml').read_text(encoding='utf-8'),
        provenance=json.loads((out / 'run/provenance.json').read_text(encoding='utf-8')),
    )
    path = out / 'report.html'
    with replacing(path) as partial:
        partial.write_text(page, encoding='utf-8')
    return path


def format_number(value: float | None, spec: str = '.3f') -> str:
    """The number, or a dash for one that is not defined."""
    return '-' if value is None else format(value, spec)


def _class_rows(metrics: dict[str, Any]) -> list[tuple[str, float, float | None, float | None]]:
    """Name, student over all points, student and teacher over the visible points."""
    visible, teacher = metrics['teacher']['student_iou'], metrics['teacher']['iou']
    return [
        (name, score, visible.get(name), teacher.get(name))
        for name, score in metrics['zero_shot']['iou'].items()
    ]


def _draw_losses(path: Path) -> bytes:
    """The loss and its terms over the steps, PNG."""
    rows = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    figure = Figure(figsize=(9, 3.4), layout='constrained')
    axes = figure.add_subplot()
    for name in rows[0]:
        if name not in ('step', 'lr', 'pairs', 'skipped'):
            axes.plot([row['step'] for row in rows], [row[name] for row in rows], lw=1, label=name)
    axes.set(xlabel='step', ylabel='loss')
    axes.set_ylim(bottom=0)
    axes.legend()
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, format='png')
    return buffer.getvalue()


def _embed(png: bytes) -> str:
    return 'data:image/png;base64,' + base64.b64encode(png).decode()
