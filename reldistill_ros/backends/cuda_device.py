# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Whether this machine has a GPU, and of which kind, asked of the driver alone: nothing heavy is imported."""

from __future__ import annotations

import ctypes
from functools import cache

COMPUTE_CAPABILITY = (75, 76)  # major and minor, members of CUdevice_attribute


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


def compute_capability() -> str:
    """That of the first GPU, as `8.9`; empty where there is none."""
    if not has_cuda_device():
        return ''
    driver = ctypes.CDLL('libcuda.so.1')
    device, number = ctypes.c_int(0), ctypes.c_int(0)
    failed = driver.cuDeviceGet(ctypes.byref(device), 0)
    parts = []
    for attribute in COMPUTE_CAPABILITY:
        failed = failed or driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        parts.append(str(number.value))
    return '' if failed else '.'.join(parts)
