# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A tiny log of Argoverse 2 on disk, in the exact format."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
from PIL import Image
from scipy.spatial.transform import Rotation

START_NS = 315_966_265_259_836_000
SWEEP_NS = 100_196_000
IMAGE_NS = 49_937_000
FOCAL, HEIGHT, WIDTH = 40.0, 48, 64
UP_LIDAR = [1.35018, 0.0, 1.64042]
YAWS = {'ring_front_center': 0, 'ring_side_left': 99, 'stereo_front_left': 0}


def write_log(folder, num_sweeps=2):
    """Write a log whose car drives a curve; every camera starts 20 ms before the first sweep."""
    rng = np.random.default_rng(0)
    optical = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    mounts = {
        name: (Rotation.from_euler('zy', [yaw, 1], degrees=True) * optical, [1.6, 0.1, 1.4])
        for name, yaw in YAWS.items()
    }
    mounts['up_lidar'] = Rotation.from_euler('z', -0.6, degrees=True), UP_LIDAR
    mounts['down_lidar'] = Rotation.from_euler('x', 180, degrees=True), [1.35, 0.0, 1.525]
    (folder / 'calibration').mkdir(parents=True)
    write(folder / 'calibration' / 'egovehicle_SE3_sensor', {'sensor_name': list(mounts)}
          | poses(mounts.values()))  # fmt: skip
    write(
        folder / 'calibration' / 'intrinsics',
        {'sensor_name': list(YAWS)}
        | {name: [FOCAL] * len(YAWS) for name in ('fx_px', 'fy_px')}
        | {'cx_px': [33.0] * len(YAWS), 'cy_px': [25.0] * len(YAWS)}
        | {'k1': [-0.24] * len(YAWS), 'k2': [-0.21] * len(YAWS), 'k3': [0.33] * len(YAWS)}
        | {'height_px': np.full(len(YAWS), HEIGHT, np.uint16)}
        | {'width_px': np.full(len(YAWS), WIDTH, np.uint16)},
    )
    sweeps = [START_NS + SWEEP_NS * k for k in range(num_sweeps)]
    images = [START_NS - 20_000_000 + IMAGE_NS * k for k in range(2 * num_sweeps)]
    stamps = [START_NS - 30_000_000, *sorted({*sweeps, *images})]
    car = [
        (
            Rotation.from_euler('zx', [30 * (ns - START_NS) / 1e9, 1], degrees=True),
            [5172 + 10 * (ns - START_NS) / 1e9, 2419.0, 66.9],
        )
        for ns in stamps
    ]
    write(folder / 'city_SE3_egovehicle', {'timestamp_ns': stamps} | poses(car))
    (folder / 'sensors' / 'lidar').mkdir(parents=True)
    for stamp in sweeps:
        write_sweep(folder, stamp, rng)
    for name in YAWS:
        camera = folder / 'sensors' / 'cameras' / name
        camera.mkdir(parents=True)
        for number, stamp in enumerate(images):
            pixels = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
            Image.fromarray(pixels).save(camera / f'{stamp}.jpg')
    return sweeps, images


def write_sweep(folder, stamp, rng, count=80):
    x, y, z = rng.uniform([-30, -30, -0.5], [30, 30, 4], (count, 3)).astype(np.float16).T
    columns = {
        'x': x,
        'y': y,
        'z': z,
        'intensity': rng.integers(0, 256, count).astype(np.uint8),
        'laser_number': rng.integers(0, 64, count).astype(np.uint8),
        'offset_ns': np.linspace(2_654_000, 106_085_816, count).astype(np.int32),
    }
    write(folder / 'sensors' / 'lidar' / str(stamp), columns)


def poses(entries):
    rows = []
    for rotation, translation in entries:
        x, y, z, w = rotation.as_quat()
        rows.append([w, x, y, z, *translation])
    names = ('qw', 'qx', 'qy', 'qz', 'tx_m', 'ty_m', 'tz_m')
    return dict(zip(names, np.array(rows).T))


def write(path, columns):
    feather.write_feather(pa.table(columns), path.with_name(f'{path.name}.feather'), 'zstd')
