# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m trainer.datasets.synthetic OUT_DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.metrics import accuracy, iou
from trainer.datasets.synthetic.materials import CLASS_NAMES
from trainer.datasets.synthetic.overlay import save_overlay
from trainer.datasets.synthetic.record import Drive, write_town
from trainer.datasets.synthetic.render import render_sweep
from trainer.datasets.synthetic.rig import make_cameras, make_lidar
from trainer.datasets.synthetic.street import LAYOUTS


def main() -> None:
    """Record a drive, or save one picture of it."""
    arguments = _parse_arguments()
    drive = Drive(
        seed=arguments.seed,
        layout=arguments.layout,
        sweeps=arguments.sweeps,
        beams=arguments.beams,
        sweep_period=arguments.sweep_period,
    )
    if arguments.out is None and arguments.overlay is None:
        raise InputError(
            'nothing to do', fix='name a folder for the bag, or use --overlay FILE.png'
        )
    if arguments.out is not None:
        _print_scores(write_town(drive, arguments.out, arguments.workers))
    if arguments.overlay is not None:
        _save_middle(drive, arguments.overlay)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m trainer.datasets.synthetic', description=main.__doc__
    )
    default = Drive()
    parser.add_argument('out', type=Path, nargs='?', help='new folder for bag/ and label_maps/')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument('--layout', choices=LAYOUTS, default=default.layout)
    parser.add_argument('--sweeps', type=int, default=default.sweeps)
    parser.add_argument('--beams', type=int, choices=(32, 64), default=default.beams)
    parser.add_argument(
        '--sweep-period',
        type=float,
        default=default.sweep_period,
        help='seconds of driving between recorded sweeps (the lidar turns at 10 Hz)',
    )
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    parser.add_argument('--overlay', type=Path, metavar='FILE.png', help='picture of one moment')
    return parser.parse_args()


def _print_scores(confusions: NDArray[np.int64]) -> None:
    class_iou = iou(confusions)
    print(
        f'simulated 2D network: pixel accuracy {accuracy(confusions):.3f}, mIoU {np.nanmean(class_iou):.3f}'
        f' over {np.isfinite(class_iou).sum()} classes'
    )
    print('  '.join(f'{name} {iou:.2f}' for name, iou in zip(CLASS_NAMES, class_iou)))


def _save_middle(drive: Drive, path: Path) -> None:
    """Save a picture of the sweep in the middle of a drive."""
    scene, stamps = drive.scene(), drive.stamps()
    moment = render_sweep(scene, stamps[len(stamps) // 2], make_lidar(drive.beams), make_cameras())
    save_overlay(path, scene.world, moment)


if __name__ == '__main__':
    run_command(main)
