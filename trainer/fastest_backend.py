# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which backend trains a network fastest on a GPU: measured once, and remembered."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reldistill_ros.backends.device_maps import DeviceMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps
from trainer.distributed import is_first, total
from trainer.settings import BackendName, Precision
from trainer.sparse_backends import (
    ON_CUDA,
    AsMaps,
    check_backend,
    failures,
    installed_versions,
    obstacle,
    open_maps,
    reason_of,
)

WARM_UP, REPEATS = 3, 5  # the first passes compile and tune


def fastest_on_cuda(
    backbone: nn.Module,
    feats: NDArray[np.float32],
    maps: KernelMaps | DeviceMaps,
    *,
    network: str,
    precision: Precision,
    tf32: bool,
) -> BackendName:
    """The fastest of the backends that work here, from memory or measured on a first batch.

    Of several processes the first measures, and all take what it has found.

    Args:
        backbone: of the student on its CUDA device; its state is left as it is.
        feats: (V, F) input features of the batch.
        maps: its kernel maps.
        network: what the backbone is called.
        precision: of its convolutions.
        tf32: whether float32 may be rounded to TF32.

    Raises:
        InputError: every backend failed, or the first process's does not work in this one.
    """
    device = next(backbone.parameters()).device
    number = 0
    if is_first():
        key = {'network': network, 'precision': precision, 'tf32': tf32}
        names = [name for name in ON_CUDA if obstacle(name, device, precision) is None]
        trial = Trial(backbone, feats, maps, getattr(torch, precision))
        number = ON_CUDA.index(_known_or_measured(names, trial, key))
    name = ON_CUDA[total(number)]
    check_backend(name, device, precision)
    return name


def _known_or_measured(
    names: Sequence[BackendName], trial: Trial, key: dict[str, Any]
) -> BackendName:
    if len(names) == 1:
        return names[0]
    gpu = torch.cuda.get_device_name(trial.device)
    known = Memory(user_folder(), {'gpu': gpu, **key, **installed_versions()})
    name = known.read()
    if name is not None and name in names:
        return name
    seconds = {n: trial.measure(open_maps(n, trial.device, key['tf32'])) for n in names}
    milliseconds = {n: round(1e3 * s, 2) for n, s in seconds.items() if math.isfinite(s)}
    if not milliseconds:
        raise InputError(
            'every backend failed on the first batch; the reasons stand above',
            expected=f'one of {", ".join(names)} to train the network',
            fix='if the memory does not do, lower batch_size; or name one: backend: torch',
        )
    fastest = min(milliseconds, key=lambda name: seconds[name])
    told = ', '.join(f'{name} {value} ms' for name, value in milliseconds.items())
    print(f'reldistill: backend {fastest}, the fastest of {told}', file=sys.stderr, flush=True)
    known.write(fastest, milliseconds)
    return fastest


def user_folder() -> Path:
    """Where measurements are kept."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'reldistill' / 'backends'


class Memory:
    """One measurement in a file of its own; one that is not whole counts as absent.

    Args:
        folder: created when something is written.
        key: all that decides which backend is fastest.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._key, self._file = key, folder / f'{digest[:16]}.json'

    def read(self) -> BackendName | None:
        """The name that was written, or None."""
        try:
            found = json.loads(self._file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or found.get('key') != self._key:
            return None
        return next((name for name in ON_CUDA if name == found.get('backend')), None)

    def write(self, backend: str, milliseconds: dict[BackendName, float]) -> None:
        """Keep a measurement; a disk that cannot be written to costs the time to repeat it."""
        values = {'backend': backend, 'milliseconds': milliseconds, 'key': self._key}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # a folder of its own: the processes of one run measure at the same time
            with TemporaryDirectory(dir=self._file.parent, prefix='.partial-') as own:
                partial = Path(own) / self._file.name
                partial.write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')
                partial.replace(self._file)
        except OSError as error:
            print(f'reldistill: the measurement is not kept: {error}', file=sys.stderr)


class Trial:
    """Forward and backward pass of a copy of the backbone, kernel maps included.

    Args:
        backbone: of the student on its CUDA device.
        feats: (V, F) input features.
        maps: kernel maps.
        dtype: of the convolutions.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feats: NDArray[np.float32],
        maps: KernelMaps | DeviceMaps,
        dtype: torch.dtype,
    ) -> None:
        # batch norm in training would wait for the other processes of a run
        self._backbone = deepcopy(backbone).eval()
        self.device = next(backbone.parameters()).device
        self._feats, self._maps = torch.from_numpy(feats).to(self.device), maps
        self._dtype = dtype

    def measure(self, as_maps: AsMaps) -> float:
        """Median of seconds; infinite where it fails, for instance for want of memory."""
        try:
            times = [self._pass(as_maps) for _ in range(WARM_UP + REPEATS)]
        except failures() as error:
            print(f'reldistill: a backend is left out: {reason_of(error)}', file=sys.stderr)
            torch.cuda.empty_cache()
            return float('inf')
        return median(times[WARM_UP:])

    def _pass(self, as_maps: AsMaps) -> float:
        self._wait()
        start = time.perf_counter()
        self._backbone.zero_grad(set_to_none=True)
        half = self._dtype != torch.float32
        with torch.autocast(self.device.type, self._dtype, enabled=half):
            features = self._backbone(self._feats, as_maps(self._maps))
        features.float().mean().backward()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
