# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An image encoder that was exported sees what the original sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from open_folder import Folder
from torch import nn

from reldistill_ros.cameras import image_encoder
from reldistill_ros.cameras.image_encoder import ImageEncoderSettings, load_image_encoder
from reldistill_ros.core.errors import InputError
from trainer.export_image import export_image
from trainer.image_graph import torch_graph
from trainer.image_networks import ImageNetwork

pytest.importorskip('onnxscript', reason='the train extra is not installed')


class Colours(nn.Module):
    """Two classes, a red and a blue one, in patches of 4 pixels."""

    def forward(self, pixels):
        means = nn.functional.avg_pool2d(pixels, 4)
        return 4 * means[:, ::2]


SETTINGS = ImageEncoderSettings(
    name='colours',
    input_size=(24, 40),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.25, 0.5),
    output='classes',
    channels=2,
)
EMBEDDINGS = np.eye(2, 3, dtype=np.float32)


def smooth_image(height, width, seed=0):
    """What a camera might see: neighbouring pixels are alike."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 9, 16)))
    fine = nn.functional.interpolate(coarse, (height, width), mode='bilinear')
    return fine[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def colours(network=None, settings=SETTINGS):
    network = (network or Colours()).eval()
    graph = torch_graph(network, torch.zeros(1, 3, *settings.input_size))
    return ImageNetwork(settings, graph, network, EMBEDDINGS)


def test_a_class_network_states_its_class_and_how_sure_it_is(tmp_path):
    image = np.zeros((120, 200, 3), np.uint8)
    image[:, :100, 0] = 255
    image[:, 100:, 2] = 255
    parity = export_image(colours(), tmp_path, [image])
    assert parity['max_error'] == 0
    encoder = load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1)
    encoded = encoder.encode(image)
    opinions = encoded.opinions(EMBEDDINGS).at(np.array([[20, 60], [180, 60]], np.float32))
    np.testing.assert_allclose(opinions.cosines, np.eye(2))
    # the logits are 4 and -4
    np.testing.assert_allclose(opinions.confidences, 1 / (1 + np.exp(-8)), atol=1 / 255)


def test_an_image_of_any_size_is_scaled_to_the_input_of_the_network(tmp_path):
    export_image(colours(), tmp_path, [smooth_image(60, 90)])
    encoder = load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1)
    for size in ((1, 1), (24, 40), (333, 77)):
        assert encoder.run(smooth_image(*size)).shape == (2, 6, 10)


def test_an_image_is_compared_with_any_words_and_knows_its_shape(tmp_path):
    export_image(colours(), tmp_path, [smooth_image(60, 90)])
    encoder = load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1)
    encoded = encoder.encode(smooth_image(60, 90))
    assert encoded.stretch == pytest.approx((90 / 60) / (40 / 24))
    assert encoded.num_bytes == 2 * 6 * 10
    first = encoded.opinions(EMBEDDINGS)
    other = encoded.opinions(EMBEDDINGS[::-1].copy())
    pixels = np.array([[3, 3]], np.float32)
    np.testing.assert_array_equal(other.at(pixels).cosines, first.at(pixels).cosines[:, ::-1])


def test_an_answer_that_is_not_finite_is_a_failure_of_the_encoder(tmp_path):
    class Logarithms(Colours):
        def forward(self, pixels):
            return super().forward((pixels + 1).log())

    dark, bright = np.zeros((60, 90, 3), np.uint8), np.full((60, 90, 3), 200, np.uint8)
    export_image(colours(Logarithms()), tmp_path, [bright])
    encoder = load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1)
    encoder.encode(bright)
    with pytest.raises(InputError, match='not finite'):
        encoder.encode(dark)


@pytest.mark.parametrize(
    'image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(tmp_path, image):
    export_image(colours(), tmp_path, [smooth_image(60, 90)])
    encoder = load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1)
    with pytest.raises(InputError, match='no image for the image encoder'):
        encoder.encode(image)


def test_an_export_that_differs_is_refused(tmp_path):
    class Unsteady(Colours):
        def forward(self, pixels):
            sign = 1 if torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling() else -1
            return sign * super().forward(pixels)

    with pytest.raises(InputError, match='differs from the original'):
        export_image(colours(Unsteady()), tmp_path, [smooth_image(60, 90)])


def test_a_network_with_other_channels_than_announced_is_refused(tmp_path):
    settings = SETTINGS.model_copy(update={'channels': 3, 'output': 'features'})
    with pytest.raises(InputError, match='another number of values'):
        export_image(colours(settings=settings), tmp_path, [smooth_image(60, 90)])


def test_class_embeddings_of_another_network_are_refused():
    with pytest.raises(InputError, match=r'(?s)do not belong to the classes.*expected: 2 rows'):
        image_encoder.ImageEncoder(
            SETTINGS,
            b'',
            np.eye(3, dtype=np.float32),
            embedding_mean=np.zeros(3, np.float32),
            num_threads=1,
        )


def test_a_graph_that_is_none_is_refused():
    with pytest.raises(InputError, match='does not take the image encoder'):
        image_encoder.ImageEncoder(
            SETTINGS,
            b'no graph',
            EMBEDDINGS,
            embedding_mean=np.zeros(3, np.float32),
            num_threads=1,
        )


def test_a_bundle_without_image_encoder_has_none(tmp_path):
    assert load_image_encoder(Folder(tmp_path, np.zeros(3, np.float32)), num_threads=1) is None


def test_the_robot_needs_no_torch_for_it():
    script = (
        'import sys; import reldistill_ros.cameras.image_encoder, reldistill_ros.cameras.ensemble,'
        ' reldistill_ros.cameras.visibility; '
        'print(*{name.split(".")[0] for name in sys.modules})'
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True, cwd=root
    )
    assert not set(result.stdout.split()) & {'torch', 'trainer', 'rclpy'}
