# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Record a drive through a town: a ROS 2 bag, and the label maps of the simulated 2D network."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra
from trainer.datasets.synthetic import messages
from trainer.datasets.synthetic.bag import BagWriter, Recorded
from trainer.datasets.synthetic.damage import Prediction, count_confusions
from trainer.datasets.synthetic.materials import CLASS_NAMES
from trainer.datasets.synthetic.rays import Scene
from trainer.datasets.synthetic.render import Shot, network_answer, odom_from_base, render_sweep
from trainer.datasets.synthetic.rig import (
    START_NS,
    SWEEP_DURATION,
    make_cameras,
    make_lidar,
)
from trainer.datasets.synthetic.world import build_world


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


class _Recorder:
    """Renders sweeps of a drive, in any order, and saves their label maps."""

    def __init__(self, drive: Drive, label_maps: Path) -> None:
        self.scene, self.lidar = drive.scene(), make_lidar(drive.beams)
        self.cameras, self.label_maps = make_cameras(), label_maps

    def record(self, stamp_ns: int) -> Recorded:
        moment = render_sweep(self.scene, stamp_ns, self.lidar, self.cameras)
        world = self.scene.world
        confusions = [self._save_prediction(shot) for shot in moment.shots]
        stamps = [stamp_ns, *(shot.stamp_ns for shot in moment.shots)]
        return Recorded(
            stamp_ns,
            moment.sweep,
            tuple((s.stamp_ns, messages.encode_jpeg(s.picture.image)) for s in moment.shots),
            tuple((stamp, odom_from_base(world, stamp)) for stamp in stamps),
            np.sum(confusions, axis=0),
        )

    def _save_prediction(self, shot: Shot) -> NDArray[np.int64]:
        prediction = network_answer(self.scene.world, shot)
        save_prediction(self.label_maps / shot.camera.name, shot.stamp_ns, prediction)
        return count_confusions(shot.picture.class_map, prediction.class_map)


def save_prediction(folder: Path, stamp_ns: int, prediction: Prediction) -> None:
    """Write a label map and its confidence as PNG."""
    image = import_extra('PIL.Image', 'train')
    image.fromarray(prediction.class_map).save(folder / f'{stamp_ns}_class.png')
    image.fromarray(prediction.confidence).save(folder / f'{stamp_ns}_confidence.png')


_recorder: _Recorder  # of a worker process


def _start_worker(drive: Drive, label_maps: Path) -> None:
    global _recorder
    _recorder = _Recorder(drive, label_maps)


def _record(stamp_ns: int) -> Recorded:
    return _recorder.record(stamp_ns)


def _record_all(drive: Drive, label_maps: Path, workers: int) -> Iterator[Recorded]:
    """Render all sweeps, in order, in this process or in several."""
    if workers == 1:
        yield from map(_Recorder(drive, label_maps).record, drive.stamps())
        return
    # Spawned, not forked: the parent may hold threads of other libraries.
    with ProcessPoolExecutor(
        workers, get_context('spawn'), _start_worker, (drive, label_maps)
    ) as pool:
        yield from pool.map(_record, drive.stamps())


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that gets its name only when all went well.

    Raises:
        InputError: `path` exists.
    """
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        _refuse_existing(path)  # it may have appeared meanwhile
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError(
            'the output exists already', where=path, fix='remove it or choose another folder'
        )


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
    rosbag2, tqdm = import_extra('rosbags.rosbag2', 'train'), import_extra('tqdm', 'train').tqdm
    confusions = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES) + 1), dtype=np.int64)
    store = messages.typestore()
    with _new_folder(out) as folder:
        for camera in make_cameras():
            (folder / 'label_maps' / camera.name).mkdir(parents=True)
        mcap = rosbag2.StoragePlugin.MCAP
        with rosbag2.Writer(folder / 'bag', version=9, storage_plugin=mcap) as writer:
            bag = BagWriter(writer, store)
            bag.write_start(drive.beams)
            recorded = _record_all(drive, folder / 'label_maps', workers)
            for one in tqdm(recorded, total=drive.sweeps, desc=out.name, unit='sweep'):
                bag.write_sweep(one)
                confusions += one.confusions
    return confusions
