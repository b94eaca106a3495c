# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One moment of the drive: the lidar sweep and the pictures taken while it turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.synthetic.camera import Picture, render_camera
from trainer.datasets.synthetic.damage import Prediction, predict
from trainer.datasets.synthetic.lidar import LidarSweep, render_lidar
from trainer.datasets.synthetic.rays import Scene
from trainer.datasets.synthetic.rig import START_NS, Camera, Lidar, Matrix, seconds
from trainer.datasets.synthetic.world import World


@dataclass(frozen=True)
class Shot:
    """A picture, who took it and when."""

    camera: Camera
    stamp_ns: int
    picture: Picture


@dataclass(frozen=True)
class Moment:
    """A sweep and its pictures."""

    stamp_ns: int
    sweep: LidarSweep
    shots: tuple[Shot, ...]


def odom_from_base(world: World, stamp_ns: int) -> Matrix:
    """Pose (4, 4) of the vehicle in the frame where its drive begins."""
    start = world.world_from_base(seconds(START_NS))
    return np.linalg.inv(start) @ world.world_from_base(seconds(stamp_ns))


def sensor_rng(world: World, stamp_ns: int, sensor: int) -> np.random.Generator:
    """Random numbers of one sensor at one stamp, whoever renders it and when."""
    return np.random.default_rng([world.seed, 61, stamp_ns - START_NS, sensor])


def render_sweep(
    scene: Scene, stamp_ns: int, lidar: Lidar, cameras: tuple[Camera, ...] = ()
) -> Moment:
    """Render one moment.

    Args:
        scene: the town; its time is changed.
        stamp_ns: of the sweep, not before `START_NS`.
        lidar: the lidar.
        cameras: fired at their delays after the stamp.
    """
    scene.set_time(seconds(stamp_ns))
    pose = scene.world.world_from_base(seconds(stamp_ns)) @ lidar.base_from_lidar
    sweep = render_lidar(scene, lidar, pose, sensor_rng(scene.world, stamp_ns, 0))
    shots = tuple(_shoot(scene, camera, stamp_ns, 1 + i) for i, camera in enumerate(cameras))
    return Moment(stamp_ns, sweep, shots)


def _shoot(scene: Scene, camera: Camera, sweep_stamp_ns: int, sensor: int) -> Shot:
    """The picture a camera takes after a sweep began, a millisecond early or late."""
    rng = sensor_rng(scene.world, sweep_stamp_ns, sensor)
    stamp_ns = sweep_stamp_ns + round((camera.delay + rng.uniform(-1e-3, 1e-3)) * 1e9)
    pose = scene.world.world_from_base(seconds(stamp_ns)) @ camera.base_from_camera
    scene.set_time(seconds(stamp_ns), pose)
    return Shot(camera, stamp_ns, render_camera(scene, camera, pose, rng))


def camera_from_lidar(world: World, lidar: Lidar, sweep_ns: int, shot: Shot) -> Matrix:
    """Lidar frame at the sweep's stamp to the optical frame at the picture's, (4, 4)."""
    odom_from_lidar = odom_from_base(world, sweep_ns) @ lidar.base_from_lidar
    odom_from_camera = odom_from_base(world, shot.stamp_ns) @ shot.camera.base_from_camera
    return np.linalg.inv(odom_from_camera) @ odom_from_lidar


def as_sample(world: World, lidar: Lidar, moment: Moment) -> Sample:
    """The moment as readers yield it, with the true class maps."""
    images = tuple(
        CameraImage(
            camera=shot.camera.name,
            image_id=f'{shot.camera.name}/{shot.stamp_ns}',
            image=shot.picture.image,
            intrinsics=shot.camera.intrinsics,
            camera_from_lidar=camera_from_lidar(world, lidar, moment.stamp_ns, shot),
            class_map=shot.picture.class_map,
            confidence=_full_confidence(shot.picture.class_map),
        )
        for shot in moment.shots
    )
    sweep = moment.sweep
    return Sample(
        str(moment.stamp_ns), moment.stamp_ns, sweep.points, sweep.times, images, sweep.labels
    )


def network_answer(world: World, shot: Shot) -> Prediction:
    """What the simulated 2D network makes of a picture."""
    return predict(shot.picture, world.seed, sensor_rng(world, shot.stamp_ns, 100))


def _full_confidence(class_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.full_like(class_map, 255)
