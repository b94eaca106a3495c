# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From settings to a data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field

from reldistill_ros.core.errors import InputError
from trainer.datasets.argoverse2 import Argoverse2
from trainer.datasets.argoverse2_log import Argoverse2Settings
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.nuscenes import NuScenes, NuScenesSettings
from trainer.datasets.pandaset import PandaSet, PandaSetSettings
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.datasets.sample import Dataset
from trainer.datasets.semantic_kitti import SemanticKitti, SemanticKittiSettings

DatasetSettings = Annotated[
    KittiRawSettings
    | PandaSetSettings
    | NuScenesSettings
    | SemanticKittiSettings
    | Argoverse2Settings
    | RosbagSettings,
    Field(discriminator='format'),
]


def tell_what_is_read() -> None:
    """Have the readers print what they chose and why, as they print their warnings."""
    logging.basicConfig(format='%(message)s')
    logging.getLogger('trainer').setLevel(logging.INFO)


def open_dataset(settings: DatasetSettings, data_root: Path) -> Dataset:
    """Open the drive that the settings describe.

    Args:
        settings: of one of the formats.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: the drive is missing or malformed.
    """
    if isinstance(settings, RosbagSettings):
        return Rosbag(settings, data_root)
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
    if isinstance(settings, NuScenesSettings):
        return NuScenes(settings, data_root)
    if isinstance(settings, SemanticKittiSettings):
        return SemanticKitti(settings, data_root)
    return Argoverse2(settings, data_root)
