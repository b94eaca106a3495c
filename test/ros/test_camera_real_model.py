# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A bundle with a real (untrained) student and a real exported image encoder, through the node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('cv2', reason='the cameras extra is not installed')
pytest.importorskip('onnxscript', reason='the training extra is not installed')

import torch
from camera_client import (
    EXTRINSICS,
    HEIGHT,
    START,
    WIDTH,
    K,
    check,
    forward_pose,
    picture,
    raw,
    scene,
)
from camera_client import CameraSystem as System
from tiny_bundle import write_bundle
from torch import nn

from reldistill_ros.cameras.ensemble import CameraView, open_ensemble
from reldistill_ros.cameras.image_encoder import ImageEncoderSettings, load_image_encoder
from reldistill_ros.cameras.transforms import invert
from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible
from reldistill_ros.core import bundle as bundle_module
from reldistill_ros.core.bundle import load_bundle
from reldistill_ros.labeller import Labeller
from reldistill_ros.node.model import BundleSource
from trainer.export_image import export_image
from trainer.image_graph import torch_graph
from trainer.image_networks import ImageNetwork

SETTINGS = ImageEncoderSettings(
    name='colours',
    input_size=(HEIGHT, WIDTH),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    output='classes',
    channels=2,
)


class Colours(nn.Module):
    """Two classes, a red and a blue one, in patches of 4 pixels."""

    def forward(self, pixels):
        return 4 * nn.functional.avg_pool2d(pixels, 4)[:, ::2]


def add_encoder(path: Path) -> None:
    embeddings = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    network = Colours().eval()
    graph = torch_graph(network, torch.zeros(1, 3, *SETTINGS.input_size))
    export_image(ImageNetwork(SETTINGS, graph, network, embeddings), path, [picture()])


def expected(bundle, points, age):
    """Labels of the offline parts of the bundle."""
    scaled = points / np.float32([1, 1, 1, 255])
    encoder = load_image_encoder(bundle, num_threads=1)
    opinions = encoder.encode(picture()).opinions(bundle.prompt_embeddings)
    camera = PinholeCamera((HEIGHT, WIDTH), K, invert(forward_pose()))
    pairs = find_visible(scaled, camera, PairingSettings())
    found = opinions.at(pairs.pixels)
    view = CameraView(pairs.point_indices, found.cosines, found.confidences, age)
    labels = Labeller.from_bundle(bundle)(scaled)
    return open_ensemble(bundle, bundle.vocabulary)(scaled, labels, [view]), labels


def test_a_real_bundle_gives_the_labels_of_its_parts_offline(tmp_path, monkeypatch):
    path = write_bundle(tmp_path / 'bundle', add_files=add_encoder)
    hashed = []
    digest = bundle_module.sha256_of
    monkeypatch.setattr(
        bundle_module, 'sha256_of', lambda path: hashed.append(path.name) or digest(path)
    )
    system = System(
        f'bundle:={path}',
        'backend:=fused',
        f'camera.front.extrinsics:={EXTRINSICS}',
        source=BundleSource,
    )
    try:
        assert hashed.count('student.onnx') == 1  # the bundle is read and checked once
        system.see(raw())
        points = scene()
        answer = system.label(points, START + 0.05)
        truth, student = expected(load_bundle(path), points, 0.05)
        check(answer, truth)
        assert (truth.class_ids != student.class_ids).any()
        values = system.values()
        assert float(values['encode_time_p50_ms']) > 0
    finally:
        system.close()
