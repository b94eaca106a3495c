# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Stored lists of the labels that a few-shot protocol may use.

`python -m trainer.splits PROTOCOL.yaml --data DATA --out config/splits/NAME` writes NAME_1.yaml,
NAME_5.yaml, ... A list names sectors of sweeps, so that 1 percent is possible where a drive has
fewer than a hundred sweeps, and so that a few labels show many places. The lists of one command
are nested: 1 percent lies inside 5 percent, and so on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import replacing
from reldistill_ros.core.settings import Settings, load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.config_files import find_config
from trainer.datasets.open import open_dataset
from trainer.datasets.sample import Dataset, Sample
from trainer.few_shot_settings import ProtocolSettings
from trainer.teachers.build import find_vocabulary

PERCENTS = (1.0, 5.0, 10.0, 25.0)

Angle = Annotated[float, Field(ge=0, le=360)]
Sector = tuple[Angle, Angle]


class Split(Settings):
    """A stored list.

    Attributes:
        percent: share of the labelled points of the drives.
        seed: that it was drawn with.
        sectors: id of each sweep and its sectors, from an azimuth up to another, in degrees in
            the lidar frame: 0 is forward (+x), 90 to the left (+y). Only the labels of the
            points in them are used; `[[0, 360]]` is the whole sweep.
    """

    percent: float = Field(gt=0, le=100)
    seed: int | None = None
    sectors: dict[str, tuple[Sector, ...]] = Field(min_length=1)


@dataclass(frozen=True)
class LabelledSector:
    """A sector of a sweep and how many labelled points it holds."""

    sample_id: str
    start: float
    stop: float
    num_points: int


def azimuths(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Degrees (N,) in [0, 360) of points (N, 4) in the lidar frame."""
    x, y = points[:, :2].astype(np.float64).T
    degrees: NDArray[np.float64] = np.degrees(np.arctan2(y, x)) % 360
    return np.where(degrees >= 360, 0.0, degrees)  # -1e-15 % 360 is 360


def keep_sectors(
    points: NDArray[np.float32], labels: NDArray[np.uint8], sectors: Sequence[Sector]
) -> NDArray[np.uint8]:
    """Labels (N,) with `IGNORE_INDEX` outside the sectors.

    Args:
        points: (N, 4) in the lidar frame, not augmented.
        labels: (N,).
        sectors: see `Split.sectors`.
    """
    degrees = azimuths(points)
    inside = np.zeros(len(labels), bool)
    for start, stop in sectors:
        inside |= (degrees >= start) & (degrees < stop)
    return np.where(inside, labels, IGNORE_INDEX).astype(np.uint8)


def true_classes(sample: Sample, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class (N,) of each point by the table of `Vocabulary.label_table`.

    Raises:
        InputError: the sweep has no labels.
    """
    if sample.labels is None:
        raise InputError('the sweep has no labels', where=sample.sample_id)
    return table[sample.labels]


def labelled_sectors(
    datasets: Sequence[Dataset], vocabulary: Vocabulary, width: float
) -> list[LabelledSector]:
    """Every sector of the drives that holds labelled points.

    Args:
        datasets: labelled drives.
        vocabulary: points whose label is none of its classes do not count.
        width: of a sector in degrees.

    Raises:
        InputError: a sweep without labels, or no labelled point at all.
    """
    found = []
    edges = np.linspace(0, 360, round(360 / width) + 1)
    for dataset in datasets:
        table = vocabulary.label_table(dataset.name, dataset.label_names)
        for index in tqdm(range(len(dataset)), desc=f'count {dataset.name}', unit='sweep'):
            sample = dataset[index]
            is_labelled = true_classes(sample, table) != IGNORE_INDEX
            counts, _ = np.histogram(azimuths(sample.points[is_labelled]), edges)
            found += [
                LabelledSector(sample.sample_id, float(edges[k]), float(edges[k + 1]), counts[k])
                for k in np.flatnonzero(counts)
            ]
    if not found:
        raise InputError('no point of the drives has a label of the vocabulary')
    return found


def draw_nested(
    sectors: Sequence[LabelledSector], percents: Sequence[float], seed: int
) -> dict[float, list[LabelledSector]]:
    """The first sectors of one random order, until they hold the share of all labelled points.

    As all shares take the same order, the smaller lie inside the larger.
    """
    order = np.random.default_rng(seed).permutation(len(sectors))
    held = np.cumsum([sectors[index].num_points for index in order])
    nums = {p: int(np.searchsorted(held, p / 100 * held[-1])) + 1 for p in percents}
    return {percent: [sectors[index] for index in order[:num]] for percent, num in nums.items()}


def make_split(percent: float, seed: int, sectors: Sequence[LabelledSector]) -> Split:
    """The list of some sectors, in order of sweeps and azimuths."""
    by_sweep: dict[str, list[Sector]] = {}
    for entry in sorted(sectors, key=lambda sector: (sector.sample_id, sector.start)):
        by_sweep.setdefault(entry.sample_id, []).append((entry.start, entry.stop))
    found = {name: tuple(pairs) for name, pairs in by_sweep.items()}
    return Split(percent=percent, seed=seed, sectors=found)


def write_split(path: Path, split: Split) -> None:
    """Write a list as YAML, sweep by sweep."""
    text = yaml.safe_dump(
        split.model_dump(mode='json'), sort_keys=False, default_flow_style=None, width=95
    )
    head = '# Azimuth sectors (degrees, lidar frame) whose labels may be used, by sweep.\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(head + text, encoding='utf-8')


def read_split(protocol: ProtocolSettings, data_root: Path) -> Split | None:
    """Read the list that a protocol names, None where it uses all labels.

    Raises:
        InputError: the list does not exist, is malformed, or is of another share.
    """
    if protocol.split is None:
        return None
    fix = 'make it: python -m trainer.splits --help'
    path = find_config(protocol.split, data_root, 'the list of labels', fix)
    split = load_settings(path, Split)
    if split.percent != protocol.percent:
        raise InputError(
            'the list holds another share of the labels than the protocol says',
            where=path,
            expected=f'percent: {protocol.percent:g}',
            got=f'{split.percent:g}',
            fix='change `percent` or `split` in the protocol',
        )
    return split


def check_sweeps(split: Split, sample_ids: set[str]) -> None:
    """Reject a list that names sweeps that the drives do not have.

    Raises:
        InputError: says which.
    """
    unknown = [name for name in split.sectors if name not in sample_ids]
    if unknown:
        raise InputError(
            'the drives lack sweeps that the list of labels names',
            where=', '.join(unknown[:5]) + (', ...' if len(unknown) > 5 else ''),
            got=f'{len(unknown)} of {len(split.sectors)} sweeps are missing',
            fix='use the drives that the list was made from, or make lists of yours: '
            'python -m trainer.splits --help',
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.splits', description=__doc__)
    parser.add_argument('protocol', type=Path, help='YAML that names training drives and classes')
    parser.add_argument('--data', type=Path, default=Path(), help="root of the protocol's paths")
    parser.add_argument('--out', type=Path, required=True, help='start of the files to write')
    parser.add_argument('--percents', type=float, nargs='+', default=PERCENTS, metavar='P')
    parser.add_argument('--sector', type=float, default=20.0, help='width in degrees')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    _check_arguments(arguments)
    protocol = load_settings(arguments.protocol, ProtocolSettings)
    vocabulary = load_settings(find_vocabulary(protocol.vocabulary, arguments.data), Vocabulary)
    datasets = [open_dataset(entry, arguments.data) for entry in protocol.train]
    sectors = labelled_sectors(datasets, vocabulary, arguments.sector)
    for percent, drawn in draw_nested(sectors, arguments.percents, arguments.seed).items():
        path = arguments.out.with_name(f'{arguments.out.name}_{percent:g}.yaml')
        split = make_split(percent, arguments.seed, drawn)
        write_split(path, split)
        print(f'{path}: {len(drawn)} of {len(sectors)} sectors, {len(split.sectors)} sweeps')


def _check_arguments(arguments: argparse.Namespace) -> None:
    num = 360 / arguments.sector if arguments.sector > 0 else 0
    if num < 1 or abs(num - round(num)) > 1e-9:
        raise InputError(
            'the sectors do not fill the circle',
            where='--sector',
            expected='360 divided by a whole number',
            got=arguments.sector,
        )
    wrong = [percent for percent in arguments.percents if not 0 < percent < 100]
    if wrong:
        raise InputError(
            'a share of the labels is not possible',
            where='--percents',
            expected='above 0 and below 100; 100 needs no list',
            got=wrong,
        )


if __name__ == '__main__':
    run_command(main)
