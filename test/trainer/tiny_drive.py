# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A drive of a few small sweeps on disk, in the format of KITTI raw, and a run that learns it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import yaml
from PIL import Image

NUM_SWEEPS = 5
HEIGHT, WIDTH = 24, 48
WORDS = ('road', 'wall', 'car')


def write_drive(folder, num_sweeps=NUM_SWEEPS):
    """Ground, a wall and a box in front of a camera that looks along +x."""
    for name in ('velodyne_points/data', 'image_02/data', 'maps_02'):
        (folder / name).mkdir(parents=True)
    (folder / 'calib_velo_to_cam.txt').write_text('R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n')
    projection = f'{WIDTH / 2} 0 {WIDTH / 2} 0 0 {WIDTH / 2} {HEIGHT / 2} 0 0 0 1 0'
    (folder / 'calib_cam_to_cam.txt').write_text(
        f'S_rect_02: {WIDTH} {HEIGHT}\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: {projection}\n'
    )
    for sweep in range(num_sweeps):
        points, classes = scene(np.random.default_rng(sweep))
        points.tofile(folder / f'velodyne_points/data/{sweep:010d}.bin')
        depth = points[:, 0]
        u = np.rint(WIDTH / 2 - points[:, 1] / depth * WIDTH / 2).astype(int)
        v = np.rint(HEIGHT / 2 - points[:, 2] / depth * WIDTH / 2).astype(int)
        class_map = np.full((HEIGHT, WIDTH), 1, np.uint8)
        inside = (depth > 0) & (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
        class_map[v[inside], u[inside]] = classes[inside]
        Image.fromarray(np.repeat(class_map[..., None] * 80, 3, 2)).save(
            folder / f'image_02/data/{sweep:010d}.png'
        )
        Image.fromarray(class_map).save(folder / f'maps_02/{sweep:010d}_class.png')
        Image.fromarray(np.full_like(class_map, 255)).save(
            folder / f'maps_02/{sweep:010d}_confidence.png'
        )


def hide_classes(folder, sweeps):
    """Let the class maps of some sweeps name no class, so that there is nothing to pair."""
    for sweep in sweeps:
        nothing = np.full((HEIGHT, WIDTH), 255, np.uint8)
        Image.fromarray(nothing).save(folder / f'maps_02/{sweep:010d}_class.png')


def scene(rng, count=400):
    """Points (N, 4) float32 and their class: ground, a wall at x = 9 and a box before it."""
    ground = np.stack(
        [rng.uniform(2, 9, count), rng.uniform(-5, 5, count), np.full(count, -1.0)], 1
    )
    wall = np.stack([np.full(count, 9.0), rng.uniform(-5, 5, count), rng.uniform(-1, 3, count)], 1)
    centre = rng.uniform(-2, 2)
    box = np.stack(
        [np.full(count, 5.0), rng.uniform(-1, 1, count) + centre, rng.uniform(-1, 0.5, count)], 1
    )
    xyz = np.concatenate([ground, wall, box])
    classes = np.repeat(np.arange(3, dtype=np.uint8), count)
    intensity = rng.uniform(0, 1, (len(xyz), 1))
    return np.concatenate([xyz, intensity], 1).astype(np.float32), classes


def write_settings(folder, **changes):
    """Vocabulary, word table and run settings; returns the settings file."""
    rng = np.random.default_rng(0)
    np.save(folder / 'words.npy', rng.normal(size=(len(WORDS), 16)).astype(np.float32))
    (folder / 'words.txt').write_text('\n'.join(WORDS) + '\n')
    classes = [{'name': word, 'color': [80 * k, 60, 200 - 80 * k]} for k, word in enumerate(WORDS)]
    vocabulary = {'version': 1, 'name': 'tiny', 'classes': classes}
    (folder / 'tiny.yaml').write_text(yaml.safe_dump(vocabulary))
    settings = {
        'network': 'small',
        'voxel': {'voxel_size': 0.25, 'point_cloud_range': [-12, -12, -3, 12, 12, 5]},
        'inputs': {'features': ['offset', 'intensity', 'height', 'range']},
        'text': {'kind': 'table', 'embeddings': 'words.npy', 'names': 'words.txt'},
        'teacher': {'kind': 'label_maps', 'vocabulary': 'tiny.yaml'},
        'vocabulary': 'tiny.yaml',
        'train': [{'format': 'kitti_raw', 'path': 'drive', 'label_maps': 'drive/maps'}],
        'loss': {'kind': 'relational'},
        'optimiser': {'lr': 0.005},
        'epochs': 3,
        'batch_size': 2,
        'pairs': 256,
        'workers': 0,
        'threads': 1,
        **changes,
    }
    path = folder / 'run.yaml'
    path.write_text(yaml.safe_dump(settings))
    return path


class LabelledDrive:
    """The tiny drive with the labels of its scene."""

    name = 'tiny'
    label_names = WORDS
    intensity_max = 1.0

    def __init__(self, drive):
        self._drive = drive
        self.sample_ids = drive.sample_ids

    def __len__(self):
        return len(self._drive)

    def __getitem__(self, index):
        _, classes = scene(np.random.default_rng(index))
        return replace(self._drive[index], labels=classes)
