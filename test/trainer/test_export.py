# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bundle: equal to the trained student in every engine, and refused when it is not whole."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from tiny_drive import scene

from reldistill_ros.backends.backend import open_backend
from reldistill_ros.backends.engine_sizes import SWEEP_SIZES, SweepSizes, bundle_sizes
from reldistill_ros.core.bundle import STUDENT_HALF_ONNX, load_bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.labeller import Labeller
from trainer import export as export_module
from trainer import export_parity
from trainer.evaluate import make_labeller
from trainer.export import export
from trainer.fingerprint import data_hash
from trainer.half_graph import halve_graph
from trainer.onnx_graph import IR_VERSION, OPSET


@pytest.fixture(scope='module')
def bundle_path(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp('bundle') / 'tiny'
    export(trained, path, num_threads=1)
    return path


@pytest.fixture
def copy(bundle_path, tmp_path):
    return shutil.copytree(bundle_path, tmp_path / 'copy')


def test_the_bundle_records_its_parity_and_its_origin(bundle_path, trained):
    manifest = load_bundle(bundle_path).manifest
    assert {'onnx', 'fused', 'onnx float16'} <= manifest.parity.keys()
    assert manifest.parity['text']['num_texts'] == 3
    for engine in manifest.parity.keys() - {'text'}:
        parity = manifest.parity[engine]
        assert parity['max_diff'] < (0.1 if 'float16' in engine else 1e-4)
        assert parity['label_agreement'] > (0.97 if 'float16' in engine else 0.999)
    assert manifest.intensity_max == 1.0
    assert manifest.text_encoder == trained.encoder.name
    assert manifest.run['loss']['kind'] == 'relational'
    assert manifest.data_hash == data_hash(trained.run.open_training())


def test_the_bundle_says_how_many_voxels_the_training_sweeps_have(bundle_path, trained):
    bundle = load_bundle(bundle_path)
    seen = SweepSizes.model_validate_json(bundle.read(SWEEP_SIZES))
    (drive,) = trained.run.open_training()
    settings = trained.run.settings
    counts = [
        [len(level.coords) for level in build_kernel_maps(voxels.coords)]
        for voxels in (
            voxelise(drive[i].points, settings.voxel, settings.inputs) for i in range(len(drive))
        )
    ]
    assert seen.num_sweeps == len(drive)
    assert list(seen.largest) == np.max(counts, axis=0).tolist()
    assert bundle_sizes(bundle).fit(seen.largest) >= bundle_sizes(bundle).typical


def test_features_that_overflow_in_float16_leave_that_graph_out(
    trained, tmp_path, monkeypatch, capsys
):
    def write_overflowing(graph, out):
        model = halve_graph(onnx.load(graph))
        kernel = max(model.graph.initializer, key=lambda weight: len(weight.raw_data))
        kernel.raw_data = np.full(len(kernel.raw_data) // 2, 6e4, np.float16).tobytes()
        onnx.save(model, out)

    monkeypatch.setattr(export_module, 'write_half_graph', write_overflowing)
    parity = export(trained, tmp_path / 'bundle', num_threads=1)
    assert 'onnx float16' not in parity
    assert not load_bundle(tmp_path / 'bundle').holds(STUDENT_HALF_ONNX)
    assert 'overflow in float16' in capsys.readouterr().err


def test_the_data_hash_sees_a_sweep_in_the_middle(trained):
    (drive,) = trained.run.open_training()
    before = data_hash([drive])
    assert drive.sample_ids == tuple(drive[i].sample_id for i in range(len(drive)))
    drive.sample_ids = (*drive.sample_ids[:2], 'another', *drive.sample_ids[3:])
    assert data_hash([drive]) != before


@pytest.mark.parametrize('num_voxels', [1, 2, 300])
def test_every_engine_equals_torch_for_any_number_of_voxels(bundle_path, num_voxels):
    bundle = load_bundle(bundle_path)
    rng = np.random.default_rng(num_voxels)
    coords = np.unique(rng.integers(0, 30, (num_voxels, 3)), axis=0).astype(np.int32)
    feats = rng.normal(size=(len(coords), 6)).astype(np.float32)
    maps = build_kernel_maps(coords)
    expected = open_backend(bundle, 'torch', 1)(feats, maps)
    for name in ('onnx', 'fused'):
        got = open_backend(bundle, name, 1)(feats, maps)
        np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=name)


def test_a_precision_that_an_engine_lacks_names_the_one_that_has_it(bundle_path):
    with pytest.raises(InputError, match=r'(?s)onnx does not compute in bfloat16.*backend fused'):
        open_backend(load_bundle(bundle_path), 'onnx', 1, 'bfloat16')


def test_the_labeller_of_the_bundle_labels_as_the_trained_student_does(bundle_path, trained):
    points, classes = scene(np.random.default_rng(99))
    expected = make_labeller(trained)(points).class_ids
    got = Labeller.from_bundle(bundle_path, num_threads=1)(points)
    assert (got.class_ids == expected).mean() > 0.999
    assert (got.class_ids == classes).mean() > 0.8  # it has learnt its scene
    assert np.isfinite(got.probabilities).all()
    assert (got.entropies >= 0).all()


def test_points_outside_or_not_finite_are_unlabelled_and_in_order(bundle_path):
    labeller = Labeller.from_bundle(bundle_path, num_threads=1)
    points = np.array([[5, 0, -1, 0.5], [500, 0, 0, 0.5], [np.nan, 0, 0, 0]], np.float32)
    labels = labeller(points)
    assert labels.class_ids[0] < 3
    assert labels.class_ids[1:].tolist() == [255, 255]
    assert labels.probabilities[1:].tolist() == [0, 0]
    assert np.isnan(labels.entropies[1:]).all()
    assert len(labeller(points[:0]).class_ids) == 0
    assert labeller(points[1:]).class_ids.tolist() == [255, 255]


def test_opset_and_ir_version_are_pinned_and_sizes_dynamic(bundle_path):
    model = onnx.load(bundle_path / 'student.onnx')
    assert model.ir_version == IR_VERSION
    assert [entry.version for entry in model.opset_import if entry.domain == ''] == [OPSET]
    sizes = {
        i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
        for i in model.graph.input
    }
    assert sizes['submanifold0'] == [27, 'voxels0']
    assert sizes['down0'] == [8, 'voxels1']


def test_a_graph_that_differs_from_torch_leaves_no_bundle(trained, tmp_path, monkeypatch):
    real = export_module.write_onnx

    def write_wrong(backbone, num_features, path):
        with torch.no_grad():
            backbone.stem1.kernel.mul_(1.01)
        real(backbone, num_features, path)

    monkeypatch.setattr(export_module, 'write_onnx', write_wrong)
    with pytest.raises(InputError, match='differs from the torch student'):
        export(trained, tmp_path / 'wrong', num_threads=1)
    assert list(tmp_path.iterdir()) == []


def test_another_format_version_is_refused_before_anything_else(copy):
    manifest = json.loads((copy / 'manifest.json').read_text())
    (copy / 'student.onnx').write_bytes(b'changed too')
    (copy / 'manifest.json').write_text(json.dumps({**manifest, 'format_version': 99}))
    with pytest.raises(InputError, match=r'(?s)another format version.*expected: 3.*got: 99'):
        load_bundle(copy)


def test_a_changed_file_is_refused(copy):
    data = bytearray((copy / 'student.onnx').read_bytes())
    data[len(data) // 2] ^= 1
    (copy / 'student.onnx').write_bytes(data)
    with pytest.raises(InputError, match=r'(?s)not the one that was exported.*student\.onnx'):
        load_bundle(copy)


def test_a_missing_file_is_refused(copy):
    (copy / 'text_features.npz').unlink()
    with pytest.raises(InputError, match=r'(?s)missing.*text_features'):
        load_bundle(copy)


def test_prompts_that_do_not_fit_the_vocabulary_are_refused(copy):
    from reldistill_ros.core.bundle import sha256_of

    np.savez(
        copy / 'text_features.npz',
        prompt_embeddings=np.zeros((2, 16), np.float32),
        embedding_mean=np.zeros(16, np.float32),
    )
    manifest = json.loads((copy / 'manifest.json').read_text())
    manifest['files']['text_features.npz'] = sha256_of(copy / 'text_features.npz')
    (copy / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r'(?s)wrong shape.*\(3, 16\).*\(2, 16\)'):
        load_bundle(copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(InputError, match='not a model bundle'):
        load_bundle(tmp_path)


def test_an_existing_bundle_is_not_overwritten(trained, bundle_path):
    with pytest.raises(InputError, match='already exists'):
        export(trained, bundle_path, num_threads=1)


def test_an_engine_that_gives_no_numbers_on_a_later_sweep_leaves_no_bundle(
    trained, tmp_path, monkeypatch
):
    class Broken(export_parity.FusedBackend):
        calls = 0

        def __call__(self, feats, maps):
            features = super().__call__(feats, maps)
            Broken.calls += 1
            return features * np.nan if Broken.calls == 2 else features

    monkeypatch.setattr(export_parity, 'FusedBackend', Broken)
    with pytest.raises(InputError, match='differs from the torch student'):
        export(trained, tmp_path / 'wrong', num_threads=1)
    assert list(tmp_path.iterdir()) == []
