# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Weights of others' networks become ours: every one, in the right place and order."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_drive import write_drive, write_settings
from tiny_training import train
from torch import nn

from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import OFFSETS_2, build_kernel_maps
from reldistill_ros.core.network import NETWORKS
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student
from trainer.checkpoint import load_student, read_embedding_size
from trainer.convert import convert, find_weights
from trainer.fingerprint import fingerprint
from trainer.run import create_run, load_distilled, load_trained, start_student

NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
MINKOWSKI_DOWN = ('conv1p1s2', 'conv2p2s2', 'conv3p4s2', 'conv4p8s2')
MINKOWSKI_UP = ('convtr4p16s2', 'convtr5p8s2', 'convtr6p4s2', 'convtr7p2s2')


def random_student(network, num_features=1, size=64):
    torch.manual_seed(0)
    student = Student(StudentSettings(network=network, embedding_size=size), num_features)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return student.eval()


class Renamed:
    """Another project's state dict, written layer by layer from a student of ours."""

    def __init__(self, student):
        self.weights = {}
        self._ours = student.state_dict()

    def kernel(self, theirs, ours, order=None):
        value = self._ours[f'{ours}.kernel']
        self.weights[f'{theirs}.kernel'] = value if order is None else value[order]

    def norm(self, theirs, ours):
        for name in NORM:
            self.weights[f'{theirs}.{name}'] = self._ours[f'{ours}.norm.{name}']

    def tensor(self, theirs, value):
        self.weights[theirs] = value

    def has(self, ours):
        return f'{ours}.kernel' in self._ours


def x_fastest():
    """For each place of a 2x2x2 kernel of MinkowskiEngine, where that offset stands in ours."""
    ours = [tuple(offset) for offset in OFFSETS_2.tolist()]
    return [ours.index((k % 2, k // 2 % 2, k // 4)) for k in range(8)]


def as_slidr(student):
    theirs, order = Renamed(student), x_fastest()
    theirs.kernel('conv0p1s1', 'backbone.stem1')
    theirs.norm('bn0.bn', 'backbone.stem1')
    for i in range(4):
        theirs.kernel(MINKOWSKI_DOWN[i], f'backbone.downs.{i}', order)
        theirs.norm(f'bn{i + 1}.bn', f'backbone.downs.{i}')
        theirs.kernel(MINKOWSKI_UP[i], f'backbone.ups.{i}', order)
        theirs.norm(f'bntr{i + 4}.bn', f'backbone.ups.{i}')
    for number in range(8):
        stage = f'backbone.{"encoders" if number < 4 else "decoders"}.{number % 4}'
        for block in range(NETWORKS['minkunet34'][1][number]):
            prefix, ours = f'block{number + 1}.{block}', f'{stage}.blocks.{block}'
            for k in (1, 2):
                theirs.kernel(f'{prefix}.conv{k}', f'{ours}.conv{k}')
                theirs.norm(f'{prefix}.norm{k}.bn', f'{ours}.conv{k}')
            if theirs.has(f'{ours}.shortcut'):
                theirs.kernel(f'{prefix}.downsample.0', f'{ours}.shortcut')
                theirs.norm(f'{prefix}.downsample.1.bn', f'{ours}.shortcut')
    theirs.tensor('final.kernel', student.head.weight.detach().T.contiguous())
    theirs.tensor('final.bias', student.head.bias.detach()[None])
    return theirs.weights


def as_spvnas(student):
    theirs = Renamed(student)
    for k, stem in ((0, 'stem1'), (3, 'stem2')):
        theirs.kernel(f'stem.{k}', f'backbone.{stem}')
        theirs.norm(f'stem.{k + 1}', f'backbone.{stem}')
    for i in range(4):
        for name, ours in ((f'stage{i + 1}', 'downs'), (f'up{i + 1}', 'ups')):
            theirs.kernel(f'{name}.0.net.0', f'backbone.{ours}.{i}')
            theirs.norm(f'{name}.0.net.1', f'backbone.{ours}.{i}')
        for block in range(2):
            for prefix, stage in (
                (f'stage{i + 1}.{block + 1}', 'encoders'),
                (f'up{i + 1}.1.{block}', 'decoders'),
            ):
                spvnas_block(theirs, prefix, f'backbone.{stage}.{i}.blocks.{block}')
    theirs.tensor('classifier.0.weight', student.head.weight.detach())
    theirs.tensor('classifier.0.bias', student.head.bias.detach())
    theirs.tensor('point_transforms.0.0.weight', torch.zeros(256, 32))
    return theirs.weights


def spvnas_block(theirs, prefix, ours, inner='net', around='downsample'):
    for k, conv in ((0, 'conv1'), (3, 'conv2')):
        theirs.kernel(f'{prefix}.{inner}.{k}', f'{ours}.{conv}')
        theirs.norm(f'{prefix}.{inner}.{k + 1}', f'{ours}.{conv}')
    if theirs.has(f'{ours}.shortcut'):
        theirs.kernel(f'{prefix}.{around}.0', f'{ours}.shortcut')
        theirs.norm(f'{prefix}.{around}.1', f'{ours}.shortcut')


def as_torchsparse(student):
    theirs = Renamed(student)
    for k, stem in ((0, 'stem1'), (3, 'stem2')):
        theirs.kernel(f'stem.{k}', f'backbone.{stem}')
        theirs.norm(f'stem.{k + 1}', f'backbone.{stem}')
    for i in range(4):
        for name, ours in ((f'encoders.{i}.0', 'downs'), (f'decoders.{i}.upsample', 'ups')):
            theirs.kernel(f'{name}.0', f'backbone.{ours}.{i}')
            theirs.norm(f'{name}.1', f'backbone.{ours}.{i}')
        for block in range(2):
            for prefix, stage in (
                (f'encoders.{i}.{block + 1}', 'encoders'),
                (f'decoders.{i}.fuse.{block}', 'decoders'),
            ):
                ours = f'backbone.{stage}.{i}.blocks.{block}'
                spvnas_block(theirs, prefix, ours, 'main', 'shortcut')
    return theirs.weights


def run_for(tmp_path, network, name='converted', **changes):
    inputs = {'features': ['intensity']}
    path = write_settings(tmp_path, **{'network': network, 'inputs': inputs} | changes)
    return create_run(path, tmp_path / name, tmp_path)


def saved(tmp_path, content):
    torch.save(content, tmp_path / 'theirs.pt')
    return tmp_path / 'theirs.pt'


NETWORKS_OF = {
    'slidr': ('minkunet34', as_slidr),
    'spvnas': ('minkunet18', as_spvnas),
    'torchsparse': ('minkunet18', as_torchsparse),
}


@pytest.mark.parametrize('project', NETWORKS_OF)
def test_a_network_written_in_anothers_names_and_order_comes_back(tmp_path, project):
    network, as_theirs = NETWORKS_OF[project]
    run = run_for(tmp_path, network)
    original = random_student(network)
    convert(saved(tmp_path, as_theirs(original)), run)
    found, mean = load_distilled(run)
    assert not mean.any()
    expected = original.state_dict()
    for name, value in found.state_dict().items():
        if project == 'slidr' and 'stem2' in name:
            continue  # they have none
        if project == 'torchsparse' and name.startswith('head.'):
            continue  # theirs ends before
        assert value.equal(expected[name]), name


def test_the_stem_that_slidr_lacks_passes_on_what_the_first_gives(tmp_path):
    original = random_student('minkunet34')
    run = run_for(tmp_path, 'minkunet34')
    convert(saved(tmp_path, {'model_points': as_slidr(original)}), run)
    ours = load_distilled(run)[0].backbone
    rng = np.random.default_rng(0)
    coords = np.unique(rng.integers(0, 12, (400, 3)), axis=0).astype(np.int32)
    maps = PairMaps(build_kernel_maps(coords))
    feats = torch.from_numpy(rng.standard_normal((len(coords), 1), np.float32))
    one_stem = original.backbone
    one_stem.stem2 = PassOn()
    expected = one_stem(feats, maps)
    assert (ours(feats, maps) - expected).norm() < 1e-5 * expected.norm()


class PassOn(nn.Module):
    def forward(self, x, maps, level):
        return x


def test_the_added_stem_hardly_changes_what_the_first_gives_in_training(tmp_path):
    run = run_for(tmp_path, 'minkunet34')
    convert(saved(tmp_path, as_slidr(random_student('minkunet34'))), run)
    stem = load_distilled(run)[0].backbone.stem2.norm.train()
    first = load_distilled(run)[0].backbone.stem1.norm
    torch.manual_seed(0)
    x = torch.relu(torch.randn(20000, 32) * first.weight + first.bias)
    assert (stem(x) - x).abs().mean() < 0.02 * x.std()


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: {'state_dict': {f'model.{k}': v for k, v in weights.items()}},
        lambda weights: {'model_points': {f'module.{k}': v for k, v in weights.items()}},
        lambda weights: {
            'state_dict': {
                **{f'model_points.{k}': v for k, v in weights.items()},
                'model_images.encoder.weight': torch.zeros(2),
            },
            'epoch': 3,
        },
    ],
)
def test_weights_are_found_in_the_wrappers_of_training_frameworks(wrap):
    weights = {'conv0p1s1.kernel': torch.ones(27, 1, 32), 'bn0.bn.weight': torch.ones(32)}
    assert find_weights(wrap(weights)) == weights


def test_what_does_not_fit_is_listed(tmp_path):
    theirs = as_slidr(random_student('minkunet34'))
    theirs['block9.0.conv1.kernel'] = torch.zeros(27, 8, 8)
    del theirs['bn1.bn.weight']
    with pytest.raises(InputError) as caught:
        convert(saved(tmp_path, theirs), run_for(tmp_path, 'minkunet34'))
    message = str(caught.value)
    assert 'missing: backbone.downs.0.norm.weight' in message
    assert 'left over: ' in message
    assert not (tmp_path / 'converted' / 'checkpoint.safetensors').exists()


@pytest.mark.parametrize(
    ('network', 'changes', 'advice'),
    [
        ('minkunet18', {}, 'set network: minkunet34 for SLidR'),
        ('minkunet34', {'inputs': {}}, 'set inputs.features so that they have 1 columns'),
    ],
)
def test_settings_that_do_not_fit_are_told_how_to(tmp_path, network, changes, advice):
    path = saved(tmp_path, as_slidr(random_student('minkunet34')))
    with pytest.raises(InputError, match=advice):
        convert(path, run_for(tmp_path, network, **changes))


def test_a_larger_first_kernel_is_refused_with_its_size(tmp_path):
    theirs = as_slidr(random_student('minkunet34'))
    theirs['conv0p1s1.kernel'] = torch.zeros(125, 1, 32)
    with pytest.raises(InputError, match='its first kernel is 5x5x5'):
        convert(saved(tmp_path, theirs), run_for(tmp_path, 'minkunet34'))


def test_unknown_networks_are_refused_with_those_that_are_known(tmp_path):
    path = saved(tmp_path, {'layer1.weight': torch.zeros(1)})
    with pytest.raises(InputError, match='Res16UNet34C'):
        convert(path, run_for(tmp_path, 'minkunet34'))


class Code:
    def __reduce__(self):
        return print, ('a checkpoint ran code',)


@pytest.mark.parametrize('content', [{'model': Code()}, [torch.zeros(1)]])
def test_checkpoints_that_hold_anything_but_tensors_are_refused(tmp_path, content, capsys):
    with pytest.raises(InputError, match='checkpoint'):
        convert(saved(tmp_path, content), run_for(tmp_path, 'minkunet34'))
    assert 'ran code' not in capsys.readouterr().out


def test_other_voxels_are_told(tmp_path, capsys):
    config = {'cylindrical_coordinates': True, 'voxel_size': 0.1}
    content = {'model_points': as_slidr(random_student('minkunet34')), 'config': config}
    convert(saved(tmp_path, content), run_for(tmp_path, 'minkunet34'))
    told = capsys.readouterr().out
    assert 'cylindrical voxels' in told
    assert 'voxel_size 0.1, the run has 0.25' in told


def test_a_converted_network_is_not_taken_for_one_that_knows_words(tmp_path):
    run = run_for(tmp_path, 'minkunet18')
    convert(saved(tmp_path, as_spvnas(random_student('minkunet18'))), run)
    with pytest.raises(InputError, match='not in the text space'):
        load_trained(run)


def test_distillation_starts_from_another_runs_backbone(tmp_path):
    write_drive(tmp_path / 'drive')
    write_settings(tmp_path, epochs=1)
    first = train(tmp_path, 'first')
    write_settings(tmp_path, epochs=1, init='first', loss={'kind': 'similarity'})
    run = create_run(tmp_path / 'run.yaml', tmp_path / 'second', tmp_path)
    start = start_student(run, 24)
    trained = first.new_student(read_embedding_size(first.checkpoint))
    load_student(first.checkpoint, trained)
    expected = trained.backbone.state_dict()
    assert all(v.equal(expected[k]) for k, v in start.backbone.state_dict().items())
    assert start.head.out_features == 24
    train(tmp_path, 'third')
    with (tmp_path / 'third' / 'metrics.jsonl').open() as log:
        assert np.isfinite(json.loads(log.readline())['loss'])


def test_another_initial_checkpoint_is_another_run(tmp_path):
    run_folder = tmp_path / 'first'
    run_folder.mkdir(parents=True)
    prints = []
    for content in (b'one', b'two'):
        (run_folder / 'checkpoint.safetensors').write_bytes(content)
        run = run_for(tmp_path, 'small', name=content.decode(), init='first')
        prints.append(fingerprint(run, [], None, type('Teacher', (), {'name': 'any'})))
    assert prints[0]['initial weights'] != prints[1]['initial weights']
