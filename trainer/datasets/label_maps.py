# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a 2D segmentation network said about an image, stored as two PNG files beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.images import read_grey
from reldistill_ros.core.errors import InputError, import_extra


def read_label_maps(folder: Path, image_name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read `<image_name>_class.png` and `<image_name>_confidence.png`.

    Args:
        folder: where the maps of one camera lie.
        image_name: name of the image's file without its ending, or the stamp of a bag's image
            in nanoseconds.

    Returns:
        class_map: (h, w) uint8, index into the network's classes.
        confidence: (h, w) uint8, probability of that class times 255.

    Raises:
        InputError: a file is missing or not 8 bits with one channel, or the sizes differ.
    """
    if not folder.is_dir():
        raise InputError(
            'the folder of class maps does not exist',
            where=folder,
            expected=f'the maps of one camera: {image_name}_class.png, ...',
            fix='correct `label_maps` of the drive in the settings',
        )
    class_path = folder / f'{image_name}_class.png'
    confidence_path = folder / f'{image_name}_confidence.png'
    class_map = read_grey(class_path, class_path)
    confidence = read_grey(confidence_path, confidence_path)
    if class_map.shape != confidence.shape:
        raise InputError(
            'the class map and its confidence do not belong together',
            where=class_path,
            expected=f'height and width {class_map.shape}',
            got=confidence.shape,
            fix='write both maps with the same network run',
        )
    return class_map, confidence


def write_label_maps(
    folder: Path, image_name: str, class_map: NDArray[np.uint8], confidence: NDArray[np.uint8]
) -> None:
    """Write both maps, (h, w) each, where `read_label_maps` finds them."""
    pillow = import_extra('PIL.Image', 'train')
    folder.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(class_map).save(folder / f'{image_name}_class.png')
    pillow.fromarray(confidence).save(folder / f'{image_name}_confidence.png')
