# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student in plain torch: the reference that every other engine is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.bundle import STUDENT_WEIGHTS, Bundle
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.student import SparseMaps, Student, folded_copy


class TorchBackend:
    """See `Backend`.

    Args:
        student: trained; runs on the device that it is on.
        as_maps: what to convolve along there; pairs if None.
    """

    def __init__(
        self, student: Student, as_maps: Callable[[KernelMaps], SparseMaps] | None = None
    ) -> None:
        self._backbone = folded_copy(student).backbone
        self._device = next(self._backbone.parameters()).device
        self._as_maps = as_maps or (lambda maps: PairMaps(maps, self._device))

    @classmethod
    def from_bundle(cls, bundle: Bundle, num_threads: int) -> TorchBackend:
        """Load a bundle's weights; the number of threads holds for the whole process."""
        torch.set_num_threads(num_threads)
        manifest = bundle.manifest
        student = Student(manifest.student, manifest.inputs.num_features)
        student.load_state_dict(load_file(bundle.path / STUDENT_WEIGHTS))
        return cls(student)

    @torch.inference_mode()
    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        rows = torch.from_numpy(feats).to(self._device)
        features: NDArray[np.float32] = (
            self._backbone(rows, self._as_maps(maps)).float().cpu().numpy()
        )
        return features
