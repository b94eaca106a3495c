# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The last images of a camera, ready to be compared with sweeps; from any thread.

They are kept by time: a sweep asks for an image when it is labelled, which is later than the
image by all that transport and inference take. How much later is learnt from the sweeps.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.camera_model import CameraModel
from reldistill_ros.cameras.opinions import Encoded, PixelOpinions
from reldistill_ros.cameras.visibility import PinholeCamera

NANO = 1_000_000_000
LATENCY_NS = 300_000_000  # of a sweep that is asked for, before any was
LONGEST_LATENCY_NS = 3 * NANO  # what is later is no delay, but another clock
SPARE = 1.25  # what the largest latency seen is multiplied with
MOST_LOOKS = 64
MOST_BYTES = 1 << 27


@dataclass(frozen=True, eq=False)
class Said:
    """What an image says in terms of some words.

    Attributes:
        words: which ones.
        opinions: asked for at pixels; None where that failed.
        classes: (R, K), the distribution over the classes of each row of their table.
        problem: why it failed.
    """

    words: Any
    opinions: PixelOpinions | None
    classes: NDArray[np.float32]
    problem: str = ''


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
        said: that in terms of the words in force, None until the camera thread has compared them.
    """

    header: Any
    stamp_ns: int
    frame: str
    model: CameraModel
    image_size: tuple[int, int]
    picture: NDArray[np.uint8] | None = None
    encoded: Encoded | None = None
    said: Said | None = None

    @property
    def num_bytes(self) -> int:
        """That it keeps."""
        picture = 0 if self.picture is None else self.picture.nbytes
        return picture + (0 if self.encoded is None else self.encoded.num_bytes)

    def speaks(self, words: Any) -> bool:
        """Whether it was compared with these words."""
        return self.said is not None and self.said.words is words

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
    """The looks of a camera that a sweep may still ask for.

    Args:
        window: seconds that an image may be away from a sweep.
    """

    def __init__(self, window: float) -> None:
        self._window_ns = round(window * NANO)
        self._latency_ns = LATENCY_NS
        self._looks: list[Look] = []  # in the order of their stamps
        self._lock = threading.Lock()

    def add(self, look: Look) -> None:
        """Keep a look, and forget those that no sweep will ask for any more."""
        with self._lock:
            self._looks.append(look)
            self._looks.sort(key=lambda one: one.stamp_ns)
            oldest = self._looks[-1].stamp_ns - self._window_ns - round(SPARE * self._latency_ns)
            self._looks = [one for one in self._looks if one.stamp_ns >= oldest]
            while len(self._looks) > 2 and self._are_too_many():
                self._thin_out()

    def forget(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._looks.clear()

    def wanted_at(self, stamp_ns: int) -> None:
        """A sweep with this stamp asks now: so late are sweeps."""
        with self._lock:
            if self._looks:
                late = self._looks[-1].stamp_ns - stamp_ns
                if self._latency_ns < late <= LONGEST_LATENCY_NS:
                    self._latency_ns = late

    def nearest_encoded(self, stamp_ns: int) -> Look | None:
        """The encoded look taken nearest to a stamp."""
        return self._nearest(stamp_ns, [look for look in self._all() if look.encoded is not None])

    def nearest_speaking(self, stamp_ns: int, words: Any) -> Look | None:
        """The look compared with these words that was taken nearest to a stamp."""
        return self._nearest(stamp_ns, [look for look in self._all() if look.speaks(words)])

    def nearest_picture(self, stamp_ns: int) -> Look | None:
        """The look with a picture taken nearest to a stamp."""
        return self._nearest(stamp_ns, [look for look in self._all() if look.picture is not None])

    def not_speaking(self, words: Any) -> list[Look]:
        """The encoded looks that were not compared with these words, the newest first."""
        looks = self._all()[::-1]
        return [one for one in looks if one.encoded is not None and not one.speaks(words)]

    def _all(self) -> list[Look]:
        with self._lock:
            return list(self._looks)

    def _are_too_many(self) -> bool:
        size = sum(look.num_bytes for look in self._looks)
        return len(self._looks) > MOST_LOOKS or size > MOST_BYTES

    def _thin_out(self) -> None:
        """Forget the look whose neighbours are closest together: it is missed the least."""
        stamps = [look.stamp_ns for look in self._looks]
        gaps = [after - before for before, after in zip(stamps, stamps[2:])]
        del self._looks[1 + gaps.index(min(gaps))]

    @staticmethod
    def _nearest(stamp_ns: int, looks: list[Look]) -> Look | None:
        return min(looks, key=lambda look: abs(look.stamp_ns - stamp_ns), default=None)
