# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A stock of ready-made objects, and where they are put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trainer.datasets.synthetic import figures, plants, vehicles
from trainer.datasets.synthetic import street_furniture as furniture
from trainer.datasets.synthetic.materials import BICYCLE, BUS, CAR, FENCE, SIDEWALK, TRUCK, WALL
from trainer.datasets.synthetic.mesh import Mesh
from trainer.datasets.synthetic.street import (
    Street,
)

Rng = np.random.Generator
Span = tuple[int, float, float]  # side of the street (-1 right, 1 left), from s, to s
SLOPING = (CAR, TRUCK, BUS, BICYCLE, FENCE, WALL, SIDEWALK)  # follow the slope of the street


class Stock:
    """Ready-made objects of a town, built once and placed many times."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 21])
        build: dict[str, tuple[int, Callable[[], Mesh]]] = {
            'tree': (7, lambda: plants.tree(rng, float(rng.uniform(6.5, 10.0)))),
            'street tree': (5, lambda: plants.tree(rng, float(rng.uniform(5.0, 7.0)))),
            'conifer': (2, lambda: plants.conifer(rng, float(rng.uniform(6.0, 10.0)))),
            'bush': (8, lambda: plants.bush(rng)),
            'car': (14, lambda: vehicles.car(rng)),
            'truck': (5, lambda: vehicles.truck(rng)),
            'bus': (4, lambda: vehicles.bus(rng)),
            'bicycle': (6, lambda: vehicles.bicycle(rng, ridden=False)),
            'cyclist': (6, lambda: vehicles.bicycle(rng, ridden=True)),
            'lamp': (2, lambda: furniture.street_lamp(rng)),
            'sign': (10, lambda: furniture.traffic_sign(rng)),
            'board': (3, lambda: furniture.direction_board(rng)),
            'utility pole': (1, furniture.utility_pole),
            'bollard': (1, furniture.bollard),
            'cone': (1, furniture.traffic_cone),
            'pedestrian': (
                8,
                lambda: figures.pedestrian(int(rng.integers(1 << 30)), 0, walking=False),
            ),
        }
        self._meshes = {
            name: [make() for _ in range(count)] for name, (count, make) in build.items()
        }

    def any(self, name: str, rng: Rng) -> Mesh:
        """A random one of a kind."""
        choices = self._meshes[name]
        return choices[rng.integers(len(choices))]


class Scenery:
    """Collects placed objects and numbers them."""

    def __init__(self, street: Street, first_instance: int) -> None:
        self.street = street
        self.parts: list[Mesh] = []
        self.next_instance = first_instance

    def put(self, mesh: Mesh, at: tuple[float, float, float], yaw: float = 0.0) -> None:
        """Place an object at s, d, z."""
        placed = self.street.placed(mesh, at, yaw, upright=int(mesh.label[0]) not in SLOPING)
        number = np.full_like(placed.instance, self.next_instance)
        self.parts.append(replace(placed, instance=number))
        self.next_instance += 1


def facing_street(side: int) -> float:
    """Yaw of an object whose depth is along +y, so that its front faces the street."""
    return 0.0 if side > 0 else np.pi
