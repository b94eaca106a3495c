# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which pixel a lidar point is seen in, if the camera sees it.

`python -m trainer.pairing SETTINGS.yaml --data ROOT --sweep 0 --out overlay.png` draws the pairs
over the images, for checking a calibration by eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras import visibility
from reldistill_ros.cameras.visibility import PairingSettings as PairingSettings
from reldistill_ros.cameras.visibility import Pairs, PinholeCamera
from reldistill_ros.core.errors import InputError, run_command
from trainer.datasets.sample import CameraImage, Sample

SWEEPS_TO_CHECK = 5  # of a drive


def pair_points(
    points: NDArray[np.float32], image: CameraImage, settings: PairingSettings
) -> Pairs:
    """Pair the points (N, >=3) that the camera sees with their pixels; see `find_visible`."""
    return visibility.find_visible(points, pinhole_camera(image), settings)


def project(points: NDArray[np.float32], image: CameraImage, settings: PairingSettings) -> Pairs:
    """Pinhole projection of the points inside the image and the limits of depth, hidden or not."""
    return visibility.project(points, pinhole_camera(image), settings)


def find_hidden(
    candidates: Pairs, image: CameraImage, settings: PairingSettings
) -> NDArray[np.bool_]:
    """Which of the projected points (P,) lie behind others."""
    return visibility.find_hidden(candidates, pinhole_camera(image), settings)


def pinhole_camera(image: CameraImage) -> PinholeCamera:
    """The camera that took an image."""
    height, width = image.image.shape[:2]
    return PinholeCamera((height, width), image.intrinsics, image.camera_from_lidar)


def sweeps_to_check(dataset: Sized) -> list[int]:
    """A few sweeps all over a drive."""
    spread = np.linspace(0, len(dataset) - 1, min(SWEEPS_TO_CHECK, len(dataset)))
    return [int(index) for index in spread]


def check_projects(samples: Iterable[Sample], settings: PairingSettings) -> None:
    """Reject a calibration that brings no point of any of the sweeps into an image.

    Raises:
        InputError: no point lies in any of the images of a camera.
    """
    errors: dict[str, InputError] = {}
    seen: set[str] = set()
    for sample in samples:
        for image in sample.images:
            if len(project(sample.points, image, settings)):
                seen.add(image.camera)
            errors.setdefault(image.camera, _projects_nothing(sample, image))
    for camera, error in errors.items():
        if camera not in seen:
            raise error


def _projects_nothing(sample: Sample, image: CameraImage) -> InputError:
    return InputError(
        'the calibration projects no point into the image',
        where=f'{sample.sample_id}, camera {image.camera}',
        expected='at least one point inside the image',
        got=f'camera_from_lidar {np.round(image.camera_from_lidar, 3).tolist()}',
        fix='check the calibration, or leave the camera out of `cameras`',
    )


if __name__ == '__main__':
    from trainer.show_pairs import main

    run_command(main)
