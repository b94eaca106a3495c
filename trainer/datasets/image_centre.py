# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A check of images whose calibration does not say for which size it was made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError

CENTRE = (0.35, 0.65)  # share of the image's size


def check_centre(image: NDArray[np.uint8], intrinsics: NDArray[np.float64], where: object) -> None:
    """Reject an image that was resized: its optical axis would not lie near its middle.

    Args:
        image: (H, W, 3).
        intrinsics: (3, 3).
        where: the image and its calibration, for the error.

    Raises:
        InputError: the optical axis lies far from the middle.
    """
    height, width = image.shape[:2]
    centre = intrinsics[:2, 2]
    share = (centre + 0.5) / (width, height)
    if (share < CENTRE[0]).any() or (share > CENTRE[1]).any():
        raise InputError(
            'the image and its intrinsics do not belong together',
            where=where,
            expected=f'cx, cy at {CENTRE[0]} to {CENTRE[1]} of width and height',
            got=f'cx, cy {np.round(centre, 1).tolist()} and an image of {width} x {height} pixels',
            fix='use the images in their original size',
        )
