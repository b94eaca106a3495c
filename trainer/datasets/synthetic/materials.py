# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What things are and what they are made of: classes, materials, reflectivity in the infrared."""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.vocabulary import IGNORE_INDEX

CLASS_NAMES = (
    'road',
    'sidewalk',
    'terrain',
    'building',
    'fence',
    'wall',
    'pole',
    'traffic sign',
    'tree',
    'bush',
    'car',
    'truck',
    'bus',
    'bicycle',
    'pedestrian',
    'traffic cone',
)
(
    ROAD,
    SIDEWALK,
    TERRAIN,
    BUILDING,
    FENCE,
    WALL,
    POLE,
    SIGN,
    TREE,
    BUSH,
    CAR,
    TRUCK,
    BUS,
    BICYCLE,
    PEDESTRIAN,
    CONE,
) = range(len(CLASS_NAMES))
SKY = IGNORE_INDEX
THINGS = (SIGN, CAR, TRUCK, BUS, BICYCLE, PEDESTRIAN, CONE)


class Material(IntEnum):
    """Surface kinds: each has a texture and a reflectivity."""

    ASPHALT = 0
    PAVING = auto()
    GRASS = auto()
    BRICK = auto()
    PLASTER = auto()
    CURTAIN_WALL = auto()
    ROOF = auto()
    WOOD = auto()
    METAL = auto()
    STONE = auto()
    LEAF = auto()
    BARK = auto()
    PAINT = auto()
    GLASS = auto()
    RUBBER = auto()
    CLOTH = auto()
    SIGN_FACE = auto()
    CONE_BODY = auto()


_REFLECTIVITY = {
    Material.ASPHALT: 0.11,
    Material.PAVING: 0.24,
    Material.GRASS: 0.42,
    Material.BRICK: 0.34,
    Material.PLASTER: 0.45,
    Material.CURTAIN_WALL: 0.2,
    Material.ROOF: 0.22,
    Material.WOOD: 0.36,
    Material.METAL: 0.3,
    Material.STONE: 0.3,
    Material.LEAF: 0.5,
    Material.BARK: 0.26,
    Material.PAINT: 0.38,
    Material.GLASS: 0.05,
    Material.RUBBER: 0.05,
    Material.CLOTH: 0.33,
    Material.SIGN_FACE: 0.95,
    Material.CONE_BODY: 0.6,
}


def reflectivity_table() -> NDArray[np.float32]:
    """Base reflectivity of each material at 905 nm, (M,), 0 to 1; plausible, not measured."""
    return np.array([_REFLECTIVITY[material] for material in Material], dtype=np.float32)
