# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Teachers: label maps by hand-computed values and on a real image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary, VocabularyClass
from trainer.datasets.sample import CameraImage
from trainer.teachers.build import build_teacher
from trainer.teachers.label_maps import LabelMapTeacher, class_embeddings
from trainer.teachers.settings import TeacherSettings
from trainer.teachers.teacher import Teacher
from trainer.text import TableEncoder

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', ROOT.parent / 'shared' / 'data'))
KITTI = DATA / 'kitti_2011_09_26'

# --- label maps --------------------------------------------------------------------------------


class AxisEncoder:
    """Each word is an axis."""

    name = 'axes'
    embedding_size = 4
    words = ('road', 'street', 'car', 'sky')

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(4, dtype=np.float32)[[self.words.index(text) for text in texts]]


STREET = Vocabulary(
    version=1,
    name='street',
    classes=(
        VocabularyClass(name='road', prompts=('road', 'street'), color=(0, 0, 0)),
        VocabularyClass(name='car', color=(0, 0, 0)),
        VocabularyClass(name='sky', color=(0, 0, 0)),
    ),
)
R = np.sqrt(0.5)
ROAD, CAR, SKY, NOTHING = [R, R, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]


def camera_image(
    height: int,
    width: int,
    class_map: object = None,
    confidence: object = None,
    image: NDArray[np.uint8] | None = None,
) -> CameraImage:
    return CameraImage(
        camera='front',
        image_id='front/0001',
        image=np.zeros((height, width, 3), np.uint8) if image is None else image,
        intrinsics=np.eye(3),
        camera_from_lidar=np.eye(4),
        class_map=None if class_map is None else np.array(class_map, np.uint8),
        confidence=None if confidence is None else np.array(confidence, np.uint8),
    )


def label_teacher(**changes: Any) -> LabelMapTeacher:
    return LabelMapTeacher(STREET, AxisEncoder(), **changes)


def test_a_class_is_the_renormalised_mean_of_its_prompts():
    np.testing.assert_allclose(
        class_embeddings(STREET, AxisEncoder()), [ROAD, CAR, SKY], atol=1e-7
    )


def test_a_pixel_gets_the_embedding_of_its_class_and_none_where_there_is_no_class():
    image = camera_image(2, 2, [[0, 1], [2, IGNORE_INDEX]])
    features = label_teacher()(image).at(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [ROAD, CAR, SKY, NOTHING], atol=1e-7)


def test_a_smaller_map_covers_the_image_edge_to_edge():
    image = camera_image(4, 8, [[0, 1], [2, 1]])
    pixels = np.array([[-0.5, -0.5], [3.49, 1.49], [3.51, 1.49], [3.49, 1.51], [7.49, 3.49]])
    features = label_teacher()(image).at(pixels)
    np.testing.assert_allclose(features, [ROAD, ROAD, CAR, SKY, CAR], atol=1e-7)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_the_cell_under_a_pixel_is_the_one_that_contains_its_place(
    size: tuple[int, int], map_size: tuple[int, int], right: float, down: float
):
    (height, width), (rows, columns) = size, map_size
    class_map = np.zeros(map_size, np.uint8)
    row, column = int(down * rows), int(right * columns)
    class_map[row, column] = 1
    # The middle of the cell, so that no rounding can put it into the next one.
    u = (column + 0.5) / columns * width - 0.5
    v = (row + 0.5) / rows * height - 0.5
    features = label_teacher()(camera_image(height, width, class_map)).at(np.array([[u, v]]))
    np.testing.assert_array_equal(features, [CAR])


@pytest.mark.parametrize(('width', 'kind'), [(1242, np.float32), (1242, np.float64), (1, float)])
def test_the_largest_float_below_the_far_edge_stays_on_the_map(width: int, kind: type):
    edge = np.nextafter(kind(width - 0.5), kind(0))
    image = camera_image(1, width, np.ones((1, 1216)))
    features = label_teacher()(image).at(np.array([[edge, 0]], kind))
    np.testing.assert_array_equal(features, [CAR])


def test_pixels_outside_the_image_and_nan_carry_no_supervision():
    image = camera_image(2, 2, np.ones((2, 2)))
    pixels = np.array([[-0.51, 0], [1.5, 0], [0, -0.51], [0, 1.5], [np.nan, 0], [0, np.inf]])
    np.testing.assert_array_equal(label_teacher()(image).at(pixels), np.zeros((6, 4)))


def test_no_pixels_give_no_rows():
    features = label_teacher()(camera_image(2, 2, np.ones((2, 2)))).at(np.zeros((0, 2)))
    assert features.shape == (0, 4)


def test_ignored_classes_carry_no_supervision():
    image = camera_image(1, 3, [[0, 1, 2]])
    features = label_teacher(ignore_classes=['sky'])(image).at(np.array([[0, 0], [1, 0], [2, 0]]))
    np.testing.assert_allclose(features, [ROAD, CAR, NOTHING], atol=1e-7)


def test_pixels_below_the_least_confidence_carry_no_supervision():
    image = camera_image(1, 3, [[1, 1, 1]], [[127, 128, 255]])
    teacher = label_teacher(min_confidence=128 / 255)
    features = teacher(image).at(np.array([[0, 0], [1, 0], [2, 0]]))
    np.testing.assert_array_equal(features, [NOTHING, CAR, CAR])


def test_the_confidence_map_may_have_its_own_size():
    image = camera_image(1, 4, [[1, 1, 1, 1]], [[0, 255]])
    features = label_teacher(min_confidence=0.5)(image).at(np.array([[1, 0], [2, 0]]))
    np.testing.assert_array_equal(features, [NOTHING, CAR])


def test_mixing_spreads_the_rest_of_the_probability_over_the_other_classes():
    image = camera_image(1, 2, [[1, 1]], [[255, 153]])
    features = label_teacher(mix_confidence=True)(image).at(np.array([[0, 0], [1, 0]]))
    mixed = 0.6 * np.array(CAR) + 0.2 * np.array(ROAD) + 0.2 * np.array(SKY)
    np.testing.assert_allclose(features, [CAR, mixed / np.linalg.norm(mixed)], atol=1e-6)


def test_mixing_at_chance_level_tells_nothing_about_the_class():
    image = camera_image(1, 3, [[0, 1, 2]], [[85, 85, 85]])
    features = label_teacher(mix_confidence=True)(image).at(np.array([[0, 0], [1, 0], [2, 0]]))
    np.testing.assert_allclose(features[0], features[1], atol=1e-6)
    np.testing.assert_allclose(features[0], features[2], atol=1e-6)


def test_an_ignored_class_keeps_its_share_of_the_mixture():
    image = camera_image(1, 1, [[1]], [[153]])
    settings = {'mix_confidence': True, 'ignore_classes': ['sky']}
    features = label_teacher(**settings)(image).at(np.zeros((1, 2)))
    assert features[0, 3] > 0.2


def test_one_class_alone_mixes_with_nothing():
    alone = Vocabulary(version=1, name='one', classes=STREET.classes[1:2])
    teacher = LabelMapTeacher(alone, AxisEncoder(), mix_confidence=True)
    features = teacher(camera_image(1, 1, [[0]], [[100]])).at(np.zeros((1, 2)))
    np.testing.assert_allclose(features, [CAR], atol=1e-7)


def test_an_image_without_class_map_is_refused():
    with pytest.raises(InputError, match=r'(?s)no class map.*front/0001'):
        label_teacher()(camera_image(2, 2))


def test_a_class_beyond_the_vocabulary_is_refused():
    with pytest.raises(InputError, match=r'(?s)front/0001.*0 to 2, or 255.*\[3, 18\]'):
        label_teacher()(camera_image(1, 4, [[0, 18, 3, 255]]))


@pytest.mark.parametrize('settings', [{'mix_confidence': True}, {'min_confidence': 0.5}])
def test_a_missing_confidence_map_is_refused_where_it_is_needed(settings: dict[str, Any]):
    with pytest.raises(InputError, match=r'(?s)no confidence map.*front/0001'):
        label_teacher(**settings)(camera_image(1, 1, [[0]]))


def test_an_ignored_class_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r'(?s)street.*road, car, sky.*got: Sky, ocean'):
        label_teacher(ignore_classes=['ocean', 'Sky', 'car'])


# --- building ----------------------------------------------------------------------------------


class Run(Settings):
    teacher: TeacherSettings


def build(data_root: Path, encoder: Any, **values: object) -> Teacher:
    run = parse_settings({'teacher': values}, Run, 'run.yaml')
    return build_teacher(run.teacher, encoder, data_root)


def write_street(folder: Path) -> None:
    (folder / 'street.yaml').write_text(yaml.safe_dump(STREET.model_dump(mode='json')))


def test_a_vocabulary_beside_the_data_or_in_the_config_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, config = tmp_path / 'data', tmp_path / 'config'
    data.mkdir()
    config.mkdir()
    monkeypatch.setattr('trainer.config_files.CONFIG_FOLDER', config)
    with pytest.raises(InputError, match=r'(?s)does not exist.*data/street.yaml or .*config/'):
        build(data, AxisEncoder(), kind='label_maps', vocabulary='street.yaml')
    for folder in (config, data):
        write_street(folder)
        teacher = build(data, AxisEncoder(), kind='label_maps', vocabulary='street.yaml')
        assert teacher.name == 'label_maps/street/axes'
        assert teacher.embedding_size == 4
    absolute = str(config / 'street.yaml')
    assert build(data, AxisEncoder(), kind='label_maps', vocabulary=absolute).name


def test_settings_reach_the_label_map_teacher(tmp_path: Path):
    write_street(tmp_path)
    settings = {'vocabulary': 'street.yaml', 'ignore_classes': ['sky'], 'min_confidence': 0.5}
    teacher = build(tmp_path, AxisEncoder(), kind='label_maps', **settings, mix_confidence=True)
    image = camera_image(1, 3, [[1, 1, 2]], [[100, 153, 255]])
    features = teacher(image).at(np.array([[0, 0], [1, 0], [2, 0]]))
    np.testing.assert_array_equal(features[[0, 2]], [NOTHING, NOTHING])
    assert 0.5 < features[1, 2] < 1


def test_a_clip_teacher_in_another_text_space_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r'(?s)different spaces.*open_clip.*got: axes'):
        build(tmp_path, AxisEncoder(), kind='clip')


@pytest.mark.parametrize(
    ('values', 'problem'),
    [
        ({'kind': 'sam'}, 'teacher: Input tag .sam.'),
        ({'kind': 'label_maps'}, 'vocabulary: missing'),
        ({'kind': 'label_maps', 'vocabulary': 'a', 'min_confidence': 2}, 'less than or equal'),
        ({'kind': 'clip', 'short_side': 0}, 'short_side: Input should be greater'),
        ({'kind': 'clip', 'device': 'tpu'}, 'device: String should match'),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, values: dict[str, object], problem: str):
    with pytest.raises(InputError, match=problem):
        build(tmp_path, AxisEncoder(), **values)


# --- real label maps in the real CLIP text space -----------------------------------------------

# Cityscapes' classes in order, in words of the table; it has none for pole (5) and rider (12).
CITYSCAPES_AS_COCO = [
    'road',
    'pavement',
    'building-other',
    'wall-concrete',
    'fence',
    'metal',
    'traffic light',
    'stop sign',
    'tree',
    'grass',
    'sky-other',
    'person',
    'clothes',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
]
UNSUPERVISED = ('metal', 'sky-other', 'clothes')


@pytest.mark.skipif(not KITTI.is_dir(), reason=f'real KITTI recording not found: {KITTI}')
def test_real_label_maps_in_the_real_clip_space_name_every_pixel_as_the_network_did():
    table = TableEncoder(
        DATA / 'clip_text' / 'coco_stuff_171_vit_b16.npy',
        DATA / 'clip_text' / 'coco_stuff_171_names.txt',
    )
    classes = tuple(VocabularyClass(name=word, color=(0, 0, 0)) for word in CITYSCAPES_AS_COCO)
    vocabulary = Vocabulary(version=1, name='cityscapes', classes=classes)
    teacher = LabelMapTeacher(vocabulary, table, ignore_classes=UNSUPERVISED)
    class_map = Image.open(KITTI / 'label_maps_02' / '0000000000_class.png')
    columns, rows = np.meshgrid(np.arange(0, 1242, 5), np.arange(0, 375, 5))
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    features = teacher(camera_image(375, 1242, np.asarray(class_map))).at(pixels)

    resized = np.asarray(class_map.resize((1242, 375), Image.Resampling.NEAREST))
    expected = resized[rows.ravel(), columns.ravel()]
    unsupervised = np.isin(expected, [CITYSCAPES_AS_COCO.index(word) for word in UNSUPERVISED])
    named = (features @ table(CITYSCAPES_AS_COCO).T).argmax(axis=1)
    np.testing.assert_array_equal(features.any(axis=1), ~unsupervised)
    np.testing.assert_array_equal(named[~unsupervised], expected[~unsupervised])
    assert len(np.unique(expected)) > 8
