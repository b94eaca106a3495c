# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Loading weights that may be downloaded, without the libraries' own account of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_log() -> Iterator[None]:
    """Keep what open_clip, timm and huggingface_hub log to themselves; what fails is raised.

    With no network each file is asked for six times, and each time is logged twice. Progress bars
    of real downloads stay.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
