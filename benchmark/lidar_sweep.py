# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The sweeps that the benchmark runs on: the synthetic town, seen by two kinds of lidar."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.settings import VoxelSettings
from trainer.datasets.synthetic.record import Drive
from trainer.datasets.synthetic.render import render_sweep
from trainer.datasets.synthetic.rig import make_lidar

POINT_CLOUD_RANGE = (-100.0, -100.0, -5.0, 100.0, 100.0, 20.0)


@dataclass(frozen=True)
class Case:
    """A sweep and its grid.

    Attributes:
        beams: of the lidar.
        num_azimuths: columns of a turn.
        voxel_size: metres.
        sweep: which of the town's drive.
    """

    beams: int
    num_azimuths: int
    voxel_size: float
    sweep: int

    @property
    def voxel(self) -> VoxelSettings:
        return VoxelSettings(voxel_size=self.voxel_size, point_cloud_range=POINT_CLOUD_RANGE)


# An HDL-32E and an HDL-64E in their slow turns: about 25 and 90 thousand voxels.
CASES = {'32': Case(32, 2170, 0.1, 20), '64': Case(64, 2400, 0.05, 15)}


def cast_sweep(case: Case) -> NDArray[np.float32]:
    """Points (N, 4) of the case, the same at every call."""
    drive = Drive()
    lidar = replace(make_lidar(case.beams), num_azimuths=case.num_azimuths)
    points: NDArray[np.float32] = render_sweep(
        drive.scene(), drive.stamps()[case.sweep], lidar
    ).sweep.points
    return points
