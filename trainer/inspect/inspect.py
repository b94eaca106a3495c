# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Look into a bag before training on it.

`python -m trainer.inspect BAG [SETTINGS.yaml] [--data ROOT] [--out DIR]` prints what the bag
holds, what of it would be used and why, how lidar, cameras and /tf fit together, what would hinder
training, and the lines for `train:` of a run. With `--out` it also writes `report.json` and, for
each camera, the points drawn over an image. The exit code is 1 where training is not possible.

SETTINGS.yaml holds keys of `RosbagSettings`, whose `path` and `intensity_max` may be left out here.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from trainer.inspect.bag import Inspection, inspect_bag
from trainer.inspect.page import format_page, format_settings
from trainer.overlay import write_png

REPORT = 'report.json'


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.inspect', description='Look into a bag before training on it.'
    )
    parser.add_argument('bag', type=Path, help='folder or file of the bag')
    parser.add_argument('settings', type=Path, nargs='?', help='a file with keys of the data set')
    parser.add_argument(
        '--data', type=Path, help='folder of the data, where absent that which holds the bag'
    )
    parser.add_argument('--out', type=Path, help='folder for report.json and pictures')
    arguments = parser.parse_args()
    data_root = (arguments.data or arguments.bag.parent).resolve()
    values = read_values(arguments.settings, arguments.bag.resolve(), data_root)
    inspection = inspect_bag(values, data_root)
    print(format_page(inspection))
    if inspection.can_be_trained:
        root = arguments.data or arguments.bag.parent
        print(f'\nfor a run file that is used with --data {root}:\n{format_settings(inspection)}')
    if arguments.out is not None:
        for path in write_report(inspection, arguments.out):
            print(f'wrote {path}')
    if not inspection.can_be_trained:
        sys.exit(1)


def read_values(path: Path | None, bag: Path, data_root: Path) -> dict[str, Any]:
    """The settings file's keys with the bag of the command line.

    Args:
        path: of the file, None for no keys.
        bag: absolute.
        data_root: absolute.

    Raises:
        InputError: the file is no YAML mapping.
    """
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding='utf-8'))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError('the settings file is not YAML', where=path, got=error) from error
    if not isinstance(values, dict):
        raise InputError(
            'the settings file holds no keys', where=path, expected='keys of one data set'
        )
    return {**values, 'path': str(bag.relative_to(data_root) if data_root in bag.parents else bag)}


def write_report(inspection: Inspection, out: Path) -> list[Path]:
    """Write `report.json` and the pictures into a folder; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    names = {camera: f'overlay_{camera}.png' for camera in inspection.pictures}
    write_json(out / REPORT, {**asdict(replace(inspection, pictures={})), 'pictures': names})
    for camera, name in names.items():
        write_png([inspection.pictures[camera]], out / name)
    return [out / REPORT, *(out / name for name in names.values())]
