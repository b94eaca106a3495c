# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What every reader yields: one lidar sweep with the images taken while it turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CameraImage:
    """One rectified image and where the lidar stood when it was taken.

    Attributes:
        camera: name of the camera.
        image_id: unique name of the image within the data set.
        image: (H, W, 3) uint8, RGB.
        intrinsics: (3, 3) float64, pinhole matrix in pixels; the centre of the top left pixel
            is (0, 0).
        camera_from_lidar: (4, 4) float64, lidar frame at the sweep's stamp to the camera's
            optical frame (REP 103: x right, y down, z forward) at the image's own stamp.
        class_map: (h, w) uint8, class of a 2D segmentation network per pixel, or None; its size
            may differ from the image's, which it covers entirely.
        confidence: (h, w) uint8, that network's probability of the class times 255, or None.
    """

    camera: str
    image_id: str
    image: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]
    class_map: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Sample:
    """One sweep.

    Attributes:
        sample_id: unique name within the data set, shown in errors and pictures.
        stamp_ns: time of the sweep in nanoseconds.
        points: (N, 4) float32, x y z in metres in the lidar frame (x forward, y left, z up) and
            intensity divided by the sensor's maximum, so 0 to 1.
        times: (N,) float32, seconds from the sweep's stamp, zeros where the format has none.
        images: images that belong to the sweep, possibly none.
        labels: (N,) uint8 index into the data set's `label_names`, 255 for unlabelled; None
            where the data set has no labels.
    """

    sample_id: str
    stamp_ns: int
    points: NDArray[np.float32]
    times: NDArray[np.float32]
    images: tuple[CameraImage, ...]
    labels: NDArray[np.uint8] | None = None


class Dataset(Protocol):
    """A drive, read sweep by sweep.

    Attributes:
        name: name of the format, the key of `Vocabulary.label_names`.
        label_names: what the labels mean; empty where there are none.
        intensity_max: largest raw intensity of the sensor (1 for KITTI, 255 for PandaSet).
        sample_ids: `Sample.sample_id` of every sweep, known without reading the sweeps.
    """

    name: str
    label_names: tuple[str, ...]
    intensity_max: float
    sample_ids: tuple[str, ...]

    def __len__(self) -> int:
        """Number of sweeps."""

    def __getitem__(self, index: int) -> Sample:
        """Read a sweep; IndexError past the end, InputError where a file is bad."""
