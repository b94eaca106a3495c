# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The command `python -m trainer.pairing`: the pairs of one sweep drawn over its images."""

from __future__ import annotations

import argparse
from pathlib import Path

from reldistill_ros.core.errors import InputError
from trainer.choose_drive import add_drive_arguments, choose, choose_drive
from trainer.overlay import draw_overlay, write_png
from trainer.pairing import check_projects, find_hidden, project


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
    pictures = []
    for image in sample.images:
        candidates = project(sample.points, image, drive.pairing)
        hidden = find_hidden(candidates, image, drive.pairing)
        visible = candidates.select(~hidden)
        hidden_pixels = candidates.pixels[hidden]
        pictures.append(draw_overlay(image.image, visible.pixels, visible.depths, hidden_pixels))
        print(f'{image.image_id}: {len(visible)} pairs, {len(hidden_pixels)} points hidden')
    write_png(pictures, arguments.out)
