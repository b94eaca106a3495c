# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The engines that can carry out the student's convolutions in training, by name.

All take the same weights and give the same results up to rounding, so a run may go on with
another one. `fused` is our CPU kernel; on CUDA `triton` is ours and needs no build step, `spconv`
and `torchsparse` are the libraries, and `torch` needs nothing but torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import cast

import torch

from reldistill_ros.backends.device_maps import DeviceMaps, to_device
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.student import SparseMaps
from trainer.settings import BackendName, Precision

AsMaps = Callable[[KernelMaps | DeviceMaps], SparseMaps]
ON_CUDA: tuple[BackendName, ...] = ('triton', 'spconv', 'torchsparse', 'torch')
PACKAGES = ('triton', 'spconv', 'torchsparse')  # what the backend of that name imports
INSTALL = {
    'triton': 'pip install triton; it comes with the CUDA builds of torch for Linux',
    'spconv': 'pip uninstall spconv cumm, then pip install spconv-cu126; the CPU build, spconv, '
    'does not do',
    'torchsparse': 'compile it as the extra torchsparse in setup.py says',
}


@dataclass(frozen=True)
class Obstacle:
    """Why a backend cannot work here, and what to do about it."""

    reason: str
    fix: str


def obstacle(name: BackendName, device: torch.device, precision: Precision) -> Obstacle | None:
    """What keeps a backend from working on a device; None where it works."""
    if device.type == 'cpu':
        if name in ('fused', 'torch'):
            return None
        return Obstacle('it needs a CUDA device', 'set backend: auto, or train where there is one')
    if name == 'fused':
        return Obstacle('it computes on the CPU', 'set backend: auto')
    if name in PACKAGES and find_spec(name) is None:
        return Obstacle('it is not installed', INSTALL[name])
    if name in ('spconv', 'torchsparse') and precision == 'bfloat16':
        return Obstacle(
            'it computes in float16 and float32 only',
            'set precision: float16, or backend: triton',
        )
    return _broken_import(name) if name in PACKAGES else None


def _broken_import(name: BackendName) -> Obstacle | None:
    """A library compiled for another torch or CUDA is found, and fails when it is imported."""
    try:
        importlib.import_module(f'reldistill_ros.backends.{name}_maps')
        if name == 'spconv' and importlib.import_module('spconv.cppconstants').CPU_ONLY_BUILD:
            return Obstacle('its build without CUDA is installed', INSTALL[name])
    except (ImportError, OSError) as error:
        return Obstacle(f'it cannot be imported: {error}', INSTALL[name])
    return None


def open_maps(name: BackendName, device: torch.device, tf32: bool = False) -> AsMaps:
    """From a batch's kernel maps to what the student convolves along.

    Args:
        name: of the backend; nothing may keep it from working, see `obstacle`.
        device: that the features are on.
        tf32: whether float32 may be rounded to TF32 before it is multiplied.
    """
    if name == 'fused':
        from reldistill_ros.backends.fused_maps import FusedMaps

        return lambda maps: FusedMaps(cast(KernelMaps, maps))  # there are no others on a CPU
    if name == 'torch':
        from reldistill_ros.backends.torch_maps import PairMaps

        return lambda maps: PairMaps(maps, device)
    module = importlib.import_module(f'reldistill_ros.backends.{name}_maps')
    make = getattr(module, f'{name.capitalize()}Maps')
    return lambda maps: make(to_device(maps, device), tf32)


def check_backend(name: BackendName, device: torch.device, precision: Precision) -> None:
    """Refuse a backend that was asked for by name and cannot work.

    Raises:
        InputError: with the reason, and what to install.
    """
    found = obstacle(name, device, precision)
    if found is not None:
        raise InputError(
            f'the backend {name} cannot work here: {found.reason}',
            where='settings: backend',
            fix=found.fix,
        )


def failures() -> tuple[type[Exception], ...]:
    """What a backend raises that is installed and cannot compute here.

    Torch and compiled libraries raise RuntimeError, spconv AssertionError too; what Triton raises,
    for instance where a kernel needs more shared memory than there is, is none of these.
    """
    found: tuple[type[Exception], ...] = (RuntimeError, AssertionError)
    if find_spec('triton') is not None:
        found = (*found, importlib.import_module('triton.errors').TritonError)
    return found


def reason_of(error: Exception) -> str:
    """The first line of what it says, or else its kind."""
    return str(error).strip().partition('\n')[0] or type(error).__name__


def installed_versions() -> dict[str, str | None]:
    """What decides which backend is fastest, besides the GPU."""
    found: dict[str, str | None] = {'torch': torch.__version__, 'cuda': torch.version.cuda}
    for name in PACKAGES:
        distribution = name if name != 'spconv' else _spconv_distribution()
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            found[name] = None
    return found


def _spconv_distribution() -> str:
    """The wheels of spconv are named after the CUDA that they were built with."""
    from importlib.metadata import packages_distributions

    return packages_distributions().get('spconv', ['spconv'])[0]
