# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Grids of features kept on disk, so that an image costs its teacher's time once."""

from __future__ import annotations

import errno
import hashlib
import time
import uuid
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from reldistill_ros.core.errors import InputError

FORMAT = 1  # to be raised when the same settings come to give other features
GRID, CHECKSUM = 'grid', 'crc32'
DESCRIPTION = 'teacher.txt'
PARTIAL = '.partial'
SECONDS_TO_WRITE = 3600  # what is older and not whole was left behind by a killed process


class FeatureCache:
    """A folder for each teacher, and in it a safetensors file for each image.

    An image is known by its decoded pixels, which are all that the teacher sees: the same
    picture in a bag and in a folder is one image, and a changed one is another. The key is
    their BLAKE2b, which is fast on any CPU (1.4 GB/s); SHA-256 is so only where the CPU has
    instructions for it. A file takes its name once it is whole, so processes and machines may
    share the folder, and a killed one loses the image that it was at.

    Args:
        folder: of all teachers; made when the first file is written.
        teacher: name that identifies network, weights and all settings of the features.
    """

    def __init__(self, folder: Path, teacher: str) -> None:
        digest = hashlib.blake2b(f'{FORMAT} {teacher}'.encode(), digest_size=8).hexdigest()
        self.folder = folder / digest
        self._teacher = teacher

    def key(self, image: NDArray[np.uint8]) -> str:
        """Digest of an image's pixels (H, W, 3) and shape."""
        digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def path(self, key: str) -> Path:
        """Where the features of an image are, or would be."""
        return self.folder / key[:2] / f'{key}.safetensors'

    def read(self, key: str) -> Tensor | None:
        """The features that were kept, None where none were.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path(key)
        try:
            tensors = load(path.read_bytes())
            grid, expected = tensors[GRID], int(tensors[CHECKSUM])
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError) as error:
            raise _damaged(path, error) from error
        if _checksum(grid) != expected:
            raise _damaged(path, 'a checksum that does not match')
        return grid

    def write(self, key: str, grid: Tensor) -> None:
        """Keep an image's features (1, C, h, w).

        Raises:
            InputError: the disk is full.
        """
        self._make_folder()
        path = self.path(key)
        path.parent.mkdir(exist_ok=True)
        # a name of its own, as another process may be writing the features of the same image
        partial = self.folder / PARTIAL / uuid.uuid4().hex
        grid = grid.contiguous()
        tensors = {GRID: grid, CHECKSUM: torch.tensor(_checksum(grid))}
        try:
            partial.write_bytes(save(tensors))
            partial.replace(path)
        except OSError as error:
            raise (_disk_is_full(path) if error.errno == errno.ENOSPC else error) from error
        finally:
            partial.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what killed processes had begun to write."""
        for partial in (self.folder / PARTIAL).glob('*'):
            if time.time() - partial.stat().st_mtime > SECONDS_TO_WRITE:
                partial.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        partial = self.folder / PARTIAL
        if not partial.is_dir():
            partial.mkdir(parents=True, exist_ok=True)
            (self.folder / DESCRIPTION).write_text(f'{self._teacher}\n', encoding='utf-8')


def _checksum(grid: Tensor) -> int:
    return zlib.crc32(grid.numpy().data)


def _damaged(path: Path, got: object) -> InputError:
    return InputError(
        'the kept features of an image are damaged',
        where=path,
        got=got,
        fix='remove the file: python -m trainer.teach, or the training itself, makes it anew',
    )


def _disk_is_full(path: Path) -> InputError:
    return InputError(
        'the disk is full',
        where=path,
        fix='make room and give the same command again: what is whole is kept',
    )
