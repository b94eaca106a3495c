# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What moves: vehicles, cyclists and people, as functions of time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trainer.datasets.synthetic.figures import NUM_GAIT_PHASES, pedestrian
from trainer.datasets.synthetic.mesh import Mesh
from trainer.datasets.synthetic.scenery import Stock
from trainer.datasets.synthetic.street import CORNER, KERB_HEIGHT, Layout, Street

EGO_SPEED = 6.5
FIRST_INSTANCE = 10_000_000
Rng = np.random.Generator


def ego_position(time: float) -> float:
    """Where the recording vehicle is along the street; its speed varies from 5.7 to 7.3 m/s."""
    return 20.0 + EGO_SPEED * time + 2.0 * float(np.sin(0.4 * time))


@dataclass(frozen=True)
class Mover:
    """Something that moves along the street, or to and fro across it.

    Attributes:
        frames: the object in each phase of its gait, at its origin.
        s: position along the street at time 0.
        d: lateral position; for a crossing, how far it goes to each side.
        z: height of the ground it moves on.
        speed: along the street, m/s, negative for oncoming; of walking for a crossing.
        sway: amplitude in metres of a slow change of position, so that distances vary.
        phase: of the sway, or of a crossing at time 0, in radians.
        crosses: moves across the street.
    """

    frames: tuple[Mesh, ...]
    s: float
    d: float
    z: float
    speed: float
    sway: float = 0.0
    phase: float = 0.0
    crosses: bool = False

    def at(self, time: float, street: Street, span: tuple[float, float]) -> Mesh:
        """The object at a time, in the world; who leaves the span enters it again."""
        frame = self.frames[int(abs(self.speed) * time * 3.0) % len(self.frames)]
        if self.crosses:
            angle = self.speed / self.d * time + self.phase
            yaw = -np.pi / 2 if np.sin(angle) > 0 else np.pi / 2
            return street.placed(frame, (self.s, self.d * np.cos(angle), self.z), yaw)
        travelled = self.s + self.speed * time + self.sway * np.sin(0.35 * time + self.phase)
        s = span[0] + (travelled - span[0]) % (span[1] - span[0])
        yaw = 0.0 if self.speed > 0 else np.pi
        return street.placed(frame, (s, self.d, self.z), yaw, upright=len(self.frames) > 1)


def traffic(layout: Layout, stock: Stock, seed: int, span: tuple[float, float]) -> list[Mover]:
    """Everything that moves in a town."""
    rng = np.random.default_rng([seed, 41])
    movers = [
        *_oncoming(layout, stock, span, rng),
        *_same_lane(layout, stock, rng),
        *_cyclists(layout, stock, span, rng),
        *_walkers(layout, span, rng),
        *_crossing_people(layout, span, rng),
    ]
    return [_numbered(mover, FIRST_INSTANCE + index) for index, mover in enumerate(movers)]


def _numbered(mover: Mover, instance: int) -> Mover:
    frames = [
        replace(frame, instance=np.full_like(frame.instance, instance)) for frame in mover.frames
    ]
    return replace(mover, frames=tuple(frames))


def _vehicle(stock: Stock, rng: Rng) -> Mesh:
    return stock.any(str(rng.choice(['car', 'truck', 'bus'], p=[0.68, 0.19, 0.13])), rng)


def _oncoming(layout: Layout, stock: Stock, span: tuple[float, float], rng: Rng) -> list[Mover]:
    places = np.arange(span[0], span[1] - 20, 34.0) + rng.uniform(0, 14)
    d, speed = layout.lane_width / 2, -float(rng.uniform(6.0, 8.0))
    return [
        Mover((_vehicle(stock, rng),), float(s + rng.uniform(-6, 6)), d, 0, speed) for s in places
    ]


def _same_lane(layout: Layout, stock: Stock, rng: Rng) -> list[Mover]:
    """Vehicles ahead of and behind the recording one, keeping its mean speed."""
    start = ego_position(0)
    gaps = (24.0, 52.0, 80.0, -26.0, -55.0)
    phases = rng.uniform(0, 2 * np.pi, len(gaps))
    return [
        Mover(
            (_vehicle(stock, rng),), start + gap, -layout.lane_width / 2, 0, EGO_SPEED, 5.0, phase
        )
        for gap, phase in zip(gaps, phases)
    ]


def _cyclists(layout: Layout, stock: Stock, span: tuple[float, float], rng: Rng) -> list[Mover]:
    edge = layout.lane_width - 0.35
    movers = []
    for side in (-1, 1):
        speed = -side * float(rng.uniform(3.8, 4.8))
        for s in np.arange(span[0], span[1] - 25, 42.0) + rng.uniform(0, 25):
            movers.append(Mover((stock.any('cyclist', rng),), float(s), side * edge, 0, speed))
    return movers


def _gait(rng: Rng) -> tuple[Mesh, ...]:
    seed = int(rng.integers(1 << 30))
    return tuple(pedestrian(seed, phase, walking=True) for phase in range(NUM_GAIT_PHASES))


def _walkers(layout: Layout, span: tuple[float, float], rng: Rng) -> list[Mover]:
    gaits = [_gait(rng) for _ in range(8)]
    movers = []
    for s in np.arange(span[0], span[1], 13.0):
        side, direction = rng.choice([-1, 1], 2)
        d = side * (layout.sidewalk_end - rng.uniform(0.4, layout.sidewalk_width - 1.5))
        speed = direction * float(rng.uniform(0.9, 1.5))
        movers.append(Mover(gaits[rng.integers(8)], float(s), d, KERB_HEIGHT, speed))
    return movers


def _crossing_people(layout: Layout, span: tuple[float, float], rng: Rng) -> list[Mover]:
    """One or two people on every zebra crossing, on the sidewalk when the vehicle passes."""
    reach = layout.kerb + 1.0
    movers = []
    for block in range(
        int(span[0] // layout.block_length) + 1, int(span[1] // layout.block_length)
    ):
        s = block * layout.block_length + layout.side_street_width + CORNER / 2
        passing = (s - ego_position(0)) / EGO_SPEED
        for _ in range(int(rng.integers(1, 3))):
            speed, end = float(rng.uniform(1.0, 1.5)), np.pi * int(rng.integers(2))
            phase = end - speed / reach * passing
            place = s + rng.uniform(-0.7, 0.7)
            movers.append(Mover(_gait(rng), place, reach, 0.03, speed, phase=phase, crosses=True))
    return movers
