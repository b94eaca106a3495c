# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What was found in a bag, as one page of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import yaml

from trainer.inspect.bag import DriveFacts, Inspection
from trainer.inspect.cameras import CameraFacts, pairs_per_sweep
from trainer.inspect.hints import Hindrance
from trainer.inspect.points import CloudFacts
from trainer.inspect.topics import EdgeFacts, Rhythm, TopicFacts

WIDTH = 100


def format_page(inspection: Inspection) -> str:
    """The page, sections with a title and indented lines."""
    sections = {
        f'topics of {inspection.path}': _topic_lines(inspection.topics),
        'coordinate frames': _edge_lines(inspection.edges),
        'motion of the car': _motion_lines(inspection.drive),
        'points': _point_lines(inspection.clouds),
        'cameras': _camera_lines(inspection.drive, inspection.clouds),
        'what would hinder training': _hindrance_lines(inspection.hindrances),
    }
    return '\n\n'.join(
        '\n'.join([title, *(f'  {line}' for line in lines)]) for title, lines in sections.items()
    )


def _topic_lines(topics: Sequence[TopicFacts]) -> list[str]:
    rows = [('topic', 'type', 'frame', 'messages', 'Hz', 'longest gap', 'used as')]
    rows += [
        (t.topic, t.type.rpartition('/')[2], t.frame, *_rhythm_words(t.rhythm), t.use)
        for t in topics
    ]
    return _table(rows)


def _edge_lines(edges: Sequence[EdgeFacts]) -> list[str]:
    rows = [('parent', 'child', 'from', 'messages', 'Hz', 'longest gap')]
    rows += [
        (e.parent, e.child, '/tf_static' if e.is_static else '/tf', *_rhythm_words(e.rhythm))
        for e in edges
    ]
    return _table(rows) if edges else ['the bag holds neither /tf nor /tf_static']


def _motion_lines(drive: DriveFacts | None) -> list[str]:
    if drive is None:
        return ['not looked at: the drive cannot be opened']
    motion = drive.motion
    if motion.source is None:
        return [
            f'{drive.num_sweeps} sweeps; nothing says how the car moves, it is taken to stand still'
        ]
    return [
        f'{drive.num_sweeps} sweeps over {motion.distance:.1f} m by {motion.source}, known for '
        f'{motion.share_known:.0%} of the steps from sweep to sweep'
    ]


def _point_lines(clouds: CloudFacts | None) -> list[str]:
    if clouds is None:
        return ['no cloud could be read']
    lines = [
        f'{clouds.topic}: {clouds.num_points} points a sweep, {clouds.share_usable:.1%} usable, '
        f'99.9 % within {clouds.farthest:g} m, {clouds.sweep_time * 1e3:.0f} ms from first to last',
        f'{clouds.point_step} bytes a point: {", ".join(clouds.fields)}',
    ]
    found = clouds.intensity
    if found is not None:
        lines.append(
            f'{found.field} ({found.type}): median {found.median:g}, 99 % below '
            f'{found.percentile_99:g}, largest {found.largest:g}: intensity_max '
            f'{found.suggested_max:g} fits'
        )
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent='  ')]


def _camera_lines(drive: DriveFacts | None, clouds: CloudFacts | None) -> list[str]:
    if drive is None or not drive.cameras:
        return ['no camera can be used']
    rows: list[tuple[str, ...]] = [
        ('camera', 'images', 'view', 'ms after the sweep', 'without', 'in view', 'pairs', 'lens')
    ]
    rows += [_camera_row(camera) for camera in drive.cameras]
    pairs = pairs_per_sweep(drive.cameras)
    share = f', {pairs / clouds.num_points:.1%} of the points' if clouds is not None else ''
    return [
        *_table(rows),
        'after the sweep: 5 %, median, 95 %; without: sweeps that come without an image;',
        f'pairs: in view and not hidden from the camera, {pairs} a sweep{share}',
    ]


def _camera_row(camera: CameraFacts) -> tuple[str, ...]:
    offset = camera.offset
    return (
        camera.name,
        'x'.join(map(str, camera.rectified_size)),
        f'{camera.horizontal_view:g} deg',
        'none near' if offset is None else ' '.join(f'{number:g}' for number in offset),
        f'{camera.sweeps_without:.0%}',
        str(camera.num_in_view),
        str(camera.num_pairs),
        camera.lens,
    )


def _hindrance_lines(hindrances: Sequence[Hindrance]) -> Iterator[str]:
    if not hindrances:
        yield 'nothing was found'
    for hindrance in hindrances:
        mark = 'STOPS' if hindrance.stops else 'note'
        what = ' '.join(line.strip() for line in hindrance.what.splitlines())
        yield from textwrap.wrap(f'{mark:<6}{what}', WIDTH, subsequent_indent=' ' * 6)
        if hindrance.fix:
            yield from textwrap.wrap(
                f'to do: {hindrance.fix}',
                WIDTH,
                initial_indent=' ' * 6,
                subsequent_indent=' ' * 13,
            )


def format_settings(inspection: Inspection) -> str:
    """The part `train:` of a run file, to be pasted as it is."""
    values = {'train': [inspection.settings]}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _rhythm_words(rhythm: Rhythm) -> tuple[str, str, str]:
    if rhythm.rate is None or rhythm.longest_gap is None:
        return str(rhythm.count), '', ''
    return str(rhythm.count), f'{rhythm.rate:.4g}', f'{rhythm.longest_gap:.3g} s'


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        '  '.join(f'{word:<{width}}' for word, width in zip(row, widths)).rstrip() for row in rows
    ]
