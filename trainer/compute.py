# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Where and how a student is computed: device, backend of its convolutions, mixed precision.

Losses are computed in float32 whatever the precision of the network. Nothing is given to
`torch.compile` yet: that is an expectation, to be measured on a GPU. Every convolution of the
student is a break in the graph (its sizes come from the data, its backward pass is ours); between
two of them are norm, ReLU and sum of one level, of another number of voxels at every step. The
losses in row blocks are mostly matrix products, for which we expect no gain. A frozen 2D teacher of
fixed image size may gain, but its features of unchanged images can be kept (`teacher.cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.backends.backend import Backend
from reldistill_ros.backends.device_maps import DeviceMaps, build_device_maps
from reldistill_ros.backends.fused_backend import FusedBackend
from reldistill_ros.backends.torch_backend import TorchBackend
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.student import SparseMaps, Student
from trainer.fastest_backend import fastest_on_cuda
from trainer.settings import BackendName, Precision, RunSettings
from trainer.sparse_backends import AsMaps, check_backend, obstacle, open_maps

SMALLEST_SCALE = 1.0  # of a float16 loss: below it, overflows do not come from the scale


class Compute:
    """A device with a precision and a backend, which may be found out at the first batch.

    Args:
        settings: of the run.
        student: on its device.
        note: told the name of the backend as soon as it is known.

    Raises:
        InputError: a backend or precision that does not work there.
    """

    def __init__(
        self,
        settings: RunSettings,
        student: Student,
        note: Callable[[BackendName], None] = lambda _: None,
    ) -> None:
        self.device = next(student.parameters()).device
        self._settings, self._student, self._note = settings, student, note
        on_cuda = self.device.type == 'cuda'
        self._dtype = getattr(torch, settings.precision) if on_cuda else torch.float32
        scaled = self._dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self._as_maps: AsMaps | None = None
        if on_cuda:
            _check_precision(settings.precision)
            torch.set_float32_matmul_precision('high' if settings.tf32 else 'highest')
        if settings.backend != 'auto':
            check_backend(settings.backend, self.device, settings.precision)
            self._open(settings.backend)
        elif not on_cuda:
            self._open('fused')

    def maps(
        self, feats: NDArray[np.float32], maps: KernelMaps, sizes: Sequence[int] = ()
    ) -> SparseMaps:
        """A batch's kernel maps for the backend.

        Args:
            feats: (V, F) input features, with which the backend is chosen if it is to be.
            maps: with their tables, or on CUDA with coordinates alone.
            sizes: (B,) voxels of each sweep, where there are no tables.
        """
        tables: KernelMaps | DeviceMaps = maps
        if self.device.type == 'cuda' and len(maps) == 1:
            coords = torch.from_numpy(maps[0].coords).to(self.device)
            numbers = np.repeat(np.arange(len(sizes)), sizes)
            tables = build_device_maps(coords, torch.from_numpy(numbers).to(self.device))
        if not len(feats):
            # A process whose sweeps cannot be read. Libraries refuse empty tables, and a backend
            # chosen by the time that nothing takes would be remembered.
            return PairMaps(tables, self.device)
        if self._as_maps is None:
            self._as_maps = self._open_fastest(feats, tables)
        return self._as_maps(tables)

    def autocast(self) -> AbstractContextManager[object]:
        """Around the network: its convolutions and linear layers run in the precision."""
        half = self._dtype != torch.float32
        return torch.autocast(self.device.type, self._dtype, enabled=half)

    def backward(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Fresh gradients of a loss, in its own scale."""
        optimiser.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Move the weights; gradients that overflowed in float16 are left out."""
        self.scaler.step(optimiser)
        self.scaler.update()

    def resume(self, loss_scale: dict[str, float]) -> None:
        """Go on with the loss scale of a checkpoint, if it has one: float16 on CUDA does."""
        if loss_scale:
            self.scaler.load_state_dict(loss_scale)

    @property
    def may_overflow(self) -> bool:
        """Whether gradients that are not finite are the loss scale's doing."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE

    def _open(self, name: BackendName) -> AsMaps:
        self._as_maps = open_maps(name, self.device, self._settings.tf32)
        self._note(name)
        return self._as_maps

    def _open_fastest(self, feats: NDArray[np.float32], tables: KernelMaps | DeviceMaps) -> AsMaps:
        name = fastest_on_cuda(
            self._student.backbone,
            feats,
            tables,
            network=self._student.network,
            precision=self._settings.precision,
            tf32=self._settings.tf32,
        )
        return self._open(name)


def _check_precision(precision: Precision) -> None:
    if precision == 'bfloat16' and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            'this GPU does not compute in bfloat16',
            where='settings: precision',
            got=torch.cuda.get_device_name(),
            fix='set precision: float16',
        )


def fastest_backend(student: Student) -> Backend:
    """The engine to run a trained student with on the device that it is on, in float32."""
    device = next(student.parameters()).device
    if device.type == 'cpu':
        weights = {name: value.numpy() for name, value in student.state_dict().items()}
        return FusedBackend(weights, student.network, torch.get_num_threads())
    name: BackendName = 'torch' if obstacle('triton', device, 'float32') else 'triton'
    return TorchBackend(student, open_maps(name, device))
