# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What an export wrote, for people: files with their sizes, and how equal they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reldistill_ros.cameras.ensemble import ENSEMBLE
from reldistill_ros.cameras.image_encoder import IMAGE_ENCODER
from reldistill_ros.core import bundle
from trainer.export_parts import NAME_A_NETWORK, Parts

INT8 = 'onnx int8'  # the graph for TensorRT in ONNX Runtime
ENCODERS = ('text', 'image')  # in `Manifest.parity`; its other keys are engines
Parity = Mapping[str, Mapping[str, float]]


def export_table(folder: Path, parity: Parity, parts: Parts) -> str:
    """Files and engines of a bundle.

    Args:
        folder: of the bundle.
        parity: as it stands in the manifest.
        parts: what was asked for.
    """
    remarks = _remarks(parity, parts)
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    files = [
        (name, f'{size:.1f} MB' if size >= 0.1 else f'{1000 * size:.1f} kB', remarks.get(name, ''))
        for name, size in sorted(sizes.items(), key=lambda entry: -entry[1])
    ]
    engines = [
        (name, f'{values["max_diff"]:.1e}', f'{100 * values["label_agreement"]:.2f} %')
        for name, values in parity.items()
        if name not in ENCODERS
    ]
    return '\n'.join(
        [
            f'wrote {folder}, {sum(sizes.values()):.1f} MB',
            *_columns(files),
            '',
            *_columns([('engine', 'largest difference', 'labels equal'), *engines]),
            '',
            *_ensemble_lines(parts),
        ]
    )


def _remarks(parity: Parity, parts: Parts) -> dict[str, str]:
    """How far the exported encoders are from the originals, and what the weights come from."""
    remarks = {}
    if INT8 in parity:
        changed = 1 - parity[INT8]['label_agreement']
        remarks[bundle.STUDENT_INT8_ONNX] = (
            f'changes {changed:.2%} of the labels on sweeps that it was not calibrated on'
        )
    if 'max_cosine_error' in parity.get('text', {}):
        text = parity['text']
        remarks[bundle.TEXT_ENCODER] = (
            f'1 - cosine at most {text["max_cosine_error"]:.1e}, texts: {text["num_texts"]:g}'
        )
    if parts.image_network is not None:
        image, is_clip = parity['image'], parts.image_network.kind == 'clip'
        error = f'{image["max_error"]:.1e}'
        told = (
            f'1 - cosine at most {error}' if is_clip else f'other classes in {error} of the cells'
        )
        remarks[IMAGE_ENCODER] = f'{told}, images: {image["num_images"]:g}'
    if parts.ensemble is not None:
        remarks[ENSEMBLE] = f'fitted on {parts.ensemble.fitted_on}'
    return remarks


def _ensemble_lines(parts: Parts) -> list[str]:
    """What the cameras will do on the robot, and what could be done about it."""
    if parts.image_network is None:
        return [f'cameras on the robot: not used; {NAME_A_NETWORK}']
    if parts.ensemble is None:
        return [
            'cameras on the robot: where one sees a point, its opinion decides; python -m '
            'trainer.ensemble learns from labelled drives when the student should overrule it'
        ]
    return ['cameras on the robot: weighed against the student as fitted']


def _columns(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Rows with the second column flush right."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f'  {a:<{first}}  {b:>{second}}  {c}'.rstrip() for a, b, c in rows]
