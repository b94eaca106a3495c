# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""ONNX segmentation networks as teachers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from tiny_drive import WORDS, write_drive, write_settings
from tiny_training import losses, train

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, parse_settings
from trainer.datasets.sample import CameraImage
from trainer.fingerprint import fingerprint
from trainer.teachers.build import build_teacher
from trainer.teachers.settings import TeacherSettings

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CLASSES = ('red', 'green', 'blue')


def write_graph(path, activation=None):
    """Normalised colours at half the resolution as the scores of three classes."""
    kernel = np.zeros((3, 3, 2, 2), np.float32)
    kernel[range(3), range(3)] = 1 / 4
    nodes = [helper.make_node('Conv', ['image', 'kernel'], ['scores'], strides=[2, 2])]
    if activation:
        nodes.append(helper.make_node(activation, ['scores'], ['out'], axis=1))
    graph = helper.make_graph(
        nodes,
        'segmentation',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 'h', 'w'])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel, 'kernel')],
    )
    opset = [helper.make_opsetid('', 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def write_vocabulary(path, names=CLASSES):
    classes = [{'name': name, 'color': [0, 0, 0]} for name in names]
    path.write_text(
        yaml.safe_dump({'version': 1, 'name': path.stem, 'templates': ['{}'], 'classes': classes})
    )


class AxisEncoder:
    name = 'axes'
    embedding_size = 4

    def __call__(self, texts):
        return np.eye(4, dtype=np.float32)[[(*CLASSES, 'x').index(text) for text in texts]]


class TeacherFile(Settings):
    teacher: TeacherSettings


@pytest.fixture
def folder(tmp_path):
    write_graph(tmp_path / 'graph.onnx')
    write_graph(tmp_path / 'softmax.onnx', 'Softmax')
    write_vocabulary(tmp_path / 'colours.yaml')
    return tmp_path


def build(folder, **changes):
    values = {
        'kind': 'onnx_segmentation',
        'path': 'graph.onnx',
        'vocabulary': 'colours.yaml',
        'input_size': 8,
        'multiple': 4,
        'cell': 1,
        'mean': MEAN,
        'std': STD,
        **changes,
    }
    settings = parse_settings({'teacher': values}, TeacherFile, 'run.yaml')
    return build_teacher(settings.teacher, AxisEncoder(), folder)


def camera_image(pixels):
    return CameraImage('front', 'front/0', pixels, np.eye(3), np.eye(4))


def blocks(height=8, width=12):
    """Red, green, blue from left to right, of equal widths."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        pixels[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
    return pixels


def softmax_of(colour):
    scores = np.exp((np.array(colour) - MEAN) / STD)
    return scores / scores.sum()


MIDDLES = np.array([[1.5, 3.5], [5.5, 3.5], [9.5, 3.5]])


def test_pixels_get_the_embedding_of_the_likeliest_class(folder):
    rows = build(folder)(camera_image(blocks())).at(np.vstack([MIDDLES, [[-1, 0], [12, 3]]]))
    np.testing.assert_array_equal(rows, np.vstack([np.eye(3, 4), np.zeros((2, 4))]))
    empty = build(folder)(camera_image(blocks())).at(np.zeros((0, 2)))
    assert empty.shape == (0, 4)


def test_mixing_takes_all_probabilities(folder):
    rows = build(folder, mix=True)(camera_image(blocks())).at(MIDDLES)
    expected = [softmax_of(colour) for colour in np.eye(3)]
    expected = [p / np.linalg.norm(p) for p in expected]
    np.testing.assert_allclose(rows[:, :3], expected, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_logits_and_probabilities_of_one_network_are_one_teacher(folder):
    image = camera_image(blocks())
    logits = build(folder, mix=True)
    probabilities = build(folder, mix=True, path='softmax.onnx', output='probabilities')
    np.testing.assert_allclose(
        logits(image).at(MIDDLES), probabilities(image).at(MIDDLES), atol=1e-5
    )
    inner = build(folder, mix=True, path='softmax.onnx', tensor='scores')
    np.testing.assert_array_equal(logits(image).at(MIDDLES), inner(image).at(MIDDLES))


def test_cells_average_probabilities_edge_to_edge(folder):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :12, 0] = 255  # the right quarter is black
    dense = build(folder, cell=4)(camera_image(image))
    assert dense.probabilities.shape == (1, 3, 1, 2)
    right = (softmax_of([1, 0, 0]) + softmax_of([0, 0, 0])) / 2
    np.testing.assert_allclose(dense.probabilities[0, :, 0, 1], right, atol=1e-3)


def test_ignored_and_doubtful_pixels_carry_no_supervision(folder):
    image = camera_image(blocks())
    assert build(folder, ignore_classes=['green'])(image).at(MIDDLES).any(axis=1).tolist() == [
        True,
        False,
        True,
    ]
    highest = [softmax_of(colour).max() for colour in np.eye(3)]
    least = (min(highest) + max(highest)) / 2
    rows = build(folder, min_confidence=float(least), mix=True)(image).at(MIDDLES)
    assert rows.any(axis=1).tolist() == [p > least for p in highest]


def test_probabilities_are_kept_and_words_may_change(folder):
    write_vocabulary(folder / 'other.yaml', ('blue', 'green', 'red'))
    image = camera_image(blocks())
    first = build(folder, cache='kept')(image).at(MIDDLES)
    second = build(folder, cache='kept', vocabulary='other.yaml', mix=True)(image).at(MIDDLES)
    assert len(list((folder / 'kept').rglob('*.safetensors'))) == 1
    assert first[0].argmax() == 0
    assert second[0].argmax() == 2


def test_a_run_learns_from_a_segmentation_network_and_keeps_its_vocabulary(tmp_path):
    write_drive(tmp_path / 'drive')
    write_graph(tmp_path / 'graph.onnx')
    write_vocabulary(tmp_path / 'colours.yaml', WORDS)
    teacher = {
        'kind': 'onnx_segmentation',
        'path': 'graph.onnx',
        'vocabulary': 'colours.yaml',
        'input_size': 24,
        'multiple': 4,
        'cell': 1,
        'mean': (0.2, 0.4, 0.6),  # grey levels 0, 80 and 160 then are of different classes
        'std': (0.1, 0.3, 0.5),
        'mix': True,
        'cache': 'kept',
    }
    unchanged = {'crop': 1.0, 'flip_image': False}
    write_settings(tmp_path, teacher=teacher, augment=unchanged, center=True)
    run = train(tmp_path, 'run')
    assert np.isfinite(losses(tmp_path / 'run')).all()
    (tmp_path / 'colours.yaml').unlink()
    encoder = run.build_encoder()
    assert run.build_teacher(encoder).embedding_size == 16
    assert 'vocabulary of the teacher' in fingerprint(
        run, run.open_training(), encoder, run.build_teacher(encoder)
    )


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'output': 'probabilities'}, r'(?s)sum over the classes is 1.*correct `output`'),
        ({'vocabulary': 'four.yaml'}, r'(?s)same classes.*3 classes.*got: 4'),
        ({'ignore_classes': ['pink']}, r'(?s)red, green, blue.*pink'),
        ({'tensor': 'kernel'}, 'no such tensor'),
        ({'input_size': 10}, r'(?s)multiple of 4'),
        ({'path': 'gone.onnx'}, 'does not exist'),
    ],
)
def test_mistakes_are_named(folder, changes, message):
    write_vocabulary(folder / 'four.yaml', (*CLASSES, 'x'))
    with pytest.raises(InputError, match=message):
        build(folder, **changes)
