# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A student in evaluation mode with random weights, and norms that do something."""

from __future__ import annotations

import torch

from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student

NUM_FEATURES = 5


def make_student(network='small', num_features=NUM_FEATURES):
    torch.manual_seed(0)
    student = Student(StudentSettings(network=network, embedding_size=32), num_features)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return student.eval()
