# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Dense CLIP features against open_clip's own forward."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reldistill_ros.core.errors import InputError
from trainer.datasets.sample import CameraImage
from trainer.open_clip_text import OpenClipEncoder, load_open_clip
from trainer.teachers.build import build_teacher
from trainer.teachers.clip import ClipNetwork
from trainer.teachers.grids import ImageGrids, scaled_size
from trainer.teachers.maskclip import embed_patches, maskclip_features, positions_for
from trainer.teachers.patches import PatchFeatures, PatchTeacher
from trainer.teachers.settings import ClipTeacherSettings
from trainer.teachers.teacher import is_inside
from trainer.torchvision_ops import make_torchvision_importable

TINY_CLIP = {
    'embed_dim': 24,
    'vision_cfg': {'image_size': 32, 'layers': 3, 'width': 32, 'head_width': 16, 'patch_size': 8},
    'text_cfg': {'context_length': 77, 'vocab_size': 512, 'width': 32, 'heads': 2, 'layers': 1},
}


@pytest.fixture(scope='module')
def encoder(tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    """A CLIP of the real architecture, tiny, with weights large enough to matter."""
    make_torchvision_importable()
    open_clip = pytest.importorskip('open_clip', reason='the clip extra is not installed')
    folder = tmp_path_factory.mktemp('open_clip')
    (folder / 'tiny-image-test.json').write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / 'tiny-image-test.json')
    torch.manual_seed(0)
    model = open_clip.create_model('tiny-image-test')
    for name, weight in model.visual.named_parameters():
        is_norm = 'ln_' in name and name.endswith('weight')
        torch.nn.init.normal_(weight, mean=float(is_norm), std=0.3)
    torch.save(model.state_dict(), folder / 'tiny.pt')
    return load_open_clip('tiny-image-test', 'tiny.pt', data_root=folder, device='cpu')


@pytest.fixture
def visual(encoder: OpenClipEncoder) -> Any:
    return encoder.model.visual


def camera_image(image: NDArray[np.uint8]) -> CameraImage:
    return CameraImage(
        camera='front',
        image_id='front/0001',
        image=image,
        intrinsics=np.eye(3),
        camera_from_lidar=np.eye(4),
    )


def clip_teacher(encoder: OpenClipEncoder, short_side: int, device: str = 'cpu') -> PatchTeacher:
    return PatchTeacher(ImageGrids(ClipNetwork(encoder, device=device), size=short_side))


def unit_features(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    return F.normalize(maskclip_features(visual, pixels), dim=1)


def noise_image(height: int, width: int) -> CameraImage:
    rng = np.random.default_rng(0)
    return camera_image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def random_pixels(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def alone_mask(length: int) -> torch.Tensor:
    return torch.full((length, length), -torch.inf).fill_diagonal_(0)


@torch.no_grad()
def test_patches_enter_the_first_block_as_in_open_clips_own_forward(visual: Any):
    seen = []
    hook = visual.transformer.resblocks[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    pixels = random_pixels(32, 32)
    visual(pixels)
    hook.remove()
    tokens, grid = embed_patches(visual, pixels)
    assert grid == (4, 4)
    assert torch.equal(tokens, seen[0])


@torch.no_grad()
def test_features_equal_open_clips_own_forward_whose_last_block_attends_to_itself(visual: Any):
    """The whole tower by open_clip; only the last block's mask differs."""

    def attend_alone(block: Any, inputs: Any, keywords: Any) -> Any:
        return inputs, {**keywords, 'attn_mask': alone_mask(17)}

    pixels = random_pixels(32, 32)
    last = visual.transformer.resblocks[-1]
    hook = last.register_forward_pre_hook(attend_alone, with_kwargs=True)
    visual.output_tokens = True
    _, tokens = visual(pixels)
    visual.output_tokens = False
    hook.remove()
    expected = F.normalize(tokens @ visual.proj, dim=-1).transpose(1, 2).reshape(1, 24, 4, 4)
    torch.testing.assert_close(unit_features(visual, pixels), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_last_block_is_the_value_path_of_maskclip(visual: Any):
    """v projection, output projection, residual and MLP, written out from the weights."""
    pixels = random_pixels(32, 32)
    taken = visual.forward_intermediates(pixels, indices=[1], output_fmt='NLC')
    x = taken['image_intermediates'][0]  # (1, 16, width): after the last but one block
    block = visual.transformer.resblocks[-1]
    width = x.shape[-1]
    value_weight = block.attn.in_proj_weight[2 * width :]
    value_bias = block.attn.in_proj_bias[2 * width :]
    x = x + block.attn.out_proj(F.linear(block.ln_1(x), value_weight, value_bias))
    x = x + block.mlp(block.ln_2(x))
    expected = F.normalize(visual.ln_post(x) @ visual.proj, dim=-1)
    features = unit_features(visual, pixels).flatten(2).transpose(1, 2)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_dense_features_are_not_those_of_the_usual_last_block(visual: Any):
    """The value path must matter, or the two tests above would show nothing."""
    pixels = random_pixels(32, 32)
    visual.output_tokens = True
    _, tokens = visual(pixels)
    visual.output_tokens = False
    usual = F.normalize(tokens @ visual.proj, dim=-1).transpose(1, 2).reshape(1, 24, 4, 4)
    assert (usual - unit_features(visual, pixels)).abs().max() > 0.05


def test_positions_at_the_trained_size_are_untouched(visual: Any):
    positions = visual.positional_embedding
    assert positions_for(positions, (4, 4), (4, 4)) is positions


def test_positions_of_another_size_keep_their_directions():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing='ij')
    plane = torch.stack([rows, columns, torch.full((4, 4), 7.0)], dim=-1).reshape(16, 3)
    positions = torch.cat([torch.full((1, 3), -5.0), plane])
    wide = positions_for(positions, (4, 4), (6, 10))
    assert wide.shape == (61, 3)
    torch.testing.assert_close(wide[0], positions[0])
    grid = wide[1:].reshape(6, 10, 3)
    torch.testing.assert_close(grid[..., 2], torch.full((6, 10), 7.0))
    torch.testing.assert_close(grid[..., 0], grid[:, :1, 0].expand(6, 10))
    torch.testing.assert_close(grid[..., 1], grid[:1, :, 1].expand(6, 10))
    assert (grid[0, 1:, 1] > grid[0, :-1, 1]).all()
    assert (grid[1:, 0, 0] > grid[:-1, 0, 0]).all()
    torch.testing.assert_close(grid[3, :, 1].mean(), torch.tensor(1.5))


@pytest.mark.parametrize(
    ('image_size', 'expected'),
    [((375, 1242), (224, 736)), ((1242, 375), (736, 224)), ((1080, 1920), (224, 400))],
)
def test_the_image_keeps_its_aspect_ratio_to_the_nearest_patch(
    image_size: tuple[int, int], expected: tuple[int, int]
):
    assert scaled_size(image_size, 224, 16) == expected


@given(st.integers(16, 3000), st.integers(16, 3000), st.integers(1, 40))
def test_scaled_sizes_are_whole_patches_and_at_most_half_a_patch_off(
    height: int, width: int, short: int
):
    scaled = scaled_size((height, width), short * 14, 14)
    scale = short * 14 / min(height, width)
    assert min(scaled) == short * 14
    assert all(side % 14 == 0 for side in scaled)
    assert abs(scaled[0] - height * scale) <= 7.001
    assert abs(scaled[1] - width * scale) <= 7.001


def test_preprocessing_at_the_trained_size_is_open_clips_own(encoder: OpenClipEncoder):
    """Same image through open_clip's transform (Pillow) and through the teacher (torch)."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((96, 96), Image.Resampling.BILINEAR)
    settings = PreprocessCfg(**open_clip.get_model_preprocess_cfg(encoder.model))
    expected = image_transform_v2(settings, is_train=False)(picture)[None]
    teacher = clip_teacher(encoder, 32)
    seen = []
    hook = encoder.model.visual.conv1.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    teacher(camera_image(np.asarray(picture)))
    hook.remove()
    # Pillow rounds to 8 bits after each of its two passes: 2 grey levels over a deviation of 0.26.
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=2 / 255 / 0.26)


def test_features_at_the_centre_of_a_patch_are_those_of_the_patch(encoder: OpenClipEncoder):
    dense = clip_teacher(encoder, 32)(noise_image(64, 128))
    assert dense.patches.shape == (1, 24, 4, 8)
    columns, rows = np.meshgrid(np.arange(8), np.arange(4))
    centres = np.stack([columns, rows], axis=-1).reshape(-1, 2) * 16.0 + 7.5
    expected = dense.patches[0].flatten(1).T.numpy()  # in half precision
    np.testing.assert_allclose(dense.at(centres), expected, atol=1e-3)


def test_features_between_two_patches_are_their_mean_direction():
    patches = torch.zeros(1, 2, 1, 2)
    patches[0, 0, 0, 0] = patches[0, 1, 0, 1] = 1
    dense = PatchFeatures(patches, (16, 32))
    rows = dense.at(np.array([[7.5, 7.5], [15.5, 7.5], [23.5, 7.5], [0, 0], [31, 15]]))
    np.testing.assert_allclose(
        rows, [[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0, 1], [1, 0], [0, 1]], atol=1e-6
    )


def test_clip_features_are_unit_rows_inside_and_zero_outside(encoder: OpenClipEncoder):
    dense = clip_teacher(encoder, 32)(noise_image(40, 100))
    rng = np.random.default_rng(0)
    pixels = rng.uniform([-20, -20], [120, 60], (200, 2))
    pixels[:2] = [np.nan, np.inf]
    rows = dense.at(pixels.astype(np.float32))
    assert rows.dtype == np.float32
    inside = is_inside(pixels, (40, 100))
    assert 0 < inside.sum() < 198
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), inside, atol=1e-5)
    assert dense.at(np.zeros((0, 2))).shape == (0, 24)


def test_the_clip_teacher_is_frozen_and_repeats_itself(encoder: OpenClipEncoder):
    teacher = clip_teacher(encoder, 32)
    encoder.model.visual.train().requires_grad_(True)
    teacher = clip_teacher(encoder, 32)
    assert not encoder.model.visual.training
    assert not any(weight.requires_grad for weight in encoder.model.visual.parameters())
    image = noise_image(48, 64)
    first, second = teacher(image), teacher(image)
    assert not first.patches.requires_grad
    assert torch.equal(first.patches, second.patches)


def test_a_flipped_array_view_is_an_image_too(encoder: OpenClipEncoder):
    flipped = camera_image(noise_image(32, 32).image[:, ::-1])
    patches = clip_teacher(encoder, 32)(flipped).patches
    copied = camera_image(flipped.image.copy())
    assert torch.equal(patches, clip_teacher(encoder, 32)(copied).patches)


def test_teacher_and_words_share_one_space_through_build(encoder: OpenClipEncoder, tmp_path: Path):
    settings = ClipTeacherSettings(kind='clip', short_side=64)
    teacher = build_teacher(settings, encoder, tmp_path)
    assert teacher.embedding_size == encoder.embedding_size == 24
    assert re.fullmatch(f'clip/{encoder.name}@[0-9a-f]{{12}}/64', teacher.name)


def test_a_short_side_that_cuts_a_patch_is_refused(encoder: OpenClipEncoder):
    with pytest.raises(InputError, match=r'(?s)multiple of 8.*got: 225.*set 224'):
        clip_teacher(encoder, 225)


def test_a_gpu_that_is_not_there_is_refused(encoder: OpenClipEncoder):
    with pytest.raises(InputError, match=r'(?s)device is not there.*got: cuda:99'):
        clip_teacher(encoder, 32, 'cuda:99')


def test_an_image_tower_that_is_no_vit_is_refused():
    make_torchvision_importable()
    pytest.importorskip('open_clip', reason='the clip extra is not installed')
    model = torch.nn.Module()
    model.visual = torch.nn.Conv2d(3, 8, 3)
    resnet = OpenClipEncoder(name='RN', embedding_size=8, model=model, tokenizer=None)
    with pytest.raises(
        InputError, match=r'(?s)no read-out.*RN.*plain vision transformer.*got: Conv2d'
    ):
        ClipNetwork(resnet)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_the_image_tower_on_a_gpu_agrees_with_the_cpu(encoder: OpenClipEncoder):
    image = noise_image(48, 64)
    pixels = np.random.default_rng(1).uniform(0, 47, (50, 2))
    on_gpu = clip_teacher(encoder, 32, 'cuda')(image).at(pixels)
    on_cpu = clip_teacher(encoder, 32)(image).at(pixels)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3)
