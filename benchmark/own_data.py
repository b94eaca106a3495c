# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the readers and the pairing are worth: `python -m benchmark.own_data --data DATA --json F`.

DATA holds real recordings (`kitti_2011_09_26/`, `pandaset/`, `clip_text/`). Measured:

- `bag_equals_raw`: KITTI sweeps written as MCAP and as sqlite3, against the raw files: largest
  difference of points (metres, intensity) and of the pixels that they are projected to;
- `random_access_ms`, `memory_growth_mb`: of a long bag, see `benchmark.bags`;
- `pairing`: on all PandaSet sweeps, the share of pairs whose point's label and whose pixel's class
  are the same coarse class, with and without the occlusion test;
- `loader_sweeps_per_s`: see `benchmark.loader`, with two workers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from benchmark.bags import measure_storages
from benchmark.loader import measure as measure_loader
from reldistill_ros.bags.bag import open_bag
from reldistill_ros.cameras.opinions import nearest_cells
from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.config_files import CONFIG_FOLDER
from trainer.datasets.bag_messages import typestore
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.pandaset import PandaSet, PandaSetSettings
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.datasets.sample import CameraImage, Sample
from trainer.pairing import PairingSettings, pair_points, project
from trainer.provenance import git_commit
from trainer.settings import RunSettings
from trainer.write_bag import write_bag

KITTI, SCENES = 'kitti_2011_09_26', ('001', '002')
RUN = CONFIG_FOLDER / 'runs/kitti_pandaset.yaml'
NO_OCCLUSION = PairingSettings(occlusion_window_deg=None)


def compare_bags(data: Path) -> dict[str, float]:
    """Largest differences of the samples of the bags from those of the raw drive."""
    raw = KittiRaw(KittiRawSettings(format='kitti_raw', path=Path(KITTI)), data)
    differences: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = RosbagSettings.model_validate_json(json.dumps(write_bag(raw, folder / 'mcap')))
        write_sqlite3(folder / 'mcap/bag', folder / 'sqlite3/bag')
        for storage in ('mcap', 'sqlite3'):
            bag = Rosbag(settings, folder / storage)
            assert len(bag) == len(raw)
            differences += [differ(bag[index], raw[index]) for index in range(len(raw))]
            bag.close()
    points, pixels = np.max(differences, axis=0).tolist()
    return {'max_point_diff': points, 'max_pixel_diff': pixels}


def write_sqlite3(source: Path, target: Path) -> None:
    """Copy a bag, message by message as it was serialised, into another storage."""
    target.parent.mkdir()
    store = typestore()
    with (
        open_bag(source) as bag,
        Writer(target, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        for topic, kind in bag.topics.items():
            connection = writer.add_connection(topic, kind, typestore=store)
            for log_ns, message in bag.messages(topic):
                writer.write(connection, log_ns, store.serialize_cdr(message, kind))


def differ(one: Sample, other: Sample) -> tuple[float, float]:
    """Largest difference of points and of pixels of two samples."""
    pixels = [project(s.points, s.images[0], NO_OCCLUSION).pixels for s in (one, other)]
    return (
        float(np.abs(one.points - other.points).max()),
        float(np.abs(pixels[0] - pixels[1]).max()),
    )


def compare_pairing(data: Path) -> dict[str, float]:
    """Agreement of point labels and 2D classes over all pairs, with and without the test."""
    settings = load_settings(RUN, RunSettings).pairing
    vocabulary = load_settings(CONFIG_FOLDER / 'vocabularies/coarse_driving.yaml', Vocabulary)
    without = settings.model_copy(update={'occlusion_window_deg': None})
    counts = np.zeros((2, 2), dtype=np.int64)  # with and without; equal, all
    for scene in SCENES:
        path = Path('pandaset') / scene
        values: dict[str, Any] = {'path': path, 'label_maps': path / 'label_maps'}
        drive = PandaSet(PandaSetSettings(format='pandaset', **values), data)
        coarse = vocabulary.label_table(drive.name, drive.label_names)
        for index in range(len(drive)):
            sample = drive[index]
            for row, pairing in enumerate((settings, without)):
                for image in sample.images:
                    counts[row] += count_equal(sample, image, coarse, pairing)
    agreement, alone = (counts[:, 0] / counts[:, 1]).tolist()
    return {
        'agreement': round(agreement, 5),
        'agreement_without_occlusion_test': round(alone, 5),
        'agreement_gain_by_occlusion': round(agreement - alone, 5),
        'pairs': int(counts[0, 1]),
        'pairs_without_occlusion_test': int(counts[1, 1]),
    }


def count_equal(
    sample: Sample, image: CameraImage, coarse: NDArray[np.uint8], pairing: PairingSettings
) -> tuple[int, int]:
    """Pairs whose classes are equal, and pairs whose classes are both known."""
    assert sample.labels is not None
    assert image.class_map is not None
    pairs = pair_points(sample.points, image, pairing)
    truth = coarse[sample.labels[pairs.point_indices]]
    height, width = image.image.shape[:2]
    classes = nearest_cells(image.class_map, pairs.pixels, (height, width))
    seen = cityscapes_to_coarse()[classes]
    known = (truth != IGNORE_INDEX) & (seen != IGNORE_INDEX)
    return int((truth == seen)[known].sum()), int(known.sum())


def cityscapes_to_coarse() -> NDArray[np.uint8]:
    """Coarse class of each Cityscapes train id, by the words that both stand for."""
    folder = CONFIG_FOLDER / 'vocabularies'
    fine = load_settings(folder / 'cityscapes_coco_stuff.yaml', Vocabulary)
    coarse = load_settings(folder / 'coarse_driving.yaml', Vocabulary)
    of_word = dict(zip(coarse.prompts, coarse.prompt_classes.tolist()))
    table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    for word, number in zip(fine.prompts, fine.prompt_classes.tolist()):
        table[number] = of_word.get(word, IGNORE_INDEX)
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.own_data', description=__doc__)
    parser.add_argument('--data', type=Path, required=True, help='folder of the real recordings')
    parser.add_argument('--json', type=Path, required=True, help='file to write')
    parser.add_argument('--gigabytes', type=float, default=2.0, help='of the long bag')
    arguments = parser.parse_args()
    result: dict[str, Any] = {'bag_equals_raw': compare_bags(arguments.data)}
    result['pairing'] = compare_pairing(arguments.data)
    settings = load_settings(RUN, RunSettings).model_copy(update={'workers': 2})
    result['loader_sweeps_per_s'] = round(measure_loader(settings, arguments.data, 100), 2)
    result['bags'] = measure_storages(arguments.gigabytes)
    for key in ('random_access_ms', 'random_access_p95_ms', 'memory_growth_mb'):
        result[key] = max(row[key] for row in result['bags'].values())
    result['commit'] = git_commit()
    write_json(arguments.json, result)
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    run_command(main)
