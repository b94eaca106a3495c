# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Where the installed files of `config/` and `launch/` are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reldistill_ros.core.errors import InputError

PACKAGE = 'reldistill_ros'


def share_file(name: str) -> Path:
    """A file of the checkout, of the colcon workspace or of the pip installation.

    Args:
        name: path from the root of the checkout, such as `config/segment.yaml`.

    Raises:
        InputError: the package is not installed with its files.
    """
    prefixes = [
        *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)),
        sys.prefix,
    ]
    folders = [Path(prefix) / 'share' / PACKAGE for prefix in prefixes]
    checkout = Path(__file__).resolve().parents[1]
    for folder in (checkout, *folders):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        'a file of the package is missing',
        where=name,
        expected=f'in one of {[str(folder) for folder in (checkout, *folders)]}',
        fix='install the package with pip or colcon, or run from the checkout',
    )
