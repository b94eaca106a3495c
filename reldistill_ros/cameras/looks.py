# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The last images of a camera, ready to be compared with sweeps; from any thread."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.camera_model import CameraModel
from reldistill_ros.cameras.opinions import PixelOpinions
from reldistill_ros.cameras.visibility import PinholeCamera

KEPT = 4  # images of each camera: a sweep that waits for its turn may still belong to an older one
NANO = 1_000_000_000


class Encoded(Protocol):
    """What the node asks of `reldistill_ros.cameras.image_encoder.EncodedImage`."""

    def opinions(self, prompts: NDArray[np.float32]) -> PixelOpinions:
        """Opinions in terms of prompts (M, C); kept while the array is the same one."""


@dataclass(eq=False)
class Look:
    """One image of a camera.

    Attributes:
        header: std_msgs/Header of the image.
        stamp_ns: when it was taken: its stamp, and the camera's offset added.
        frame: coordinate frame of the camera.
        model: how the camera saw.
        image_size: height and width of the pinhole image.
        picture: the pinhole image (H, W, 3) uint8, None where nobody wants to see it.
        encoded: what the image encoder made of it, None while it has not.
    """

    header: Any
    stamp_ns: int
    frame: str
    model: CameraModel
    image_size: tuple[int, int]
    picture: NDArray[np.uint8] | None = None
    encoded: Encoded | None = None

    def pinhole(self, camera_from_lidar: NDArray[np.float64]) -> PinholeCamera:
        """The camera as the lidar has it.

        Args:
            camera_from_lidar: (4, 4), from the lidar's frame to that of the camera.
        """
        model = self.model
        transform = model.camera_from_frame @ camera_from_lidar
        return PinholeCamera(self.image_size, model.intrinsics, transform)

    def seconds_after(self, stamp_ns: int) -> float:
        """How much later than a stamp it was taken."""
        return (self.stamp_ns - stamp_ns) / NANO


class Looks:
    """The last few looks of a camera."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, look: Look) -> None:
        """Keep a look, and forget the oldest one."""
        with self._lock:
            self._looks.append(look)

    def forget(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._looks.clear()

    def nearest_encoded(self, stamp_ns: int) -> Look | None:
        """The encoded look taken nearest to a stamp."""
        return self._nearest(stamp_ns, [look for look in self._all() if look.encoded is not None])

    def nearest_picture(self, stamp_ns: int) -> Look | None:
        """The look with a picture taken nearest to a stamp."""
        return self._nearest(stamp_ns, [look for look in self._all() if look.picture is not None])

    def _all(self) -> list[Look]:
        with self._lock:
            return list(self._looks)

    @staticmethod
    def _nearest(stamp_ns: int, looks: list[Look]) -> Look | None:
        return min(looks, key=lambda look: abs(look.stamp_ns - stamp_ns), default=None)
