# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How long a sweep of a long bag takes to read, and whether memory grows on the way through it.

`python -m benchmark.bags --out bags.json` writes a bag of `--gigabytes` as MCAP and as sqlite3
into a temporary folder (a sweep of 100 thousand points and an image every 0.1 s, /tf at 50 Hz),
drops it from the page cache, and prints and writes, for each:

- `open_s`: opening, which indexes all stamps and reads /tf;
- `random_access_ms`: median and 95th percentile of a sweep without images, at random places;
- `through_s`: reading all sweeps and images in order;
- `memory_growth_mb`: the largest resident memory in MiB, less that in the first twentieth of them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.replay.process_memory import resident_mb
from trainer.datasets import bag_messages as messages
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.provenance import provenance

Storage = Literal['mcap', 'sqlite3']
NUM_POINTS, IMAGE_SIZE = 100_000, (960, 540)
PERIOD_NS, POSE_PERIOD_NS = 100_000_000, 20_000_000
START_NS = 1_700_000_000 * 10**9
NUM_RANDOM = 200
BYTES_OF_A_SWEEP = 2.32e6  # with its image


def write_long_bag(path: Path, storage: Storage, num_sweeps: int) -> None:
    """Write a drive of noise."""
    rosbag2 = import_extra('rosbags.rosbag2', 'train')
    store, connections = messages.typestore(), {}
    plugin = rosbag2.StoragePlugin[storage.upper()]
    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, stamp_ns, message in _drive(store, num_sweeps):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp_ns, store.serialize_cdr(message, kind))


def _drive(store: Any, num_sweeps: int) -> Iterator[tuple[str, int, Any]]:
    generator = np.random.default_rng(0)
    points = generator.uniform(1, 50, (NUM_POINTS, 4)).astype(np.float32)
    records = messages.point_records(points, np.zeros(NUM_POINTS, np.float32))
    noise = generator.integers(0, 255, (*IMAGE_SIZE[::-1], 3), dtype=np.uint8)
    jpeg = messages.encode_image(noise, 'jpeg', 75)
    optical = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    places = {('base_link', 'lidar'): np.eye(4), ('base_link', 'camera'): optical}
    yield '/tf_static', START_NS, messages.transforms_message(store, START_NS, places)
    for number in range(num_sweeps):
        stamp_ns = START_NS + number * PERIOD_NS
        for pose_ns in range(stamp_ns, stamp_ns + PERIOD_NS, POSE_PERIOD_NS):
            pose = np.eye(4)
            pose[0, 3] = (pose_ns - START_NS) / 1e8
            moved = messages.transforms_message(store, pose_ns, {('odom', 'base_link'): pose})
            yield '/tf', pose_ns, moved
        head = messages.header(store, stamp_ns, 'camera')
        yield (
            '/camera/camera_info',
            stamp_ns,
            messages.camera_info_message(store, head, IMAGE_SIZE, _intrinsics()),
        )
        yield (
            '/camera/image/compressed',
            stamp_ns,
            messages.image_message(store, head, jpeg, 'jpeg'),
        )
        head = messages.header(store, stamp_ns, 'lidar')
        yield '/lidar/points', stamp_ns, messages.cloud_message(store, head, records)


def _intrinsics() -> NDArray[np.float64]:
    width, height = IMAGE_SIZE
    return np.array([[500.0, 0, width / 2], [0, 500.0, height / 2], [0, 0, 1]])


def measure(path: Path) -> dict[str, float]:
    """Open and read a bag that lies in no cache."""
    forget(path)
    sweeps = open_bag(path, cameras=())
    random_access = _time_random_access(sweeps)
    sweeps.close()
    forget(path)
    start = time.perf_counter()
    drive = open_bag(path, cameras=None)
    opened = time.perf_counter()
    resident = []
    for index in range(len(drive)):
        drive[index]
        resident.append(resident_mb(os.getpid()) or 0.0)
    num_early = len(resident) // 20 + 1
    return {
        'gigabytes': sum(file.stat().st_size for file in path.iterdir()) / 1e9,
        'sweeps': len(drive),
        'open_s': round(opened - start, 3),
        'random_access_ms': round(float(np.median(random_access)), 2),
        'random_access_p95_ms': round(float(np.percentile(random_access, 95)), 2),
        'through_s': round(time.perf_counter() - opened, 1),
        'memory_growth_mb': round(max(resident) - max(resident[:num_early]), 1),
        'memory_mb': round(max(resident), 1),
    }


def open_bag(path: Path, cameras: tuple[str, ...] | None) -> Rosbag:
    """The bag as a data set."""
    settings = RosbagSettings(format='rosbag', path=path, intensity_max=50, cameras=cameras)
    return Rosbag(settings, path.parent)


def _time_random_access(drive: Rosbag) -> list[float]:
    """Milliseconds of reading sweeps at random places, each once."""
    order = np.random.default_rng(1).permutation(len(drive))[:NUM_RANDOM]
    taken = []
    for index in order:
        start = time.perf_counter()
        drive[int(index)]
        taken.append(1e3 * (time.perf_counter() - start))
    return taken


def forget(path: Path) -> None:
    """Take a bag's files out of the page cache, so that they are read from the disk."""
    for file in path.iterdir():
        with file.open('rb') as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_storages(gigabytes: float, folder: Path | None = None) -> dict[str, dict[str, float]]:
    """Write, measure and remove a bag of each storage."""
    found: dict[str, dict[str, float]] = {}
    for storage in get_args(Storage):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            num_sweeps = max(round(gigabytes * 1e9 / BYTES_OF_A_SWEEP), 20)
            # memory that the writer has given back to itself would hide growth of the reader's
            write = get_context('spawn').Process(
                target=write_long_bag, args=(Path(name) / 'bag', storage, num_sweeps)
            )
            write.start()
            write.join()
            found[storage] = measure(Path(name) / 'bag')
        print(storage, found[storage], flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.bags', description=__doc__)
    parser.add_argument('--gigabytes', type=float, default=2.0)
    parser.add_argument('--out', type=Path, help='JSON file')
    parser.add_argument('--folder', type=Path, help='for the bag; the temporary one if absent')
    options = parser.parse_args()
    found = measure_storages(options.gigabytes, options.folder)
    if options.out:
        write_json(options.out, {**found, **provenance()})


if __name__ == '__main__':
    run_command(main)
