# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A tiny nuScenes on disk: all tables, sweeps, images and lidarseg labels in the exact format."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

CAMERAS = (
    'CAM_FRONT',
    'CAM_FRONT_RIGHT',
    'CAM_BACK_RIGHT',
    'CAM_BACK',
    'CAM_BACK_LEFT',
    'CAM_FRONT_LEFT',
)
YAWS = dict(zip(CAMERAS, (0, -55, -110, 180, 110, 55)))  # degrees to the left of forward
HEIGHT, WIDTH = 18, 32
NUM_POINTS = 60
CATEGORIES = (
    'noise',
    'animal',
    'human.pedestrian.adult',
    'human.pedestrian.child',
    'human.pedestrian.construction_worker',
    'human.pedestrian.personal_mobility',
    'human.pedestrian.police_officer',
    'human.pedestrian.stroller',
    'human.pedestrian.wheelchair',
    'movable_object.barrier',
    'movable_object.debris',
    'movable_object.pushable_pullable',
    'movable_object.trafficcone',
    'static_object.bicycle_rack',
    'vehicle.bicycle',
    'vehicle.bus.bendy',
    'vehicle.bus.rigid',
    'vehicle.car',
    'vehicle.construction',
    'vehicle.emergency.ambulance',
    'vehicle.emergency.police',
    'vehicle.motorcycle',
    'vehicle.trailer',
    'vehicle.truck',
    'flat.driveable_surface',
    'flat.other',
    'flat.sidewalk',
    'flat.terrain',
    'static.manmade',
    'static.other',
    'static.vegetation',
    'vehicle.ego',
)
TABLES = (
    'attribute',
    'visibility',
    'instance',
    'sensor',
    'calibrated_sensor',
    'ego_pose',
    'log',
    'scene',
    'sample',
    'sample_data',
    'sample_annotation',
    'map',
    'lidarseg',
)
START_US = 1_532_402_927_000_000


class TinyNuScenes:
    """Writes one version.

    Args:
        root: folder of the data set.
        version: folder of the tables.
        scenes: names of the scenes.
        keyframes: of each scene, 0.5 s apart; halfway between two stands one sweep more.
    """

    def __init__(
        self, root, version='v1.0-mini', scenes=('scene-0061', 'scene-0103'), keyframes=2
    ):
        self.root, self.version = root, version
        self.rng = np.random.default_rng(0)
        self.tables = {name: [] for name in TABLES}
        self.tables['category'] = [
            {'token': token('category', name), 'name': name, 'description': '', 'index': number}
            for number, name in enumerate(CATEGORIES)
        ]
        for channel in ('LIDAR_TOP', 'RADAR_FRONT', *CAMERAS):
            modality = {'LID': 'lidar', 'RAD': 'radar', 'CAM': 'camera'}[channel[:3]]
            self.add('sensor', token('sensor', channel), channel=channel, modality=modality)
        log = token('log')
        self.add(
            'log', log, logfile='n015', vehicle='n015', date_captured='2018-07-24', location='x'
        )
        (root / 'maps').mkdir(parents=True)
        Image.new('L', (4, 4)).save(root / 'maps' / 'map.png')
        self.add('map', token('map'), category='x', filename='maps/map.png', log_tokens=[log])
        for number, name in enumerate(scenes):
            self.add_scene(name, START_US + 20_000_000 * number, keyframes, log)
        self.write()

    def add(self, table, row_token, **columns):
        self.tables[table].append({'token': row_token, **columns})

    def add_scene(self, name, start_us, keyframes, log):
        self.sensors = {
            channel: self.add_calibration(name, channel)
            for channel in ('LIDAR_TOP', 'RADAR_FRONT', *CAMERAS)
        }
        samples = [token('sample', name, str(number)) for number in range(keyframes)]
        for number, sample in enumerate(samples):
            stamp_us = start_us + 500_000 * number
            self.add(
                'sample',
                sample,
                timestamp=stamp_us,
                prev=samples[number - 1] if number else '',
                next=samples[number + 1] if number + 1 < keyframes else '',
                scene_token=token('scene', name),
            )
            for is_key_frame in (True, False):
                self.add_files(name, sample, stamp_us + 250_000 * (not is_key_frame), is_key_frame)
        self.add(
            'scene',
            token('scene', name),
            name=name,
            description='a {curly} remark',
            log_token=log,
            nbr_samples=keyframes,
            first_sample_token=samples[0],
            last_sample_token=samples[-1],
        )

    def add_calibration(self, scene, channel):
        calibrated = token('calibrated', scene, channel)
        tilt = Rotation.from_euler('xyz', self.rng.uniform(-2, 2, 3), degrees=True)
        if channel.startswith('CAM'):
            optical = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
            rotation = Rotation.from_euler('z', YAWS[channel], degrees=True) * tilt * optical
            intrinsic = [[20.0, 0, WIDTH / 2], [0, 20.0, HEIGHT / 2], [0, 0, 1]]
        else:  # the lidar's y axis looks forward
            rotation, intrinsic = Rotation.from_euler('z', -90, degrees=True) * tilt, []
        self.add(
            'calibrated_sensor',
            calibrated,
            sensor_token=token('sensor', channel),
            translation=self.rng.uniform(0, 2, 3).tolist(),
            rotation=wxyz(rotation),
            camera_intrinsic=intrinsic,
        )
        return calibrated

    def add_files(self, scene, sample, sweep_us, is_key_frame):
        for number, channel in enumerate(self.sensors):
            stamp_us = sweep_us - 7_000 * number
            data = token('data', scene, channel, str(stamp_us))
            ending = {'LID': 'pcd.bin', 'RAD': 'pcd', 'CAM': 'jpg'}[channel[:3]]
            is_camera = channel.startswith('CAM')
            path = (
                f'{"samples" if is_key_frame else "sweeps"}/{channel}/'
                f'n015-2018-07-24-11-22-45+0800__{channel}__{stamp_us}.{ending}'
            )
            pose = token('pose', data)
            self.add(
                'sample_data',
                data,
                sample_token=sample,
                ego_pose_token=pose,
                calibrated_sensor_token=self.sensors[channel],
                timestamp=stamp_us,
                fileformat=ending.split('.')[0],
                is_key_frame=is_key_frame,
                height=HEIGHT if is_camera else 0,
                width=WIDTH if is_camera else 0,
                filename=path,
                prev='',
                next='',
            )
            seconds = (stamp_us - START_US) / 1e6
            turn = Rotation.from_euler('zyx', [20 * seconds, 1, -1], degrees=True)
            self.add(
                'ego_pose',
                pose,
                timestamp=stamp_us,
                rotation=wxyz(turn),
                translation=[600 + 8 * seconds, 1600 - 3 * seconds, 0.1 * seconds],
            )
            self.write_file(path, channel, stamp_us)
            if channel == 'LIDAR_TOP' and is_key_frame:
                self.add_labels(data)

    def write_file(self, path, channel, stamp_us):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if channel == 'LIDAR_TOP':
            xyz = self.rng.uniform([-20, -20, -2], [20, 20, 3], (NUM_POINTS, 3))
            intensity, ring = self.rng.integers(0, 256, NUM_POINTS), np.arange(NUM_POINTS) % 32
            np.column_stack([xyz, intensity, ring]).astype('<f4').tofile(file)
        elif channel in CAMERAS:
            level = CAMERAS.index(channel) * 40
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8)).save(file)

    def add_labels(self, data):
        path = f'lidarseg/{self.version}/{data}_lidarseg.bin'
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        self.rng.integers(0, 32, NUM_POINTS).astype(np.uint8).tofile(self.root / path)
        self.add('lidarseg', data, sample_data_token=data, filename=path)

    def write(self):
        """Write the tables with the line breaks of the original ones."""
        folder = self.root / self.version
        folder.mkdir(exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f'{name}.json').write_text(json.dumps(rows, indent=0))

    def keyframes(self, channel):
        """Rows of `sample_data` of a sensor."""
        return [
            row
            for row in self.tables['sample_data']
            if f'/{channel}/' in row['filename'] and row['is_key_frame']
        ]

    def row(self, table, row_token):
        return next(row for row in self.tables[table] if row['token'] == row_token)


def token(*parts):
    return hashlib.md5('/'.join(parts).encode()).hexdigest()


def wxyz(rotation):
    x, y, z, w = rotation.as_quat().tolist()
    return [w, x, y, z]
