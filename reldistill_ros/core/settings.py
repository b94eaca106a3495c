# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Typed, frozen settings that reject unknown keys, and the settings both sides share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reldistill_ros.core.errors import InputError

InputFeature = Literal['offset', 'intensity', 'height', 'range']
FEATURE_WIDTH: dict[str, int] = {'offset': 3, 'intensity': 1, 'height': 1, 'range': 1}


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra='forbid', frozen=True)


class VoxelSettings(Settings):
    """The voxel grid in the lidar frame.

    Attributes:
        voxel_size: edge of a cubic voxel in metres.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max in metres; points outside
            are not labelled.
    """

    voxel_size: float = Field(gt=0)
    point_cloud_range: tuple[float, float, float, float, float, float]

    @model_validator(mode='after')
    def _range_is_a_box(self) -> VoxelSettings:
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        if any(a >= b for a, b in zip(low, high)):
            raise ValueError('point_cloud_range must be x_min y_min z_min x_max y_max z_max')
        return self


class InputSettings(Settings):
    """What the student sees of a voxel, and how it is scaled.

    Attributes:
        features: columns in order: `offset` (mean offset from the voxel centre over the voxel
            size), `intensity`, `height` (z), `range` (distance to the sensor).
        intensity_mean: mean of the intensities after division by the sensor's maximum.
        intensity_std: their standard deviation.
    """

    features: tuple[InputFeature, ...] = ('offset', 'intensity', 'height', 'range')
    intensity_mean: float = 0.25
    intensity_std: float = Field(default=0.2, gt=0)

    @property
    def num_features(self) -> int:
        return sum(FEATURE_WIDTH[name] for name in self.features)


class StudentSettings(Settings):
    """The sparse U-Net.

    Attributes:
        network: name of its widths and depths, see `core.student.NETWORKS`.
        embedding_size: dimension C of the text space, the output of the projection head.
    """

    network: Literal['small', 'minkunet18', 'minkunet34']
    embedding_size: int = Field(gt=0)


SettingsType = TypeVar('SettingsType', bound=Settings)


def parse_settings(
    values: object, settings_class: type[SettingsType], where: object
) -> SettingsType:
    """Validate a plain mapping.

    Raises:
        InputError: unknown or missing key, wrong type or value; every problem is named.
    """
    try:
        return settings_class.model_validate(values)
    except ValidationError as error:
        problems = '; '.join(
            f'{".".join(map(str, problem["loc"])) or "(top)"}: {problem["msg"]}, got {problem["input"]!r:.80}'
            for problem in error.errors()
        )
        raise InputError(
            f'the settings are not valid: {problems}',
            where=where,
            fix=f'compare with the documented keys of {settings_class.__name__}',
        ) from error


def load_settings(path: Path, settings_class: type[SettingsType]) -> SettingsType:
    """Read a YAML file (safe_load) and validate it.

    Raises:
        InputError: no such file, not YAML, or not valid settings.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise InputError('the settings file does not exist', where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError('the settings file is not YAML', where=path, got=error) from error
    return parse_settings(values, settings_class, path)
