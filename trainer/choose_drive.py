# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which drive a command line means: one of a run file, or the one that a file describes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, load_settings, parse_settings
from trainer.datasets.open import DatasetSettings, open_dataset
from trainer.datasets.sample import Dataset
from trainer.pairing import PairingSettings
from trainer.settings import RunSettings


@dataclass(frozen=True)
class ChosenDrive:
    """An open drive, and how its points are paired with pixels."""

    dataset: Dataset
    settings: DatasetSettings
    pairing: PairingSettings


class _AnyMapping(Settings):
    model_config = ConfigDict(extra='allow', frozen=True)


class _OneDrive(Settings):
    drive: DatasetSettings


def add_drive_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `choose_drive` reads."""
    parser.add_argument('settings', type=Path, help='a run file, or a file with one data set')
    parser.add_argument('--data', type=Path, required=True, help='folder of the data')
    parser.add_argument(
        '--dataset',
        type=int,
        default=0,
        help='which data set of a run file, counted from 0: those of `train`, then of `evaluate`',
    )


def choose_drive(arguments: argparse.Namespace) -> ChosenDrive:
    """Open the drive that the command line names.

    Raises:
        InputError: the file is not valid, or there is no such drive.
    """
    path: Path = arguments.settings
    values = load_settings(path, _AnyMapping).model_dump()
    if 'format' in values:
        pairing = PairingSettings()
        drives = [parse_settings({'drive': values}, _OneDrive, path).drive]
    else:
        run = parse_settings(values, RunSettings, path)
        pairing, drives = run.pairing, [*run.train, *run.evaluate]
    settings = drives[choose('dataset', arguments.dataset, len(drives))]
    return ChosenDrive(open_dataset(settings, arguments.data), settings, pairing)


def choose(name: str, number: int, length: int) -> int:
    """Reject a number of the command line that is not below `length`.

    Raises:
        InputError: there is no such thing.
    """
    if not 0 <= number < length:
        raise InputError(
            f'there is no such {name}',
            where=f'--{name}',
            expected=f'0 to {length - 1}',
            got=number,
        )
    return number
