# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The command `python -m trainer.pairing`: the pairs of one sweep drawn over its images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from trainer.choose_drive import add_drive_arguments, choose, choose_drive
from trainer.datasets.sample import CameraImage
from trainer.overlay import draw_overlay, write_png
from trainer.pairing import PairingSettings, check_projects, find_hidden, project


def main() -> None:
    """Draw the pairs of one sweep over its images."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.pairing', description='Draw lidar points over the camera images.'
    )
    add_drive_arguments(parser)
    parser.add_argument('--sweep', type=int, default=0, help='which sweep of the data set')
    parser.add_argument('--out', type=Path, required=True, help='PNG file to write')
    arguments = parser.parse_args()
    drive = choose_drive(arguments)
    sample = drive.dataset[choose('sweep', arguments.sweep, len(drive.dataset))]
    if not sample.images:
        raise InputError('the sweep has no image', where=sample.sample_id)
    check_projects([sample], drive.pairing)
    drawn = [draw_pairs(sample.points, image, drive.pairing) for image in sample.images]
    for image, pairs in zip(sample.images, drawn):
        print(f'{image.image_id}: {pairs.num_visible} pairs, {pairs.num_hidden} points hidden')
    write_png([pairs.picture for pairs in drawn], arguments.out)


@dataclass(frozen=True)
class DrawnPairs:
    """The pairs of one image.

    Attributes:
        picture: (H, W, 3) RGB, see `draw_overlay`.
        num_visible: pairs.
        num_hidden: points in the image that the camera does not see.
    """

    picture: NDArray[np.uint8]
    num_visible: int
    num_hidden: int


def draw_pairs(
    points: NDArray[np.float32], image: CameraImage, settings: PairingSettings
) -> DrawnPairs:
    """Draw the points (N, 4) of a sweep over one of its images."""
    candidates = project(points, image, settings)
    hidden = find_hidden(candidates, image, settings)
    visible = candidates.select(~hidden)
    hidden_pixels = candidates.pixels[hidden]
    picture = draw_overlay(image.image, visible.pixels, visible.depths, hidden_pixels)
    return DrawnPairs(picture, len(visible), len(hidden_pixels))
