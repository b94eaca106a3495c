# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From settings to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reldistill_ros.core.errors import InputError
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.pandaset import PandaSet, PandaSetSettings
from trainer.datasets.rosbag import Rosbag, RosbagSettings
from trainer.datasets.sample import Dataset

DatasetSettings = Annotated[
    KittiRawSettings | PandaSetSettings | RosbagSettings, Field(discriminator='format')
]


def open_dataset(settings: DatasetSettings, data_root: Path) -> Dataset:
    """Open the drive that the settings describe.

    Args:
        settings: of one of the formats.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: the drive is missing or malformed.
    """
    path = data_root / settings.path
    if not path.exists():
        raise InputError(
            'the drive does not exist',
            where=path,
            expected=f'a drive in the format {settings.format}',
            fix='check `path` in the settings and the data root on the command line',
        )
    if isinstance(settings, KittiRawSettings):
        return KittiRaw(settings, data_root)
    if isinstance(settings, PandaSetSettings):
        return PandaSet(settings, data_root)
    return Rosbag(settings, data_root)
