# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Whether this machine has a GPU, asked of the driver alone: nothing heavy is imported."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def has_cuda_device() -> bool:
    """Whether NVIDIA's driver is installed and sees a GPU."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )
