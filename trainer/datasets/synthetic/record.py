# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Record a drive through a town: a ROS 2 bag, and the label maps of the simulated 2D network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra
from trainer.datasets.bag_messages import encode_image
from trainer.datasets.bag_writer import (
    LIDAR_FRAME,
    STATIC_TRANSFORMS,
    BagWriter,
    EncodedImage,
    new_drive,
    optical_frame,
)
from trainer.datasets.label_maps import write_label_maps
from trainer.datasets.synthetic.damage import count_confusions
from trainer.datasets.synthetic.lidar import LidarSweep
from trainer.datasets.synthetic.materials import CLASS_NAMES
from trainer.datasets.synthetic.rays import Scene
from trainer.datasets.synthetic.render import Shot, network_answer, odom_from_base, render_sweep
from trainer.datasets.synthetic.rig import (
    START_NS,
    SWEEP_DURATION,
    Matrix,
    make_cameras,
    make_lidar,
)
from trainer.datasets.synthetic.world import build_world

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Drive:
    """What to record.

    Attributes:
        seed: of the town and the sensors' noise.
        layout: name of a layout.
        sweeps: number of sweeps.
        beams: 32 or 64.
        sweep_period: s from one recorded sweep to the next; the lidar turns at 10 Hz all the same.
    """

    seed: int = 1
    layout: str = 'train'
    sweeps: int = 40
    beams: int = 32
    sweep_period: float = 0.5

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise InputError('a drive needs a sweep', where='sweeps', got=self.sweeps)
        if not self.sweep_period >= SWEEP_DURATION:
            raise InputError(
                'sweeps would overlap',
                where='sweep_period',
                expected=f'at least {SWEEP_DURATION} s, one turn',
                got=self.sweep_period,
            )
        if self.seed < 0:
            raise InputError('a seed is not negative', where='seed', got=self.seed)

    def stamps(self) -> list[int]:
        """Stamps of the sweeps in nanoseconds."""
        return [START_NS + round(i * self.sweep_period * 1e9) for i in range(self.sweeps)]

    def scene(self) -> Scene:
        """The town to drive through."""
        # A second more for the pictures after the last sweep.
        return Scene(build_world(self.seed, self.layout, self.sweeps * self.sweep_period + 1))


@dataclass(frozen=True)
class Recorded:
    """What a worker hands back for one sweep."""

    stamp_ns: int
    sweep: LidarSweep
    images: tuple[EncodedImage, ...]
    poses: tuple[tuple[int, Matrix], ...]
    confusions: NDArray[np.int64]


class _Recorder:
    """Renders sweeps of a drive, in any order, and saves their label maps."""

    def __init__(self, drive: Drive, label_maps: Path) -> None:
        self.scene, self.lidar = drive.scene(), make_lidar(drive.beams)
        self.cameras, self.label_maps = make_cameras(), label_maps

    def record(self, stamp_ns: int) -> Recorded:
        moment = render_sweep(self.scene, stamp_ns, self.lidar, self.cameras)
        stamps = [stamp_ns, *(shot.stamp_ns for shot in moment.shots)]
        return Recorded(
            stamp_ns,
            moment.sweep,
            tuple(_encode(shot) for shot in moment.shots),
            tuple((stamp, odom_from_base(self.scene.world, stamp)) for stamp in stamps),
            np.sum([self._save_prediction(shot) for shot in moment.shots], axis=0),
        )

    def _save_prediction(self, shot: Shot) -> NDArray[np.int64]:
        guess = network_answer(self.scene.world, shot)
        folder = self.label_maps / shot.camera.name
        write_label_maps(folder, str(shot.stamp_ns), guess.class_map, guess.confidence)
        return count_confusions(shot.picture.class_map, guess.class_map)


def _encode(shot: Shot) -> EncodedImage:
    jpeg = encode_image(shot.picture.image, 'jpeg', JPEG_QUALITY)
    camera = shot.camera
    return EncodedImage(camera.name, shot.stamp_ns, jpeg, 'jpeg', camera.size, camera.intrinsics)


_recorder: _Recorder  # of a worker process


def _one_thread() -> Any:
    """Keep the matrix library to this thread, until the end of a `with` block or for good.

    Its threads take longer to meet than to multiply thousands of directions by a rotation, and
    spin meanwhile on the cores that the other processes need: twice as fast without them.
    """
    return import_extra('threadpoolctl', 'train').threadpool_limits(1)


def _start_worker(drive: Drive, label_maps: Path) -> None:
    global _recorder
    _one_thread()
    _recorder = _Recorder(drive, label_maps)


def _record(stamp_ns: int) -> Recorded:
    return _recorder.record(stamp_ns)


def _record_all(drive: Drive, label_maps: Path, workers: int) -> Iterator[Recorded]:
    """Render all sweeps, in order, in this process or in several."""
    if workers == 1:
        with _one_thread():
            yield from map(_Recorder(drive, label_maps).record, drive.stamps())
        return
    # Spawned, not forked: the parent may hold threads of other libraries.
    with ProcessPoolExecutor(
        workers, get_context('spawn'), _start_worker, (drive, label_maps)
    ) as pool:
        yield from pool.map(_record, drive.stamps())


def _write_start(bag: BagWriter, beams: int) -> None:
    """Write what is said once: the meaning of labels, and where the sensors sit."""
    mountings = {LIDAR_FRAME: make_lidar(beams).base_from_lidar}
    mountings |= {optical_frame(camera.name): camera.base_from_camera for camera in make_cameras()}
    transforms = {('base_link', frame): matrix for frame, matrix in mountings.items()}
    bag.write_transforms(STATIC_TRANSFORMS, START_NS, transforms)
    bag.write_label_info(START_NS, CLASS_NAMES)


def _write_sweep(bag: BagWriter, recorded: Recorded) -> None:
    """Write a sweep, its pictures and the poses at their stamps."""
    stamp_ns, sweep = recorded.stamp_ns, recorded.sweep
    for at, pose in recorded.poses:
        bag.write_transforms('/tf', at, {('odom', 'base_link'): pose})
    bag.write_points(stamp_ns, sweep.points, sweep.times, sweep.rings)
    bag.write_labels(stamp_ns, sweep.labels)
    for image in recorded.images:
        bag.write_image(image)


def write_town(drive: Drive, out: Path, workers: int = 1) -> NDArray[np.int64]:
    """Record a drive to `out/bag` (MCAP) and `out/label_maps`.

    Args:
        drive: what to record.
        out: must not exist.
        workers: processes that render; the result does not depend on their number.

    Returns:
        Pixels of all pictures by true class and by the simulated network's, (K, K + 1).

    Raises:
        InputError: `out` exists.
    """
    if workers < 1:
        raise InputError('at least one process has to work', where='workers', got=workers)
    tqdm = import_extra('tqdm', 'train').tqdm
    confusions = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES) + 1), dtype=np.int64)
    with new_drive(out) as (folder, bag):
        _write_start(bag, drive.beams)
        recorded = _record_all(drive, folder / 'label_maps', workers)
        for one in tqdm(recorded, total=drive.sweeps, desc=out.name, unit='sweep'):
            _write_sweep(bag, one)
            confusions += one.confusions
    return confusions
