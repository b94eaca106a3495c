# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A tiny SemanticKITTI on disk, in the exact format."""

from __future__ import annotations

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 37, 124
# the reference camera looks along the lidar's x axis; cameras 2 and 3 stand beside it
TR = np.array([[0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27]])
PROJECTIONS = {
    number: np.array([[70, 0, 61, shift], [0, 70, 18, 0.2], [0, 0, 1, 0.003]])
    for number, shift in enumerate((0, -38.0, 4.5, -34.0))
}


def write_sequence(root, number, num_sweeps=3, labelled=True):
    """Write `sequences/NN`; returns its folder."""
    rng = np.random.default_rng(number)
    folder = root / 'sequences' / f'{number:02}'
    for name in ('velodyne', 'image_2', 'image_3', *(['labels'] if labelled else [])):
        (folder / name).mkdir(parents=True)
    lines = {f'P{camera}': matrix for camera, matrix in PROJECTIONS.items()} | {'Tr': TR}
    (folder / 'calib.txt').write_text(
        ''.join(f'{key}: {" ".join(f"{x:.12e}" for x in m.ravel())}\n' for key, m in lines.items())
    )
    (folder / 'times.txt').write_text(''.join(f'{0.1037 * k:e}\n' for k in range(num_sweeps)))
    (folder / 'poses.txt').write_text('1 0 0 0 0 1 0 0 0 0 1 0\n' * num_sweeps)
    for sweep in range(num_sweeps):
        xyz = rng.uniform([2, -8, -2], [40, 8, 2], (50, 3))
        points = np.column_stack([xyz, rng.uniform(0, 0.99, 50)]).astype('<f4')
        points.tofile(folder / 'velodyne' / f'{sweep:06}.bin')
        if labelled:
            classes = rng.choice([0, 10, 40, 70, 252, 259], 50).astype('<u4')
            instances = rng.integers(0, 300, 50).astype('<u4') << 16
            (classes | instances).astype('<u4').tofile(folder / 'labels' / f'{sweep:06}.label')
        for camera in (2, 3):
            image = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 * camera + sweep, np.uint8))
            image.save(folder / f'image_{camera}' / f'{sweep:06}.png')
    return folder
