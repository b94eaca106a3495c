# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student of the benchmark, and what its outputs should be: plain torch in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark.sparse_workload import INPUTS, Workload
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student, folded_copy
from trainer.onnx_graph import write_onnx

EMBEDDING_SIZE = 512


def write_student(folder: Path, network: str) -> None:
    """Put a student with random weights, and norms that do something, into the folder."""
    torch.manual_seed(0)
    student = _new_student(network)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    files = Workload(folder, '', network)
    save_file(student.state_dict(), files.weights_path)
    write_onnx(folded_copy(student).backbone, INPUTS.num_features, files.onnx_path)


def load_student(workload: Workload) -> Student:
    """The student with its weights from the folder."""
    student = _new_student(workload.network)
    student.load_state_dict(load_file(workload.weights_path))
    return student


def _new_student(network: str) -> Student:
    settings = {'network': network, 'embedding_size': EMBEDDING_SIZE}
    return Student(StudentSettings.model_validate(settings), INPUTS.num_features)


def write_expected(workload: Workload) -> None:
    """Put into the folder what runs should return.

    For `forward` that is the point features (V, D), for `forward_backward` the gradient of the
    first kernel (27, F, C): the backward pass reaches it last.
    """
    student = load_student(workload).double()
    feats = torch.from_numpy(workload.voxels.feats).double()
    maps = PairMaps(workload.maps)
    with torch.inference_mode():
        features = student.eval().backbone(feats, maps)
    output_gradient = torch.from_numpy(workload.output_gradient).double()
    student.train().backbone(feats, maps).backward(output_gradient)
    gradient = student.backbone.stem1.kernel.grad
    assert gradient is not None
    for mode, values in (('forward', features), ('forward_backward', gradient)):
        np.save(workload.expected_path(mode), values.numpy())
