# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Typed, frozen settings that reject unknown keys, and the settings both sides share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.unknown_keys import closest, did_you_mean, known_keys

InputFeature = Literal['offset', 'intensity', 'height', 'range']
FEATURE_WIDTH: dict[str, int] = {'offset': 3, 'intensity': 1, 'height': 1, 'range': 1}


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys and NaN or infinite numbers rejected."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


# kernel maps pack three coordinates and their neighbours' into 63 bits
MOST_VOXELS_OF_AN_AXIS = 1 << 20


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
        most = max(b - a for a, b in zip(low, high)) / self.voxel_size
        if most > MOST_VOXELS_OF_AN_AXIS:
            raise ValueError(
                f'the range is {most:.0f} voxels long, at most {MOST_VOXELS_OF_AN_AXIS}'
            )
        return self


class InputSettings(Settings):
    """What the student sees of a voxel, and how it is scaled.

    Attributes:
        features: columns in order: `offset` (mean offset from the voxel centre over the voxel
            size), `intensity`, `height` (z), `range` (distance to the sensor).
        intensity_mean: mean of the intensities after division by the sensor's maximum.
        intensity_std: their standard deviation.
    """

    features: tuple[InputFeature, ...] = Field(
        default=('offset', 'intensity', 'height', 'range'), min_length=1
    )
    intensity_mean: float = 0.25
    intensity_std: float = Field(default=0.2, gt=0)

    @field_validator('features')
    @classmethod
    def _features_differ(cls, features: tuple[InputFeature, ...]) -> tuple[InputFeature, ...]:
        if len(set(features)) < len(features):
            raise ValueError('a feature stands twice')
        return features

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

    Types are strict, but a whole number may stand for a float. Validated as JSON, because
    strictness in Python would also refuse lists as tuples and text as paths.

    Raises:
        InputError: unknown or missing key, wrong type or value; every problem is named.
    """
    try:
        return settings_class.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        problems = _describe_all(error.errors(), settings_class)
        raise InputError(
            'the settings are not valid: ' + '\n  and '.join(problems),
            where=where,
            fix=f'compare with the keys of {settings_class.__name__} in {_file_of(settings_class)}',
        ) from error
    except (TypeError, ValueError) as error:  # a date, a set, a list that holds itself
        raise InputError(
            'the settings hold something else than text, numbers, truth values, lists and mappings',
            where=where,
            got=error,
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
    except OSError as error:
        raise InputError(
            'the settings file cannot be read', where=path, got=error.strerror
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError('the settings file is not YAML', where=path, got=error) from error
    return parse_settings(values, settings_class, path)


def _describe_all(
    problems: Sequence[ErrorDetails], settings_class: type[BaseModel]
) -> Iterator[str]:
    """One line for each problem that does not follow from another one.

    A misspelt key is also missing, and a list whose items are wrong is also too short.
    """
    unknown = [problem['loc'] for problem in problems if problem['type'] == 'extra_forbidden']
    guesses = {
        (*place, key): closest(str(key), known_keys(settings_class, place))
        for *place, key in unknown
    }
    meant = {(*place[:-1], guess) for place, guess in guesses.items()}
    above = {p['loc'][:depth] for p in problems for depth in range(len(p['loc']))}
    for problem in problems:
        place, name = problem['loc'], '.'.join(map(str, problem['loc'])) or '(top)'
        if place in guesses:
            yield f'{name}: there is no such key{did_you_mean(guesses[place])}'
        elif problem['type'] == 'missing':
            if place not in meant:
                yield f'{name}: missing'
        elif problem['type'] != 'too_short' or place not in above:
            yield _describe(name, problem)


def _describe(name: str, problem: ErrorDetails) -> str:
    is_text = problem['type'] == 'float_type' and isinstance(problem['input'], str)
    hint = '; YAML takes 1e-3 for text and 1.0e-3 for a number' if is_text else ''
    told = problem['msg'].removeprefix('Value error, ')  # our own validators speak for themselves
    return f'{name}: {told}, got {problem["input"]!r:.80}{hint}'


def _file_of(settings_class: type[BaseModel]) -> str:
    """Where a class of settings is documented, from the root of the checkout."""
    return f'{settings_class.__module__.replace(".", "/")}.py'
