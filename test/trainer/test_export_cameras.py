# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A bundle carries the run's 2D network and the fitted weights, and the robot finds them there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml
from onnx import version_converter
from open_folder import Folder
from test_teacher_segmentation import write_graph, write_vocabulary
from tiny_clip import TINY_TEXT, tiny_clip
from tiny_drive import WORDS, LabelledDrive

from reldistill_ros.cameras.ensemble import EnsembleSettings, StudentHabits, open_ensemble
from reldistill_ros.cameras.image_encoder import load_image_encoder
from reldistill_ros.core.bundle import load_bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from reldistill_ros.core.prompts import center, prompt_embeddings
from trainer import export as export_module
from trainer.datasets.kitti_raw import KittiRaw
from trainer.ensemble_fit import fit_ensemble
from trainer.export import export
from trainer.export_parts import Parts, choose_image_network, export_parts, load_ensemble
from trainer.export_table import export_table
from trainer.image_networks import usual_size
from trainer.teachers.build import build_teacher
from trainer.teachers.settings import ClipTeacherSettings, OnnxSegmentationSettings

pytest.importorskip('onnxscript', reason='the train extra is not installed')
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')

COLOURS = {
    'kind': 'onnx_segmentation',
    'path': 'graph.onnx',
    'vocabulary': 'colours.yaml',
    'input_size': 24,
    'multiple': 4,
    'cell': 2,
    'mean': (0.45, 0.3, 0.6),  # grey levels 80 and 160 then are of different classes
    'std': (0.1, 0.3, 0.5),
}


@pytest.fixture
def spoken(trained, tmp_path):
    """The run, with its own folder for what is named relative to the data."""
    write_graph(tmp_path / 'graph.onnx')
    write_vocabulary(tmp_path / 'colours.yaml', WORDS)
    run = replace(trained.run, data_root=tmp_path)
    settings = run.settings
    drive = settings.train[0].model_copy(
        update={
            name: trained.run.data_root / getattr(settings.train[0], name)
            for name in ('path', 'label_maps')
        }
    )
    return replace(
        trained,
        run=replace(run, settings=settings.model_copy(update={'train': (drive,)})),
    )


def with_clip(trained, folder, **changes):
    """The same run in the text space of a tiny CLIP, whose image tower is the teacher."""
    encoder = tiny_clip(folder, 'tiny-export-clip', TINY_TEXT)
    teacher = ClipTeacherSettings(kind='clip', **{'short_side': 24, **changes})
    run = replace(
        trained.run, settings=trained.run.settings.model_copy(update={'teacher': teacher})
    )
    mean = np.linspace(-0.1, 0.1, encoder.embedding_size).astype(np.float32)
    prompts = center(prompt_embeddings(run.vocabulary, encoder), mean)
    student = run.new_student(encoder.embedding_size).eval()
    return replace(
        trained, run=run, encoder=encoder, student=student, prompts=prompts, embedding_mean=mean
    )


def first_image(trained):
    (drive,) = trained.run.open_training()
    return drive[0].images[0]


def export_network(trained, settings, folder):
    """Write only the image encoder; returns its parity, and the encoder as the robot opens it."""
    (drive,) = trained.run.open_training()
    parts = Parts(text_encoder=False, image_network=settings)
    parity = export_parts(trained, parts, [drive], folder)
    opened = load_image_encoder(Folder(folder, trained.embedding_mean), num_threads=1)
    return parity['image'], opened


@pytest.mark.parametrize(
    'changes',
    [{}, {'windows': {'size': 16, 'stride': 8}, 'key_smoothing': True}],
    ids=['at once', 'in windows'],
)
def test_an_exported_clip_says_what_the_teacher_says(spoken, tmp_path, changes):
    trained = with_clip(spoken, tmp_path, **changes)
    settings = choose_image_network(trained.run, None)
    parity, encoder = export_network(trained, settings, tmp_path)
    assert parity['max_error'] < 1e-5
    assert parity['num_images'] == 1
    image = first_image(trained)
    encoded = encoder.encode(image.image)
    assert encoder.run(image.image).shape == (24, 3, 6)
    # at the centres of cells nothing is interpolated
    centres = (np.mgrid[:3, :6].reshape(2, -1).T[:, ::-1] + 0.5) * 8 - 0.5
    opinions = encoded.opinions(trained.prompts).at(centres.astype(np.float32))
    features = trained.run.build_teacher(trained.encoder)(image).at(centres)
    expected = center(features, trained.embedding_mean) @ trained.prompts.T
    np.testing.assert_allclose(opinions.cosines, expected, atol=3e-3)
    assert np.ptp(expected, axis=0).max() > 0.05


def test_an_exported_segmentation_network_says_what_the_teacher_says(spoken, tmp_path):
    settings = OnnxSegmentationSettings(**COLOURS, ignore_classes=('wall',))
    parity, encoder = export_network(spoken, settings, tmp_path)
    assert parity['max_error'] == 0
    image = first_image(spoken)
    encoded = encoder.encode(image.image)
    output = encoder.run(image.image)
    assert output.shape == (3, 6, 12)  # half the resolution, in cells of two
    probabilities = np.exp(output)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    centres = (np.mgrid[:6, :12].reshape(2, -1).T[:, ::-1] + 0.5) * 4 - 0.5
    opinions = encoded.opinions(spoken.prompts).at(centres.astype(np.float32))
    teacher = build_teacher(settings, spoken.encoder, spoken.run.data_root)
    features = teacher(image).at(centres)
    spoken_of = features.any(axis=1)
    assert 0 < spoken_of.sum() < len(centres)
    np.testing.assert_array_equal(opinions.confidences > 0, spoken_of)
    expected = center(features[spoken_of], spoken.embedding_mean) @ spoken.prompts.T
    np.testing.assert_allclose(opinions.cosines[spoken_of], expected, atol=1e-5)
    likeliest = probabilities.max(axis=0).ravel()[spoken_of]
    np.testing.assert_allclose(opinions.confidences[spoken_of], likeliest, atol=1 / 255)


@pytest.mark.parametrize('opset', [11, 13, 20])
def test_a_network_of_an_older_or_newer_opset_is_exported_too(spoken, tmp_path, opset):
    model = version_converter.convert_version(onnx.load(tmp_path / 'graph.onnx'), opset)
    onnx.save(model, tmp_path / 'graph.onnx')
    settings = OnnxSegmentationSettings(**{**COLOURS, 'input_size': (20, 44), 'cell': 3})
    parity, encoder = export_network(spoken, settings, tmp_path)
    assert parity['max_error'] == 0
    assert encoder.settings.input_size == (20, 44)


def test_the_cameras_of_most_images_decide_the_size(spoken):
    image = first_image(spoken)
    large = replace(image, image=np.zeros((48, 60, 3), np.uint8))
    assert usual_size([large, image, image]) == (24, 48)


def test_class_maps_alone_are_no_network_for_the_robot(spoken, tmp_path):
    assert choose_image_network(spoken.run, None) is None
    table = export_table(tmp_path, {}, Parts())
    assert 'cameras on the robot: not used; name the 2D network' in table


def test_the_robot_finds_network_and_weights_in_the_bundle(
    trained, spoken, tmp_path, monkeypatch, capsys
):
    drive = LabelledDrive(KittiRaw(spoken.run.settings.train[0], spoken.run.data_root))
    fitted = fit_ensemble(spoken, [drive], with_student=True)
    write_json(tmp_path / 'ensemble.json', fitted.model_dump(mode='json'))
    paths = {name: str(tmp_path / COLOURS[name]) for name in ('path', 'vocabulary')}
    values = json.loads(json.dumps({**COLOURS, **paths}))
    (tmp_path / 'network.yaml').write_text(yaml.safe_dump(values))
    words = [trained.run.folder, '--out', tmp_path / 'bundle']
    words += ['--image-network', tmp_path / 'network.yaml']
    words += ['--ensemble', tmp_path / 'ensemble.json', '--without-text-encoder']
    monkeypatch.setattr(sys, 'argv', ['export', *map(str, words)])
    export_module.main()
    bundle = load_bundle(tmp_path / 'bundle')
    assert open_ensemble(bundle, bundle.vocabulary)._settings == fitted
    assert fitted.student is not None
    encoder = load_image_encoder(bundle, num_threads=1)
    image = first_image(trained).image
    _, alone = export_network(spoken, OnnxSegmentationSettings(**COLOURS), tmp_path)
    np.testing.assert_array_equal(encoder.run(image), alone.run(image))
    assert bundle.manifest.parity['image']['max_error'] == 0
    table = capsys.readouterr().out
    for name in (*bundle.manifest.files, 'manifest.json', 'onnx', 'fused'):
        assert f'  {name} ' in table
    assert 'other classes in 0.0e+00 of the cells, images: 1' in table
    assert f'fitted on {fitted.fitted_on}' in table
    assert '{' not in table


def test_weights_of_other_classes_are_refused(spoken, tmp_path):
    habits = StudentHabits(class_names=('sky',), said=((1.0,),), overall=(1.0,))
    values = EnsembleSettings(student=habits).model_dump(mode='json')
    write_json(tmp_path / 'ensemble.json', values)
    with pytest.raises(InputError, match=r'(?s)other classes.*expected: road, wall, car.*sky'):
        load_ensemble(tmp_path / 'ensemble.json', spoken.run)


def test_weights_without_an_image_encoder_are_refused(spoken, tmp_path):
    with pytest.raises(InputError, match=r'(?s)no image encoder.*--image-network'):
        export(spoken, tmp_path / 'bundle', 1, Parts(ensemble=EnsembleSettings()))
    assert not (tmp_path / 'bundle').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'path': 'gone.onnx'}, 'does not exist'),
        ({'vocabulary': 'four.yaml'}, r'(?s)same classes.*got: 4'),
        ({'kind': 'dino'}, 'not valid'),
        ({'thread': 3}, 'thread'),
    ],
)
def test_a_network_that_cannot_be_used_leaves_no_bundle(spoken, tmp_path, changes, message):
    write_vocabulary(tmp_path / 'four.yaml', (*WORDS, 'sky'))
    values = {**COLOURS, 'mean': [0, 0, 0], 'std': [1, 1, 1], **changes}
    (tmp_path / 'network.yaml').write_text(yaml.safe_dump(values))

    def export_it():
        named = choose_image_network(spoken.run, tmp_path / 'network.yaml')
        export(spoken, tmp_path / 'bundle', 1, Parts(image_network=named))

    with pytest.raises(InputError, match=message):
        export_it()
    assert not list(tmp_path.glob('*bundle*'))


def test_an_encoder_that_differs_leaves_no_bundle(spoken, tmp_path, monkeypatch):
    from trainer import export_parts

    real = export_parts.build_image_network

    def build_wrong(*arguments):
        network = real(*arguments)
        return replace(network, original=lambda pixels: network.original(pixels).roll(1, 1))

    monkeypatch.setattr(export_parts, 'build_image_network', build_wrong)
    parts = Parts(image_network=OnnxSegmentationSettings(**COLOURS))
    with pytest.raises(InputError, match=r'(?s)differs.*--without-image-encoder'):
        export(spoken, tmp_path / 'bundle', 1, parts)
    assert not list(tmp_path.glob('*bundle*'))
