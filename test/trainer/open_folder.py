# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A folder with some files of a bundle, read as if it were one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Folder:
    """What the encoders read of a bundle."""

    path: Path
    embedding_mean: np.ndarray

    def holds(self, *names):
        return all((self.path / name).is_file() for name in names)

    def read(self, name):
        return (self.path / name).read_bytes()
