# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a camera costs beside the network: `python -m benchmark.cameras --data DATA --json OUT`.

Times, on one thread, the stages that the node goes through for one camera and one KITTI sweep:
what the inference thread does (visible points, their opinions, the ensemble) and what the camera
thread does (the words, decoding, rectification, overlay). The opinions are random, 16 prompts of
9 classes. Then what fusion costs by points, cameras and prompts, see `benchmark.camera_fusion`.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.camera_fusion import VOXEL, measure_fusion
from reldistill_ros.cameras.ensemble import Ensemble, EnsembleSettings
from reldistill_ros.cameras.image_encodings import decode_compressed
from reldistill_ros.cameras.lens import Lens, find_rectification, rectify_image
from reldistill_ros.cameras.opinions import PatchOpinions
from reldistill_ros.cameras.overlay import OverlayStyle, draw_overlay
from reldistill_ros.cameras.poll import SpokenView
from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible
from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from reldistill_ros.core.zero_shot import Labels
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.sample import CameraImage

DRIVE = KittiRawSettings(format='kitti_raw', path=Path('kitti_2011_09_26'), cameras=('image_02',))
WORDS = Vocabulary(
    version=1,
    name='nine',
    classes=tuple(
        VocabularyClass(
            name=f'class {k}',
            prompts=(f'word {k}', f'other word {k}') if k < 7 else (f'word {k}',),
            color=(20 * k, 99, 255 - 20 * k),
        )
        for k in range(9)
    ),
)
GRID = (24, 80)  # of the opinions
RUNS = 20


def measure(points: NDArray[np.float32], image: CameraImage) -> dict[str, float]:
    """Median milliseconds of each stage, and how much it was done with."""
    rng = np.random.default_rng(0)
    size = (image.image.shape[0], image.image.shape[1])
    camera = PinholeCamera(size, image.intrinsics, image.camera_from_lidar)
    pairs = find_visible(points, camera, PairingSettings())
    cosines = rng.normal(0, 0.1, (*GRID, len(WORDS.prompts))).astype(np.float32)
    opinions = PatchOpinions(size, cosines)
    found = opinions.at(pairs.pixels)
    labels = _random_labels(len(points), rng)
    ensemble = Ensemble(EnsembleSettings(), WORDS, WORDS, VOXEL)
    view = SpokenView(
        pairs.point_indices,
        found.rows,
        found.weights,
        found.confidences,
        ensemble.spoken(opinions.table),
        0.05,
    )
    features = rng.normal(size=(GRID[0] * GRID[1], 512)).astype(np.float32)
    prompts = rng.normal(size=(len(WORDS.prompts), 512)).astype(np.float32)
    class_ids = labels.class_ids[pairs.point_indices]
    jpeg = _as_jpeg(image.image)
    maps = find_rectification(_lens(size, image.intrinsics))
    stages: dict[str, Callable[[], Any]] = {
        'visible': lambda: find_visible(points, camera, PairingSettings()),
        'opinions': lambda: opinions.at(pairs.pixels),
        'ensemble': lambda: ensemble(points, labels, [view]),
        'new_words': lambda: ensemble.spoken(features @ prompts.T),
        'decode_jpeg': lambda: decode_compressed(jpeg, 'image'),
        'rectify': lambda: rectify_image(image.image, maps),
        'overlay': lambda: draw_overlay(image.image, pairs, class_ids, WORDS, OverlayStyle()),
    }
    times = {f'{name}_ms': 1e3 * _median_seconds(stage) for name, stage in stages.items()}
    return {'points': len(points), 'visible_points': len(pairs), **times}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.cameras', description=__doc__.split('\n')[0]
    )
    parser.add_argument('--data', type=Path, required=True, help='folder with kitti_2011_09_26')
    parser.add_argument('--json', type=Path, help='file for the result')
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    sample = KittiRaw(DRIVE, arguments.data)[0]
    result = measure(sample.points, sample.images[0])
    for name, value in result.items():
        print(f'{name}: {value:.1f}' if name.endswith('_ms') else f'{name}: {value}')
    fusion = measure_fusion()
    for case in fusion:
        print(', '.join(f'{name} {value:.4g}' for name, value in case.items()))
    if arguments.json:
        write_json(arguments.json, {**result, 'fusion': fusion})


def _median_seconds(stage: Callable[[], Any]) -> float:
    stage()  # compiled and cached
    times = []
    for _ in range(RUNS):
        started = time.thread_time()
        stage()
        times.append(time.thread_time() - started)
    return statistics.median(times)


def _random_labels(num: int, rng: np.random.Generator) -> Labels:
    return Labels(
        rng.integers(0, len(WORDS.classes), num).astype(np.uint8),
        np.full(num, 0.5, np.float32),
        np.ones(num, np.float32),
    )


def _as_jpeg(image: NDArray[np.uint8]) -> SimpleNamespace:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'JPEG', quality=90)
    return SimpleNamespace(format='jpeg', data=stream.getvalue())


def _lens(size: tuple[int, int], matrix: NDArray[np.float64]) -> Lens:
    """A lens with the distortion of KITTI's camera 2."""
    numbers = tuple(matrix.ravel().tolist())
    turn = tuple(np.eye(3).ravel().tolist())
    return Lens('polynomial', (-0.37, 0.2, 0.001, 0.002, -0.07), numbers, turn, numbers, size)


if __name__ == '__main__':
    run_command(main)
