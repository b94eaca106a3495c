# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Write a drive of any format as a ROS 2 bag, to replay it through the node or look at it in RViz.

`python -m trainer.write_bag SETTINGS.yaml --data ROOT --out OUT` writes `OUT/bag` (MCAP, topics as
in `trainer.datasets.bag_writer`) and `OUT/label_maps/<camera>` where the drive has class maps. Read
as `rosbag`, it gives the samples of the drive. The stamp of an image is that of its sweep, and the
root of the coordinate frames is the lidar, to which a camera moves where car and image do.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import get_args

import numpy as np
import yaml

from reldistill_ros.cameras.transforms import invert
from reldistill_ros.core.errors import InputError, import_extra, run_command
from trainer.choose_drive import add_drive_arguments, choose_drive
from trainer.datasets.bag_messages import ImageKind, Matrix, encode_image
from trainer.datasets.bag_writer import (
    LIDAR_FRAME,
    STATIC_TRANSFORMS,
    BagWriter,
    EncodedImage,
    new_drive,
    optical_frame,
)
from trainer.datasets.label_maps import write_label_maps
from trainer.datasets.sample import CameraImage, Dataset, Sample

BAG, LABEL_MAPS = 'bag', 'label_maps'
YEAR_2001_NS = 10**18
START_NS = 1_700_000_000 * 10**9
DEFAULT_QUALITY = 95
Placements = dict[str, dict[int, Matrix]]  # camera -> stamp -> lidar_from_camera (4, 4)


def write_bag(
    dataset: Dataset, out: Path, kind: ImageKind = 'png', quality: int = DEFAULT_QUALITY
) -> dict[str, object]:
    """Write all sweeps of a drive.

    Args:
        dataset: the drive.
        out: new folder.
        kind: how the images are compressed; the pixels of `png` stay as they are.
        quality: of `jpeg`, 1 to 100.

    Returns:
        The settings, paths relative to `out`, that read what was written.

    Raises:
        InputError: `out` exists, or a sweep of the drive is bad.
    """
    tqdm = import_extra('tqdm', 'train').tqdm
    placements: Placements = defaultdict(dict)
    with new_drive(out) as (folder, bag):
        for index in tqdm(range(len(dataset)), desc=out.name, unit='sweep'):
            sample = dataset[index]
            stamp_ns = make_stamp(sample)
            if index == 0 and dataset.label_names:
                bag.write_label_info(stamp_ns, dataset.label_names)
            _write_points(bag, stamp_ns, sample, dataset.intensity_max)
            for image in sample.images:
                bag.write_image(_encode(image, stamp_ns, kind, quality))
                placements[image.camera][stamp_ns] = invert(image.camera_from_lidar)
                _write_label_maps(folder / LABEL_MAPS, stamp_ns, image)
        _write_transforms(bag, placements)
    settings = {'format': 'rosbag', 'path': BAG, 'intensity_max': dataset.intensity_max}
    return {**settings, **({'label_maps': LABEL_MAPS} if (out / LABEL_MAPS).is_dir() else {})}


def make_stamp(sample: Sample) -> int:
    """Stamp of a sweep in the bag; a drive without a clock (KITTI raw) begins in 2023.

    ROS takes the stamp 0 for no stamp at all.
    """
    return sample.stamp_ns + (START_NS if sample.stamp_ns < YEAR_2001_NS else 0)


def _write_points(bag: BagWriter, stamp_ns: int, sample: Sample, intensity_max: float) -> None:
    """Write points with raw intensity, and labels."""
    raw = sample.points.copy()
    raw[:, 3] *= intensity_max
    bag.write_points(stamp_ns, raw, sample.times)
    if sample.labels is not None:
        bag.write_labels(stamp_ns, sample.labels)


def _encode(image: CameraImage, stamp_ns: int, kind: ImageKind, quality: int) -> EncodedImage:
    height, width = image.image.shape[:2]
    encoded = encode_image(image.image, kind, quality)
    return EncodedImage(image.camera, stamp_ns, encoded, kind, (width, height), image.intrinsics)


def _write_label_maps(folder: Path, stamp_ns: int, image: CameraImage) -> None:
    if image.class_map is not None and image.confidence is not None:
        write_label_maps(folder / image.camera, str(stamp_ns), image.class_map, image.confidence)


def _write_transforms(bag: BagWriter, placements: Placements) -> None:
    """Write where the cameras sit: once if that never changes, else at every stamp."""
    static = {}
    for camera, matrices in placements.items():
        edge = LIDAR_FRAME, optical_frame(camera)
        first = next(iter(matrices.values()))
        if all(np.array_equal(matrix, first) for matrix in matrices.values()):
            static[edge] = first
        else:
            for stamp_ns, matrix in matrices.items():
                bag.write_transforms('/tf', stamp_ns, {edge: matrix})
    if static:
        start_ns = min(stamp_ns for matrices in placements.values() for stamp_ns in matrices)
        bag.write_transforms(STATIC_TRANSFORMS, start_ns, static)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.write_bag', description='Write a drive as a ROS 2 bag.'
    )
    add_drive_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='new folder for bag/')
    parser.add_argument('--images', choices=get_args(ImageKind), default='png')
    parser.add_argument('--quality', type=int, default=DEFAULT_QUALITY, help='of jpeg')
    arguments = parser.parse_args()
    if not 1 <= arguments.quality <= 100:
        raise InputError('no such quality', where='--quality', expected='1 to 100')
    dataset = choose_drive(arguments).dataset
    settings = write_bag(dataset, arguments.out, arguments.images, arguments.quality)
    print(f'read it with --data {arguments.out} and these settings:')
    print(yaml.safe_dump(settings, sort_keys=False), end='')


if __name__ == '__main__':
    run_command(main)
