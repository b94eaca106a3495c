# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dense features of ConvNeXt and SigLIP towers, key smoothing and prompt denoising."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from reldistill_ros.core.errors import InputError
from trainer.datasets.sample import CameraImage
from trainer.export_image import export_image
from trainer.image_networks import clip_network
from trainer.open_clip_text import load_open_clip
from trainer.teachers.build import build_teacher
from trainer.teachers.clip import ClipNetwork
from trainer.teachers.maskclip import last_keys, maskclip_features, smooth_by_keys
from trainer.teachers.patches import PatchFeatures
from trainer.teachers.pooled_towers import siglip_tokens
from trainer.teachers.prompt_denoising import DenoisedTeacher, highest_probabilities
from trainer.teachers.settings import ClipTeacherSettings
from trainer.torchvision_ops import make_torchvision_importable

WORDS = ('road', 'car', 'tree', 'sky')
TEXT = {'context_length': 16, 'vocab_size': 64, 'width': 32, 'heads': 2, 'layers': 1}
MODELS = {
    'tiny-vit-tower-test': {
        'embed_dim': 24,
        'vision_cfg': {
            'image_size': 32,
            'layers': 2,
            'width': 32,
            'head_width': 16,
            'patch_size': 8,
        },
        'text_cfg': TEXT,
    },
    'tiny-convnext-test': {
        'embed_dim': 24,
        'vision_cfg': {
            'timm_model_name': 'test_convnext',
            'timm_model_pretrained': False,
            'timm_pool': '',
            'timm_proj': 'linear',
            'image_size': 64,
        },
        'text_cfg': TEXT,
    },
    'tiny-siglip-test': {
        'embed_dim': 32,
        'init_logit_bias': -10,
        'custom_text': True,
        'vision_cfg': {
            'image_size': 64,
            'timm_model_name': 'vit_tiny_siglip_of_this_test',
            'timm_model_pretrained': False,
            'timm_pool': 'map',
            'timm_proj': 'none',
        },
        'text_cfg': {
            **TEXT,
            'hf_tokenizer_name': 'nobody/has-this-tokenizer',
            'tokenizer_kwargs': {'clean': 'canonicalize'},
            'no_causal_mask': True,
            'proj_bias': True,
            'pool_type': 'last',
        },
    },
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Folders as the hub has them, of tiny models with random weights, large enough to matter."""
    make_torchvision_importable()
    open_clip = pytest.importorskip('open_clip', reason='the clip extra is not installed')
    register_tiny_siglip()
    root = tmp_path_factory.mktemp('towers')
    torch.manual_seed(0)
    for name, config in MODELS.items():
        (root / f'{name}.json').write_text(json.dumps(config))
        open_clip.add_model_config(root / f'{name}.json')
        model = open_clip.create_model(name)
        for parameter_name, weight in model.named_parameters():
            is_norm = 'norm' in parameter_name or 'ln_' in parameter_name
            is_scale = is_norm and parameter_name.endswith('weight')
            torch.nn.init.normal_(weight, mean=float(is_scale), std=0.2)
        (root / name).mkdir()
        torch.save(model.state_dict(), root / name / 'open_clip_pytorch_model.bin')
        written = {'model_cfg': config, 'preprocess_cfg': {'mean': [0.5] * 3, 'std': [0.5] * 3}}
        (root / name / 'open_clip_config.json').write_text(json.dumps(written))
    write_tokenizer(root / 'tiny-siglip-test')
    return root


def register_tiny_siglip():
    """SigLIP's own vision architecture in timm (no class token, attention pool), tiny."""
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer

    def vit_tiny_siglip_of_this_test(pretrained=False, **settings):
        return VisionTransformer(
            img_size=64,
            patch_size=16,
            embed_dim=32,
            depth=2,
            num_heads=2,
            class_token=False,
            num_classes=settings['num_classes'],
            global_pool=settings['global_pool'],
        )

    register_model(vit_tiny_siglip_of_this_test)


def write_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    index = {'<pad>': 0, '<eos>': 1, '<unk>': 2} | {w: 3 + k for k, w in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='<pad>', eos_token='<eos>', unk_token='<unk>'
    ).save_pretrained(folder)


def load(folder, name):
    return load_open_clip(name, name, data_root=folder, device='cpu')


@pytest.fixture(scope='module')
def siglip(folder):
    return load(folder, 'tiny-siglip-test')


@pytest.fixture(scope='module')
def convnext(folder):
    return load(folder, 'tiny-convnext-test')


@pytest.fixture(scope='module')
def vit(folder):
    return load(folder, 'tiny-vit-tower-test')


def random_pixels(height, width, num=1):
    return torch.randn(num, 3, height, width, generator=torch.Generator().manual_seed(1))


def camera_image(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return CameraImage('front', 'front/0', pixels, np.eye(3), np.eye(4))


# --- ConvNeXt ----------------------------------------------------------------------------------


@torch.no_grad()
def test_an_image_of_one_cell_is_what_the_convnext_says_of_the_whole_image(convnext):
    pixels = random_pixels(32, 32)
    network = ClipNetwork(convnext)
    expected = F.normalize(convnext.model.encode_image(pixels), dim=1)
    assert network.patch_size == 32
    torch.testing.assert_close(network(pixels)[0, :, 0, 0], expected[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_each_cell_of_a_convnext_goes_through_norm_and_projection_alone(convnext):
    pixels = random_pixels(64, 96, num=2)
    visual = convnext.model.visual
    cells = visual.trunk.forward_features(pixels)  # (2, D, 2, 3)
    one = visual.trunk.head.norm(cells[1:, :, 1:, 2:]).flatten(1)
    expected = F.normalize(visual.head.proj(one), dim=1)
    features = ClipNetwork(convnext)(pixels)
    assert features.shape == (2, 24, 2, 3)
    torch.testing.assert_close(features[1, :, 1, 2], expected[0], rtol=0, atol=1e-6)


# --- SigLIP ------------------------------------------------------------------------------------


@torch.no_grad()
def test_tokens_of_a_siglip_are_timms_own_at_the_size_of_its_training(siglip):
    trunk = siglip.model.visual.trunk
    pixels = random_pixels(64, 64)
    tokens, grid = siglip_tokens(trunk, pixels)
    assert grid == (4, 4)
    assert torch.equal(tokens, trunk.forward_features(pixels))


@torch.no_grad()
def test_patches_of_a_siglip_take_the_value_path_of_its_attention_pool(siglip):
    """Written out from the weights: value, output projection, residual MLP."""
    pixels = random_pixels(64, 64)
    pool = siglip.model.visual.trunk.attn_pool
    tokens = siglip.model.visual.trunk.forward_features(pixels)
    value = F.linear(tokens, pool.kv.weight[32:], pool.kv.bias[32:])
    x = pool.proj(value)
    x = x + pool.mlp(pool.norm(x))
    expected = F.normalize(x, dim=-1).transpose(1, 2).reshape(1, 32, 4, 4)
    torch.testing.assert_close(ClipNetwork(siglip)(pixels), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_siglip_whose_tokens_are_all_alike_says_of_each_what_it_says_of_the_image(siglip):
    """Attention over equal tokens is their value, so dense and pooled features must agree."""
    trunk = siglip.model.visual.trunk
    tokens = torch.randn(1, 1, 32).expand(1, 16, 32)
    pooled = trunk.forward_head(tokens)
    alone = trunk.forward_head(tokens.reshape(16, 1, 32))
    torch.testing.assert_close(alone, pooled.expand(16, 32), rtol=0, atol=1e-5)


def test_a_siglip_sees_images_of_any_shape_and_speaks_out_of_its_folder(siglip, tmp_path):
    settings = ClipTeacherSettings(kind='clip', short_side=32)
    teacher = build_teacher(settings, siglip, tmp_path)
    dense = teacher(camera_image(40, 100))
    assert dense.patches.shape == (1, 32, 2, 5)
    rows = dense.at(np.array([[0, 0], [99, 39], [100, 0]]))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0], atol=1e-5)
    words = siglip(['road', 'Car!', 'car'])
    assert words.shape == (3, 32)
    np.testing.assert_allclose(words[1], words[2])
    assert not np.allclose(words[0], words[1], atol=1e-3)


# --- folders of the hub ------------------------------------------------------------------------


def test_a_folder_of_another_model_or_without_weights_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"(?s)another model.*test_convnext.*'layers': 2"):
        load_open_clip('tiny-convnext-test', 'tiny-vit-tower-test', data_root=folder, device='cpu')
    source = folder / 'tiny-vit-tower-test' / 'open_clip_config.json'
    (tmp_path / 'open_clip_config.json').write_bytes(source.read_bytes())
    with pytest.raises(InputError, match=r'(?s)cannot be loaded'):
        load_open_clip('tiny-vit-tower-test', '.', data_root=tmp_path, device='cpu')
    (tmp_path / 'open_clip_config.json').write_text('{}')
    with pytest.raises(InputError, match='configuration cannot be read'):
        load_open_clip('tiny-vit-tower-test', '.', data_root=tmp_path, device='cpu')


def test_names_tell_the_weights_of_a_folder_apart(folder, vit):
    again = load(folder, 'tiny-vit-tower-test')
    assert again.name == vit.name
    assert ClipNetwork(again).name == ClipNetwork(vit).name
    with torch.no_grad():
        again.model.visual.proj[0, 0] += 1
    assert ClipNetwork(again).name != ClipNetwork(vit).name


# --- key smoothing -----------------------------------------------------------------------------


@torch.no_grad()
def test_smoothing_sums_unit_features_weighted_by_the_cosine_of_the_keys():
    features, keys = torch.randn(2, 12, 8), torch.randn(2, 12, 5)
    unit = F.normalize(keys, dim=-1)
    expected = (unit @ unit.transpose(1, 2)) @ F.normalize(features, dim=-1)
    torch.testing.assert_close(smooth_by_keys(features, keys), expected)


@torch.no_grad()
def test_keys_are_those_that_the_last_block_attends_with(vit):
    """Taken from the packed projection of q, k and v, which attention applies as a whole."""
    block = vit.model.visual.transformer.resblocks[-1]
    tokens = torch.randn(1, 17, 32)
    normed = block.ln_1(tokens)
    q, k, v = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    heads = [x.reshape(1, 17, 2, 16).transpose(1, 2) for x in (q, k, v)]
    attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(1, 17, 32)
    expected = block.attn(normed, normed, normed, need_weights=False)[0]
    torch.testing.assert_close(block.attn.out_proj(attended), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(last_keys(block, tokens), k)


def test_key_smoothing_changes_features_and_name_and_is_off_by_default(vit):
    pixels = random_pixels(32, 64)
    plain, smooth = ClipNetwork(vit), ClipNetwork(vit, key_smoothing=True)
    expected = F.normalize(maskclip_features(vit.model.visual, pixels), dim=1)
    assert torch.equal(plain(pixels), expected)
    assert not torch.allclose(smooth(pixels), expected, atol=1e-2)
    assert smooth.name != plain.name


def test_key_smoothing_without_keys_is_refused(convnext):
    with pytest.raises(InputError, match=r'(?s)key smoothing needs.*key_smoothing: false'):
        ClipNetwork(convnext, key_smoothing=True)


# --- prompt denoising --------------------------------------------------------------------------


class OnePatchATeacher:
    """Patches of two orthogonal directions side by side, the second leaning to a third."""

    name, embedding_size = 'two', 3

    def __call__(self, image):
        patches = torch.zeros(1, 3, 1, 2)
        patches[0, 0, 0, 0] = 1
        patches[0, :, 0, 1] = torch.tensor([0.0, 0.7, 0.714])
        return PatchFeatures(patches, image.image.shape[:2])


AXES = np.eye(3, dtype=np.float32)
CENTRES = np.array([[7.5, 7.5], [23.5, 7.5]])


def test_probabilities_are_the_softmax_over_the_classes_and_the_highest_over_the_image():
    patches = OnePatchATeacher()(camera_image(16, 32)).patches
    seen = highest_probabilities(patches, torch.from_numpy(AXES)).numpy()
    second = patches[0, :, 0, 1] / patches[0, :, 0, 1].norm()
    logits = np.exp(100 * (second.numpy() - 1))
    np.testing.assert_allclose(seen, [1, *(logits / logits.sum())[1:]], atol=1e-5)


@pytest.mark.parametrize(('threshold', 'kept'), [(0.5, [True, True]), (0.9, [True, False])])
def test_pixels_of_a_class_that_is_nowhere_likely_carry_no_supervision(threshold, kept):
    """The second patch is the third axis with probability 0.8, and nothing else is likelier."""
    image = camera_image(16, 32)
    teacher = DenoisedTeacher(OnePatchATeacher(), AXES, threshold)
    rows = teacher(image).at(CENTRES)
    np.testing.assert_array_equal(rows.any(axis=1), kept)
    np.testing.assert_array_equal(rows[kept], OnePatchATeacher()(image).at(CENTRES)[kept])


def test_denoising_is_built_from_a_vocabulary_and_keeps_the_same_features(siglip, tmp_path):
    classes = [{'name': word, 'color': [0, 0, 0]} for word in WORDS]
    vocabulary = {'version': 1, 'name': 'words', 'templates': ['{}'], 'classes': classes}
    (tmp_path / 'words.yaml').write_text(yaml.safe_dump(vocabulary))
    values = {'kind': 'clip', 'short_side': 32, 'cache': 'kept'}
    plain = build_teacher(ClipTeacherSettings(**values), siglip, tmp_path)
    image = camera_image(32, 64)
    pixels = np.array([[5.0, 5.0], [60.0, 20.0]])
    expected = plain(image).at(pixels)
    for threshold, num in ((1e-6, 2), (0.9999, 0)):
        settings = ClipTeacherSettings(**values, denoise_below=threshold, vocabulary='words.yaml')
        rows = build_teacher(settings, siglip, tmp_path)(image).at(pixels)
        np.testing.assert_array_equal(rows[:num], expected[:num])
        assert not rows[num:].any()
    assert len(list((tmp_path / 'kept').rglob('*.safetensors'))) == 1


def test_denoising_without_words_is_refused():
    with pytest.raises(ValueError, match='belong together'):
        ClipTeacherSettings(kind='clip', denoise_below=0.5)
    with pytest.raises(ValueError, match='belong together'):
        ClipTeacherSettings(kind='clip', vocabulary='words.yaml')


@pytest.mark.parametrize('name', ['tiny-convnext-test', 'tiny-siglip-test'])
def test_every_kind_of_tower_is_exported_as_it_is_read_out(folder, tmp_path, name):
    run = SimpleNamespace(data_root=folder)
    trained = SimpleNamespace(encoder=load(folder, name), run=run)
    settings = ClipTeacherSettings(kind='clip', short_side=64)
    network = clip_network(trained, settings, (90, 160))
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    assert export_image(network, tmp_path, [noise])['max_error'] < 1e-5
