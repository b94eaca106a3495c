# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The labels of SemanticKITTI: numbers, names and files.

Source: `semantic-kitti.yaml` of the data set's own tools. A label file holds one uint32 per point:
the class in the lower 16 bits, the instance in the upper ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from trainer.datasets.raw_labels import name_labels
from trainer.datasets.sweeps import check_same_length

LABEL_NAMES = {
    0: 'unlabeled',
    1: 'outlier',
    10: 'car',
    11: 'bicycle',
    13: 'bus',
    15: 'motorcycle',
    16: 'on-rails',
    18: 'truck',
    20: 'other-vehicle',
    30: 'person',
    31: 'bicyclist',
    32: 'motorcyclist',
    40: 'road',
    44: 'parking',
    48: 'sidewalk',
    49: 'other-ground',
    50: 'building',
    51: 'fence',
    52: 'other-structure',
    60: 'lane-marking',
    70: 'vegetation',
    71: 'trunk',
    72: 'terrain',
    80: 'pole',
    81: 'traffic-sign',
    99: 'other-object',
    252: 'moving-car',
    253: 'moving-bicyclist',
    254: 'moving-person',
    255: 'moving-motorcyclist',
    256: 'moving-on-rails',
    257: 'moving-bus',
    258: 'moving-truck',
    259: 'moving-other-vehicle',
}


def read_labels(path: Path, num_points: int) -> NDArray[np.uint8]:
    """Read a `.label` file.

    Returns:
        (N,) uint8, position in `LABEL_NAMES`.

    Raises:
        InputError: not 4 bytes for each point, or a number that has no name.
    """
    content = path.read_bytes()
    check_same_length('labels', len(content) // 4, num_points, path)
    if len(content) % 4:
        raise InputError('the labels are cut off', where=path, got=f'{len(content)} bytes')
    classes = np.frombuffer(content, dtype='<u4') & 0xFFFF
    return name_labels(classes.astype(np.uint16), tuple(LABEL_NAMES), path)
