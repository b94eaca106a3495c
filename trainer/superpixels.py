# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Superpixels: patches of an image that look alike, found once and kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.settings import Settings

MOST_SEGMENTS = 2**16  # of one image
COMPACTNESS, BLUR = 6, 3.0  # as in SLidR (Sautier et al., CVPR 2022); the blur in pixels


class SuperpixelSettings(Settings):
    """How images are cut into superpixels.

    Attributes:
        num_segments: about how many of one image.
        folder: where they are kept; absolute, or relative to the data root.
    """

    num_segments: int = Field(default=150, ge=2, le=10_000)
    folder: Path = Path('superpixels')


@dataclass(frozen=True)
class Superpixels:
    """Finds the superpixels of images, or reads what was found before.

    A file is named by a hash of the image and of all that decides the result, so what has changed
    is found anew and never mistaken.

    Attributes:
        settings: how images are cut.
        data_root: what the folder of the settings is relative to.
    """

    settings: SuperpixelSettings
    data_root: Path

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Segments (H, W), numbered from 0, of an RGB image (H, W, 3).

        Raises:
            InputError: a kept file cannot be read.
        """
        path = self.data_root / self.settings.folder / f'{self._key(image)}.npz'
        if path.is_file():
            return _read(path)
        segments = find_segments(image, self.settings.num_segments)
        _write(path, segments)
        return segments

    def _key(self, image: NDArray[np.uint8]) -> str:
        method = ('slic', version('scikit-image'), COMPACTNESS, BLUR, self.settings.num_segments)
        digest = hashlib.sha256(repr((method, image.shape)).encode())
        digest.update(image.tobytes())
        return digest.hexdigest()


def find_segments(image: NDArray[np.uint8], num_segments: int) -> NDArray[np.uint16]:
    """SLIC (Achanta et al., TPAMI 2012): k-means of colour and place.

    Args:
        image: (H, W, 3), RGB.
        num_segments: about how many.

    Returns:
        (H, W), numbered from 0; each segment is connected.
    """
    segmentation = import_extra('skimage.segmentation', 'train')
    segments = segmentation.slic(
        image, n_segments=num_segments, compactness=COMPACTNESS, sigma=BLUR, start_label=0
    )
    found: NDArray[np.uint16] = segments.astype(np.uint16)
    return found


def segments_at(segments: NDArray[np.uint16], pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """Segment (P,) of each pixel (P, 2), u right and v down, inside the image."""
    columns, rows = np.rint(pixels).astype(np.int64).T
    found: NDArray[np.int64] = segments[rows, columns].astype(np.int64)
    return found


def _read(path: Path) -> NDArray[np.uint16]:
    try:
        with np.load(path, allow_pickle=False) as file:
            segments: NDArray[np.uint16] = file['segments']
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise InputError(
            'the superpixels cannot be read', where=path, got=error, fix='delete the file'
        ) from error
    return segments


def _write(path: Path, segments: NDArray[np.uint16]) -> None:
    """Write whole or not at all, also where several processes write the same file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix='.partial-') as folder:
        partial = Path(folder) / path.name
        np.savez_compressed(partial, segments=segments)
        partial.replace(path)
