# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Giving memory back to the machine when a model is closed."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Free what nothing refers to any more, on the GPU and in the C library too."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == 'linux':
        # glibc keeps what was freed for the next allocation; musl has no such function
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
        if trim is not None:
            trim(0)
