# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Damage to sweeps, to measure how well a student bears it.

The kinds follow Robo3D (Kong et al., ICCV 2023), which damages data sets with fog, missing beams,
blur, echoes that are lost, and other sensors; formulas and severities are this project's own, so
scores compare between its runs and not with that benchmark. Points are lost or changed, never
added: each that remains keeps its label, and those that are lost do not count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # (N, 4), x y z in metres in the lidar frame and intensity, 0 to 1
Rows = NDArray[np.int64]  # (N',), which points of the sweep remain, rising
Corruption = Callable[[Points, int, np.random.Generator], tuple[Points, Rows]]

SEVERITIES = (1, 2, 3)
# By severity.
LOST_BEAMS = (0.25, 0.5, 0.75)  # share
LOST_POINTS = (0.25, 0.5, 0.75)  # share
NOISE = (0.05, 0.1, 0.2)  # m, standard deviation along each axis
EXTINCTION = (0.005, 0.015, 0.03)  # 1/m: one sees 600 m, 200 m, 100 m far (ln 20 / extinction)
GAIN = (0.6, 0.3, 0.1)  # of the intensity

BEAM_HEIGHT = 0.4  # degrees, the spacing of the HDL-64E


def fewer_beams(points: Points, severity: int, _: np.random.Generator) -> tuple[Points, Rows]:
    """Leave out evenly spaced beams, as a lidar that has fewer of them.

    Readers give no ring index, so a beam is estimated by its elevation: one beam is what lies
    within 0.4 degrees, where the beams of a lidar may be farther apart. Closer ones are left out
    together.
    """
    with np.errstate(invalid='ignore'):
        elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        beams, beam = np.unique(np.rint(elevation / BEAM_HEIGHT), return_inverse=True)
    num_kept = max(round((1 - LOST_BEAMS[severity - 1]) * len(beams)), 1)
    is_kept = np.zeros(len(beams), bool)
    is_kept[np.linspace(0, len(beams) - 1, num_kept).astype(int)] = True
    return _keep(points, is_kept[beam])


def dropped_points(points: Points, severity: int, rng: np.random.Generator) -> tuple[Points, Rows]:
    """Lose points anywhere, one as likely as the other."""
    return _keep(points, rng.random(len(points)) >= LOST_POINTS[severity - 1])


def noise(points: Points, severity: int, rng: np.random.Generator) -> tuple[Points, Rows]:
    """Shift every point at random, normally distributed along each axis."""
    moved = points.copy()
    moved[:, :3] += rng.normal(0, NOISE[severity - 1], (len(points), 3)).astype(np.float32)
    return moved, np.arange(len(points))


def fog(points: Points, severity: int, rng: np.random.Generator) -> tuple[Points, Rows]:
    """Lose points the sooner the farther they are, and dim those that remain.

    On the way there and back `exp(-2 a r)` of the light gets through fog of extinction a (law of
    Beer and Lambert, as in the fog model of Hahner et al., ICCV 2021); this share is also taken
    for the chance that an echo is found at all. Echoes of the fog itself are not simulated.
    """
    distance = np.linalg.norm(points[:, :3], axis=1)
    light = np.exp(-2 * EXTINCTION[severity - 1] * distance).astype(np.float32)
    dimmed = points.copy()
    dimmed[:, 3] *= light
    return _keep(dimmed, rng.random(len(points)) < light)


def intensity(points: Points, severity: int, _: np.random.Generator) -> tuple[Points, Rows]:
    """Scale the intensity, as from a lidar that is calibrated otherwise."""
    changed = points.copy()
    changed[:, 3] *= GAIN[severity - 1]
    return changed, np.arange(len(points))


CORRUPTIONS: dict[str, Corruption] = {
    'fewer_beams': fewer_beams,
    'dropped_points': dropped_points,
    'noise': noise,
    'fog': fog,
    'intensity': intensity,
}


def corrupt(
    points: Points, name: str, severity: int, *, seed: int, index: int
) -> tuple[Points, Rows]:
    """Damage one sweep, always in the same way for the same seed and index.

    Args:
        points: (N, 4).
        name: a key of `CORRUPTIONS`.
        severity: 1 to 3.
        seed: of the evaluation.
        index: of the sweep.

    Returns:
        The points (N', 4) that remain, damaged, and which of the sweep's they are (N',).
    """
    rng = np.random.default_rng([seed, index, list(CORRUPTIONS).index(name), severity])
    return CORRUPTIONS[name](points, severity, rng)


def _keep(points: Points, is_kept: NDArray[np.bool_]) -> tuple[Points, Rows]:
    rows = np.flatnonzero(is_kept)
    return points[rows], rows
