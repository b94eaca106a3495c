# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI in its own format, on a tiny one that these tests write."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny_semantic_kitti import PROJECTIONS, TR, write_sequence

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings, read_camera
from trainer.datasets.semantic_kitti import SPLITS, SemanticKitti, SemanticKittiSettings
from trainer.datasets.semantic_kitti_labels import LABEL_NAMES
from trainer.pairing import PairingSettings, project

REPOSITORY = Path(__file__).resolve().parents[2]
VOCABULARY = REPOSITORY / 'config' / 'vocabularies' / 'semantic_kitti.yaml'
REAL = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
DRIVE = 'kitti_2011_09_26'
BENCHMARK = (
    (10, 252),
    (11,),
    (15,),
    (18, 258),
    (13, 16, 20, 256, 257, 259),
    (30, 254),
    (31, 253),
    (32, 255),
    (40, 60),
    (44,),
    (48,),
    (49,),
    (50,),
    (51,),
    (70,),
    (71,),
    (72,),
    (80,),
    (81,),
)


def settings(**changes):
    if 'split' not in changes:
        changes = {'sequences': [8], **changes}
    return SemanticKittiSettings(**{'format': 'semantic_kitti', 'path': 'dataset', **changes})


@pytest.fixture
def sequence(tmp_path):
    return write_sequence(tmp_path / 'dataset', 8)


def open_beside(sequence, **changes):
    return SemanticKitti(settings(**changes), sequence.parents[2])


def test_a_sweep_holds_points_labels_image_and_time(sequence):
    dataset = open_beside(sequence)
    sample = dataset[2]
    assert dataset.sample_ids == tuple(f'dataset/08/{k:06}' for k in range(3))
    assert (sample.sample_id, sample.stamp_ns) == ('dataset/08/000002', 207_400_000)
    raw = np.fromfile(sequence / 'velodyne' / '000002.bin', '<f4').reshape(-1, 4)
    np.testing.assert_array_equal(sample.points, raw)
    assert [image.camera for image in sample.images] == ['image_2']
    assert (sample.images[0].image == 22).all()


def test_labels_are_the_lower_16_bits(sequence):
    dataset = open_beside(sequence)
    raw = np.fromfile(sequence / 'labels' / '000000.label', '<u4')
    assert (raw > 0xFFFF).any()
    numbers = np.array(list(LABEL_NAMES))[dataset[0].labels]
    np.testing.assert_array_equal(numbers, raw % 65536)
    names = {dataset.label_names[label] for label in dataset[0].labels}
    assert names == {
        'unlabeled',
        'car',
        'road',
        'vegetation',
        'moving-car',
        'moving-other-vehicle',
    }


def test_the_vocabulary_maps_the_raw_labels_to_the_19_classes_of_the_benchmark():
    vocabulary = load_settings(VOCABULARY, Vocabulary)
    table = vocabulary.label_table('semantic_kitti', tuple(LABEL_NAMES.values()))
    expected = {raw: position for position, raws in enumerate(BENCHMARK) for raw in raws}
    found = {raw: table[label] for label, raw in enumerate(LABEL_NAMES)}
    assert found == {raw: expected.get(raw, IGNORE_INDEX) for raw in LABEL_NAMES}
    assert len(vocabulary.classes) == 19


@pytest.mark.parametrize('camera', [2, 3])
def test_pixels_are_those_of_the_projection_times_tr(sequence, camera):
    sample = open_beside(sequence, cameras=[f'image_{camera}'])[0]
    pairs = project(sample.points, sample.images[0], PairingSettings())
    assert len(pairs) > 20
    homogeneous = np.column_stack([sample.points[:, :3], np.ones(50)])[pairs.point_indices]
    pixels = homogeneous @ np.vstack([TR, [0, 0, 0, 1]]).T @ PROJECTIONS[camera].T
    np.testing.assert_allclose(pairs.pixels, pixels[:, :2] / pixels[:, 2:], atol=1e-3)
    assert (sample.images[0].image == 10 * camera).all()


def test_the_standard_splits_share_no_sequence_and_hold_all(tmp_path):
    assert sorted(n for split in SPLITS.values() for n in split) == list(range(22))
    assert SPLITS['val'] == (8,)
    for number in SPLITS['train']:
        write_sequence(tmp_path / 'dataset', number, num_sweeps=2)
    dataset = SemanticKitti(settings(split='train'), tmp_path)
    assert len(dataset) == 20
    assert [name.split('/')[1] for name in dataset.sample_ids[::2]] == [
        '00', '01', '02', '03', '04', '05', '06', '07', '09', '10',
    ]  # fmt: skip


def test_sequences_without_labels_have_none(tmp_path):
    folder = write_sequence(tmp_path / 'dataset', 11, labelled=False)
    dataset = open_beside(folder, sequences=[11])
    assert dataset.label_names == ()
    assert dataset[0].labels is None
    write_sequence(tmp_path / 'dataset', 8)
    both = open_beside(folder, sequences=[11, 8])
    assert [sample.labels is None for sample in both] == [True] * 3 + [False] * 3


def test_sweeps_are_chosen_in_every_sequence(sequence):
    write_sequence(sequence.parents[1], 2)
    dataset = open_beside(sequence, sequences=[8, 2], sweeps={'step': 2})
    assert [name[-9:] for name in dataset.sample_ids] == [
        '08/000000', '08/000002', '02/000000', '02/000002',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('file', 'kind'),
    [('labels/000001.label', 'labels'), ('image_2/000001.png', 'image_2'),
     ('velodyne/000001.bin', 'velodyne')],
)  # fmt: skip
def test_a_missing_file_is_named_unless_its_sweep_is_left_out(sequence, file, kind):
    (sequence / file).unlink()
    with pytest.raises(InputError, match=rf'(?s)08: {kind}.*nothing for 1\n.*without: \[1\]'):
        open_beside(sequence)
    assert len(open_beside(sequence, sweeps={'without': [1]})) == 2


def test_without_cameras_neither_images_nor_calibration_are_needed(sequence):
    (sequence / 'image_2').rename(sequence / 'elsewhere')
    with pytest.raises(InputError, match=r"(?s)images of a camera.*\['image_2'\].*cameras: \[\]"):
        open_beside(sequence)
    (sequence / 'calib.txt').unlink()
    assert open_beside(sequence, cameras=[])[0].images == ()


def test_without_times_the_sweeps_are_a_tenth_of_a_second_apart(sequence):
    (sequence / 'times.txt').unlink()
    assert [sample.stamp_ns for sample in open_beside(sequence)] == [0, 100_000_000, 200_000_000]


@pytest.mark.parametrize('text', ['0.0\n0.1\n', '0.0\n0.1\nnoon\n', '0\n0\ninf\n', '0\n0\nnan\n'])
def test_malformed_times_are_refused(sequence, text):
    (sequence / 'times.txt').write_text(text)
    with pytest.raises(InputError, match=r'(?s)no time.*times\.txt'):
        open_beside(sequence)
    assert len(open_beside(sequence, sweeps=[0, 1])) == 2


@pytest.mark.parametrize(('old', 'new'), [('Tr:', 'T:'), ('P2: 7', 'P2: x'), ('P2', 'P9')])
def test_an_incomplete_calibration_is_refused(sequence, old, new):
    path = sequence / 'calib.txt'
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=r'(?s)incomplete.*calib\.txt'):
        open_beside(sequence)


def test_a_missing_calibration_or_sequence_is_named(sequence):
    with pytest.raises(InputError, match=r"(?s)sequence does not exist.*sequences/00.*\['08'\]"):
        open_beside(sequence, split='train')
    (sequence / 'calib.txt').unlink()
    with pytest.raises(InputError, match=r'(?s)does not exist.*08/calib\.txt'):
        open_beside(sequence)


def test_labels_that_do_not_fit_are_refused(sequence):
    path = sequence / 'labels' / '000000.label'
    content = path.read_bytes()
    dataset = open_beside(sequence)
    path.write_bytes(content[:-4])
    with pytest.raises(InputError, match=r'(?s)do not belong together.*000000\.label'):
        dataset[0]
    path.write_bytes(content + b'\0')
    with pytest.raises(InputError, match=r'(?s)cut off.*000000\.label'):
        dataset[0]
    path.write_bytes(np.full(50, 12, '<u4').tobytes())
    with pytest.raises(InputError, match=r'(?s)numbers without a name.*000000\.label.*\[12\]'):
        dataset[0]


def test_an_image_that_was_resized_is_refused(sequence):
    path = sequence / 'image_2' / '000001.png'
    Image.open(path).resize((62, 18)).save(path)
    with pytest.raises(InputError, match=r'(?s)do not belong together.*000001\.png'):
        open_beside(sequence)[1]


def test_label_maps_lie_in_a_folder_of_their_sequence_and_camera(sequence):
    folder = sequence.parents[2] / 'maps' / '08' / 'image_2'
    folder.mkdir(parents=True)
    for ending in ('class', 'confidence'):
        Image.fromarray(np.full((4, 6), 7, np.uint8)).save(folder / f'000000_{ending}.png')
    image = open_beside(sequence, label_maps='maps', sweeps=[0])[0].images[0]
    assert image.class_map.max() == image.confidence.max() == 7


def test_either_a_split_or_sequences_must_be_named():
    for changes in ({'split': 'val', 'sequences': [8]}, {'split': None}):
        with pytest.raises(ValidationError, match='either'):
            settings(**changes)
    with pytest.raises(ValidationError):
        settings(sequences=[-1])


def test_it_can_be_sent_to_another_process(sequence):
    dataset = open_beside(sequence)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[1].labels, dataset[1].labels)


@pytest.mark.skipif(
    not (REAL / DRIVE).is_dir(), reason=f'no real KITTI drive: {REAL / DRIVE} is absent'
)
def test_a_real_drive_laid_out_as_a_sequence_gives_the_same_points_and_pixels(tmp_path):
    folder = tmp_path / 'dataset' / 'sequences' / '08'
    for name, source in (('velodyne', 'velodyne_points'), ('image_2', 'image_02')):
        (folder / name).mkdir(parents=True)
        for number in (0, 9):
            path = next((REAL / DRIVE / source / 'data').glob(f'{number:010}.*'))
            (folder / name / f'{number:06}{path.suffix}').symlink_to(path)
    camera = read_camera(REAL / DRIVE, 'image_02')
    projection = np.column_stack([camera.intrinsics, np.zeros(3)])
    (folder / 'calib.txt').write_text(
        f'P2: {" ".join(map(repr, projection.ravel().tolist()))}\n'
        f'Tr: {" ".join(map(repr, camera.camera_from_lidar[:3].ravel().tolist()))}\n'
    )
    raw = KittiRaw(KittiRawSettings(format='kitti_raw', path=DRIVE, sweeps=(0, 9)), REAL)
    for ours, theirs in zip(SemanticKitti(settings(sweeps=[0, 9]), tmp_path), raw):
        np.testing.assert_array_equal(ours.points, theirs.points)
        np.testing.assert_array_equal(ours.images[0].image, theirs.images[0].image)
        pixels = [project(s.points, s.images[0], PairingSettings()).pixels for s in (ours, theirs)]
        assert len(pixels[0]) > 10_000
        np.testing.assert_allclose(pixels[0], pixels[1], atol=1e-3)
