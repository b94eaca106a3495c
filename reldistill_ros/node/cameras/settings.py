# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The parameters of each camera: `camera.NAME.*`, all read-only.

Not `cameras.NAME.*`: one YAML file cannot hold the list `cameras` and a mapping of that name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from reldistill_ros.core.settings import Settings
from reldistill_ros.node.declaring import declare

PREFIX = 'camera'
NAME = re.compile(r'[a-zA-Z][a-zA-Z0-9_]{0,63}')  # part of a topic's name
MOST_CAMERAS = 32
TAKEN = ('pointcloud',)  # a camera's topics lie beside those of the clouds
Seven = tuple[float, float, float, float, float, float, float]


class CameraSettings(Settings):
    """One camera."""

    transport: Literal['raw', 'compressed'] = Field(
        default='raw',
        description='What comes on ~/input/NAME/image: sensor_msgs/Image or CompressedImage.',
    )
    offset: float = Field(
        default=0.0,
        ge=-10.0,
        le=10.0,
        description='Seconds to add to the stamps of its images, to have them in the time of the '
        "lidar's.",
    )
    window: float = Field(
        default=0.1,
        ge=0.0,
        le=10.0,
        description="How far from the sweep's stamp an image may be, in seconds. What is encoded "
        'too late for that is not used.',
    )
    extrinsics: Seven = Field(
        default=(0.0,) * 7,
        description="The camera's optical frame in the frame of the clouds: x y z in metres and a "
        'quaternion x y z w; zeros: as /tf says.',
    )
    calibration: str = Field(
        default='',
        description='File of camera_calibration (ost.yaml), instead of the CameraInfo.',
    )
    is_rectified: bool = Field(
        default=False, description='Its images are rectified: P is their matrix, and D is over.'
    )
    is_second: bool = Field(
        default=False,
        description='Its frame is that of the first camera of a stereo pair, and P says how far '
        'it is from there.',
    )
    overlay_width: int = Field(
        default=960,
        ge=16,
        le=8192,
        description='Overlays of wider images are scaled down to this many pixels.',
    )
    overlay_point_size: int = Field(
        default=4, ge=1, le=32, description='Edge of a point in the overlay, in pixels.'
    )
    overlay_opacity: float = Field(
        default=0.8, ge=0.0, le=1.0, description='Of the points over the image.'
    )

    @field_validator('extrinsics')
    @classmethod
    def _is_a_pose(cls, numbers: Seven) -> Seven:
        if any(numbers) and not 0.99 < sum(number**2 for number in numbers[3:]) < 1.01:
            raise ValueError(
                'extrinsics must be x y z and a quaternion x y z w of length 1, or seven zeros'
            )
        return numbers


def camera_parameters(names: Sequence[str]) -> list[str]:
    """Names of the parameters of cameras."""
    return [f'{PREFIX}.{name}.{field}' for name in names for field in CameraSettings.model_fields]


def declare_cameras(node: Any, names: Sequence[str]) -> dict[str, CameraSettings]:
    """Declare the parameters of each camera and read them.

    Raises:
        InputError: a value is wrong.
    """
    return {name: declare(node, CameraSettings, f'{PREFIX}.{name}.') for name in names}


def check_camera_names(names: Sequence[str]) -> None:
    """Refuse what can be no part of the name of a topic.

    Raises:
        ValueError: there is such a name, or one stands twice, or there are too many.
    """
    wrong = [name for name in names if not NAME.fullmatch(name) or '__' in name or name in TAKEN]
    if wrong:
        raise ValueError(f'a camera is named by letters, digits and single _: {wrong}')
    if len(set(names)) < len(names):
        raise ValueError('a camera stands twice')
    if len(names) > MOST_CAMERAS:
        raise ValueError(f'at most {MOST_CAMERAS} cameras')
