# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels of many sweeps in a temporary file, equal ones once."""

from __future__ import annotations

import tempfile
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


class LabelStore:
    """Class ids of sweeps by number; a bag that is played again takes no further room."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed with the store
        self._places: list[tuple[int, int]] = []  # offset and number of points
        self._known: dict[bytes, int] = {}

    def keep(self, class_ids: NDArray[np.uint8]) -> int:
        """Store class ids (N,) unless they are there; returns their number."""
        content = class_ids.tobytes()
        digest = blake2b(content, digest_size=16).digest()
        if digest not in self._known:
            self._known[digest] = len(self._places)
            self._places.append((self._file.seek(0, 2), len(content)))
            self._file.write(content)
        return self._known[digest]

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        offset, num_points = self._places[number]
        self._file.seek(offset)
        return np.frombuffer(self._file.read(num_points), np.uint8)
