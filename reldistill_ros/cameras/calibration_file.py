# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Calibration files of ROS, for cameras whose CameraInfo is missing or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from reldistill_ros.cameras.camera_info import Calibration, check_calibrated, rotation_of, shaped
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, parse_settings


class _Values(Settings):
    """A matrix of a calibration file."""

    rows: int
    cols: int
    data: tuple[float, ...]


class _File(Settings):
    """A calibration file as `camera_calibration` writes it."""

    image_width: int
    image_height: int
    camera_name: str = ''
    camera_matrix: _Values
    distortion_model: Literal[
        'plumb_bob', 'rational_polynomial', 'equidistant', 'fisheye', 'kannala_brandt'
    ] = 'plumb_bob'
    distortion_coefficients: _Values
    rectification_matrix: _Values | None = None
    projection_matrix: _Values | None = None


def read_calibration_file(path: Path) -> Calibration:
    """Read a YAML file of `camera_calibration` (`ost.yaml`).

    Raises:
        InputError: no such file, not such a file, or not calibrated.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError('the calibration file cannot be read', where=path, got=error) from error
    file = parse_settings(values, _File, path)
    projection = file.projection_matrix.data if file.projection_matrix else (0.0,) * 12
    rotation = file.rectification_matrix.data if file.rectification_matrix else (0.0,) * 9
    calibration = Calibration(
        size=(file.image_height, file.image_width),
        model=file.distortion_model,
        coefficients=np.array(file.distortion_coefficients.data),
        matrix=shaped(file.camera_matrix.data, (3, 3), str(path)),
        rotation=rotation_of(rotation, str(path)),
        projection=shaped(projection, (3, 4), str(path)),
        where=str(path),
    )
    check_calibrated(calibration)
    return calibration
