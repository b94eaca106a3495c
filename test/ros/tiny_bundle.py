# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A valid bundle of an untrained student that knows the classes of `height_bag`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from fake_node import HeightLabeller
from safetensors.torch import save_file

from reldistill_ros.core import bundle
from reldistill_ros.core.settings import InputSettings, StudentSettings, VoxelSettings
from reldistill_ros.core.student import Student, fold_batch_norm
from trainer.onnx_graph import write_onnx


def write_bundle(
    path: Path,
    inputs: InputSettings | None = None,
    intensity_max: float | None = 255.0,
    add_files: Callable[[Path], object] = lambda path: None,
) -> Path:
    """Write the files by hand, as `trainer.export` does after a training run.

    Args:
        path: folder.
        inputs: of the student.
        intensity_max: of the manifest.
        add_files: writes more of them.
    """
    path.mkdir()
    torch.manual_seed(0)
    settings = StudentSettings(network='small', embedding_size=16)
    inputs = inputs or InputSettings()
    student = Student(settings, inputs.num_features).eval()
    weights = {name: value.contiguous() for name, value in student.state_dict().items()}
    save_file(weights, path / bundle.STUDENT_WEIGHTS)
    fold_batch_norm(student)
    write_onnx(student.backbone, inputs.num_features, path / bundle.STUDENT_ONNX)
    vocabulary = HeightLabeller.vocabulary
    text = yaml.safe_dump(vocabulary.model_dump(mode='json'))
    (path / bundle.VOCABULARY).write_text(text)
    prompts = np.random.default_rng(0).normal(size=(len(vocabulary.prompts), 16))
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    np.savez(
        path / bundle.TEXT_FEATURES,
        prompt_embeddings=prompts.astype(np.float32),
        embedding_mean=np.zeros(16, np.float32),
    )
    add_files(path)
    manifest = bundle.Manifest(
        format_version=bundle.FORMAT_VERSION,
        voxel=VoxelSettings(voxel_size=0.2, point_cloud_range=(-20, -20, -5, 20, 20, 5)),
        inputs=inputs,
        student=settings,
        intensity_max=intensity_max,
        temperature=0.1,
        text_encoder='none',
        teacher='none',
        run={},
        data_hash='',
        git_commit='',
        parity={},
        files={file.name: bundle.sha256_of(file) for file in sorted(path.iterdir())},
    )
    (path / bundle.MANIFEST).write_text(manifest.model_dump_json())
    return path
