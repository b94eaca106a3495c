# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Patch features kept on disk, so that an image costs its teacher's time once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reldistill_ros.core.errors import InputError

KEY = 'patches'


class FeatureCache:
    """One safetensors file per image and teacher, named after the content of both.

    Several processes may share the folder.

    Args:
        folder: made when the first file is written.
        teacher: name that identifies network, weights and the size that images are scaled to.
    """

    def __init__(self, folder: Path, teacher: str) -> None:
        self._folder, self._teacher = folder, teacher

    def __call__(
        self, image: NDArray[np.uint8], compute: Callable[[NDArray[np.uint8]], Tensor]
    ) -> Tensor:
        """What `compute` makes of the image (H, W, 3), read where it was made before."""
        path = self._folder / f'{self._digest(image)}.safetensors'
        if path.is_file():
            return _read(path)
        patches = compute(image)
        self._folder.mkdir(parents=True, exist_ok=True)
        # a name of its own, as another process may be writing the same file
        partial = path.with_name(f'.partial-{os.getpid()}-{path.name}')
        save_file({KEY: patches.contiguous()}, partial)
        partial.replace(path)
        return patches

    def _digest(self, image: NDArray[np.uint8]) -> str:
        digest = hashlib.sha256(f'{self._teacher} {image.shape} '.encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)[KEY]
    except (SafetensorError, KeyError) as error:
        raise InputError(
            'the kept features cannot be read', where=path, got=error, fix='remove the file'
        ) from error
