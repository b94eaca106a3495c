# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""nuScenes in its own format, on a tiny one that these tests write."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy.spatial.transform import Rotation
from tiny_nuscenes import CAMERAS, CATEGORIES, NUM_POINTS, TinyNuScenes, token

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets import nuscenes_tables
from trainer.datasets.nuscenes import NuScenes, NuScenesSettings
from trainer.datasets.nuscenes_splits import MINI_TRAIN, MINI_VAL, VAL, choose_scenes, name_of
from trainer.datasets.nuscenes_tables import scan_table
from trainer.pairing import PairingSettings, project

VOCABULARY = Path(__file__).resolve().parents[2] / 'config' / 'vocabularies' / 'nuscenes.yaml'
# raw label -> class of the 16-class benchmark, numbered from 1; the rest is ignored
BENCHMARK = {
    9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10,
    24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 30: 16,
}  # fmt: skip


def settings(**changes):
    return NuScenesSettings(
        **{'format': 'nuscenes', 'path': 'nu', 'version': 'v1.0-mini', **changes}
    )


@pytest.fixture
def tiny(tmp_path):
    return TinyNuScenes(tmp_path / 'nu')


def open_tiny(tiny, **changes):
    return NuScenes(settings(**changes), tiny.root.parent)


def raw_points(tiny, index):
    path = tiny.root / tiny.keyframes('LIDAR_TOP')[index]['filename']
    return np.fromfile(path, '<f4').reshape(-1, 5)


def test_keyframes_are_read_scene_by_scene_with_six_images(tiny):
    dataset = open_tiny(tiny)
    sample = dataset[1]
    row = tiny.keyframes('LIDAR_TOP')[1]
    assert len(dataset) == 4
    assert sample.sample_id == dataset.sample_ids[1] == f'nu/scene-0061/{row["timestamp"]}'
    assert sample.stamp_ns == row['timestamp'] * 1000
    assert [image.camera for image in sample.images] == list(CAMERAS)
    assert [int(image.image.mean().round()) for image in sample.images] == [
        0,
        40,
        80,
        120,
        160,
        200,
    ]
    np.testing.assert_array_equal(sample.times, np.zeros(NUM_POINTS))


def test_the_forward_axis_of_the_points_is_the_y_axis_of_the_file(tiny):
    raw, points = raw_points(tiny, 0), open_tiny(tiny)[0].points
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[:, :3], raw[:, [1, 0, 2]] * np.float32([1, -1, 1]))
    np.testing.assert_allclose(points[:, 3], raw[:, 3] / 255, rtol=1e-6)


def matrix(row):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_quat(np.roll(row['rotation'], -1)).as_matrix()
    transform[:3, 3] = row['translation']
    return transform


def global_from(tiny, data):
    ego = matrix(tiny.row('ego_pose', data['ego_pose_token']))
    return ego @ matrix(tiny.row('calibrated_sensor', data['calibrated_sensor_token']))


def test_pixels_are_those_of_the_chain_over_two_ego_poses_in_the_axes_of_the_file(tiny):
    num_pixels = 0
    for index, sample in enumerate(open_tiny(tiny)):
        global_from_lidar = global_from(tiny, tiny.keyframes('LIDAR_TOP')[index])
        homogeneous = np.column_stack([raw_points(tiny, index)[:, :3], np.ones(NUM_POINTS)])
        for image in sample.images:
            pairs = project(sample.points, image, PairingSettings())
            to_camera = np.linalg.inv(global_from(tiny, tiny.keyframes(image.camera)[index]))
            x, y, z, _ = to_camera @ global_from_lidar @ homogeneous[pairs.point_indices].T
            expected = np.stack([20 * x / z + 16, 20 * y / z + 9], axis=1)
            np.testing.assert_allclose(pairs.pixels, expected, atol=1e-3)
            num_pixels += len(pairs)
    assert num_pixels > 200


def test_the_front_camera_looks_along_x(tiny):
    image = open_tiny(tiny)[0].images[0]
    np.testing.assert_allclose(image.camera_from_lidar[2, :3], [1, 0, 0], atol=0.1)


def test_the_motion_of_the_car_between_sweep_and_image_counts(tiny):
    sample = open_tiny(tiny)[0]
    calibrated = [
        matrix(tiny.row('calibrated_sensor', tiny.keyframes(name)[0]['calibrated_sensor_token']))
        for name in ('LIDAR_TOP', 'CAM_FRONT_LEFT')
    ]
    rigid = np.linalg.inv(calibrated[1]) @ calibrated[0]
    moved = np.linalg.norm(sample.images[-1].camera_from_lidar[:3, 3] - rigid[:3, 3])
    assert 0.2 < moved < 1.2  # 49 ms at 8.5 m/s, and 20 degrees/s


def test_the_devkit_sees_the_same_pixels_and_the_same_splits(tiny):
    devkit = pytest.importorskip('nuscenes.nuscenes', reason='nuscenes-devkit is not installed')
    from nuscenes.utils import splits

    nusc = devkit.NuScenes(tiny.version, str(tiny.root), verbose=False)
    dataset = open_tiny(tiny)
    for index, sample in enumerate(dataset):
        lidar = tiny.keyframes('LIDAR_TOP')[index]['token']
        for image in sample.images:
            camera = tiny.keyframes(image.camera)[index]['token']
            pixels, depths, _ = nusc.explorer.map_pointcloud_to_image(lidar, camera)
            pairs = project(sample.points, image, PairingSettings())
            inside = (pixels[:2].T <= [30, 16]).all(axis=1)  # ours keep the last pixels free too
            assert inside.sum() > 0
            np.testing.assert_allclose(pixels[:2].T[inside], pairs.pixels, atol=1e-3)
            np.testing.assert_allclose(depths[inside], pairs.depths, atol=1e-3)
    names = {entry['index']: entry['name'] for entry in nusc.category}
    assert dataset.label_names == tuple(names[number] for number in range(32))
    trainval = sorted({*splits.train, *splits.val})
    for split in ('train', 'val', 'mini_train', 'mini_val'):
        assert choose_scenes(split, trainval) == sorted(getattr(splits, split))


def test_labels_are_positions_in_the_names_of_the_categories(tiny):
    dataset = open_tiny(tiny)
    assert dataset.label_names == CATEGORIES
    raw = np.fromfile(tiny.root / tiny.tables['lidarseg'][2]['filename'], np.uint8)
    np.testing.assert_array_equal(dataset[2].labels, raw)
    assert dataset[2].labels.dtype == np.uint8


def test_the_numbers_of_the_categories_come_from_the_table_and_not_from_its_order(tiny):
    category = tiny.tables['category']
    category.reverse()
    tiny.write()
    assert open_tiny(tiny).label_names == CATEGORIES
    category[:] = [row for row in category if row['index'] != 5]
    tiny.write()
    dataset = open_tiny(tiny)
    path = tiny.root / tiny.tables['lidarseg'][0]['filename']
    np.tile([4, 6], NUM_POINTS // 2).astype(np.uint8).tofile(path)
    assert {dataset.label_names[label] for label in dataset[0].labels} == {
        'human.pedestrian.construction_worker',
        'human.pedestrian.police_officer',
    }
    np.full(NUM_POINTS, 5, np.uint8).tofile(path)
    with pytest.raises(InputError, match=r'(?s)numbers without a name.*_lidarseg\.bin.*\[5\]'):
        dataset[0]


def test_the_vocabulary_maps_the_32_raw_labels_to_the_16_classes_of_the_benchmark():
    table = load_settings(VOCABULARY, Vocabulary).label_table('nuscenes', CATEGORIES)
    expected = [BENCHMARK.get(number, IGNORE_INDEX + 1) - 1 for number in range(32)]
    np.testing.assert_array_equal(table[:32], expected)
    assert len(load_settings(VOCABULARY, Vocabulary).classes) == 16


def test_without_lidarseg_there_are_no_labels(tiny):
    (tiny.root / 'v1.0-mini' / 'lidarseg.json').unlink()
    for row in tiny.tables['category']:
        del row['index']
    tiny.tables.pop('lidarseg')
    tiny.write()
    dataset = open_tiny(tiny)
    assert dataset.label_names == ()
    assert dataset[0].labels is None


def test_categories_without_numbers_are_refused_where_there_are_labels(tiny):
    for row in tiny.tables['category']:
        del row['index']
    tiny.write()
    with pytest.raises(InputError, match=r'(?s)lacks a column.*category\.json.*lidarseg replace'):
        open_tiny(tiny)


def test_labels_of_another_sweep_are_refused(tiny):
    path = tiny.root / tiny.tables['lidarseg'][0]['filename']
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r'(?s)do not belong together.*_lidarseg\.bin'):
        open_tiny(tiny)[0]


def test_the_official_splits_have_their_sizes_and_share_no_scene(tmp_path):
    assert sum(last - first + 1 for first, last in VAL) == 150
    names = [name_of(number) for number in range(1, 1111)]
    val, train = choose_scenes('val', names), choose_scenes('train', names)
    assert not {*val} & {*train}
    assert {name_of(n) for n in MINI_TRAIN} & {*val} == {'scene-0553', 'scene-0796'}
    assert {name_of(n) for n in MINI_VAL} <= {*val}
    tiny = TinyNuScenes(tmp_path / 'nu', scenes=names[-50:] + [name_of(n) for n in (103, 916)])
    found = open_tiny(tiny, version=None, split='mini_val').sample_ids
    assert {name.split('/')[1] for name in found} == {'scene-0103', 'scene-0916'}


def test_scenes_are_read_in_the_order_in_which_they_are_named(tiny):
    dataset = open_tiny(tiny, scenes=['scene-0103', 'scene-0061'])
    assert [name.split('/')[1] for name in dataset.sample_ids] == ['scene-0103'] * 2 + [
        'scene-0061'
    ] * 2
    assert [sample.sample_id for sample in dataset] == list(dataset.sample_ids)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'version': 'v1.0-trainval'},
            r"version.*does not exist.*v1\.0-trainval.*\['v1\.0-mini'\]",
        ),
        ({'split': 'mini_val'}, r'scenes of the split.*scene-0916'),
        ({'scenes': ['scene-9999']}, r'scenes that the settings name.*scene-9999'),
        ({'sweeps': [4]}, r'lacks sweeps.*nothing for 4'),
    ],
)
def test_what_the_data_set_does_not_have_is_named(tiny, changes, message):
    with pytest.raises(InputError, match=f'(?s){message}'):
        open_tiny(tiny, **changes)


def test_contradicting_settings_are_refused():
    with pytest.raises(ValidationError, match='either'):
        settings(split='val', scenes=['scene-0061'])
    with pytest.raises(ValidationError, match='split of its own'):
        settings(version='v1.0-test', split='train')
    with pytest.raises(ValidationError):
        settings(cameras=['CAM_UP'])
    assert settings(version=None, split='mini_train').tables == 'v1.0-mini'
    assert settings(version=None).tables == 'v1.0-trainval'


def test_sweeps_are_counted_over_all_scenes(tiny):
    everything = open_tiny(tiny).sample_ids
    assert open_tiny(tiny, sweeps={'step': 2}).sample_ids == everything[::2]
    assert open_tiny(tiny, sweeps=[3, 0]).sample_ids == (everything[3], everything[0])


def test_sweeps_between_keyframes_get_the_nearest_images_and_no_labels(tiny):
    dataset = open_tiny(tiny, between_keyframes=True)
    samples = list(dataset)
    stamps = [sample.stamp_ns for sample in samples]
    assert len(samples) == 8
    assert stamps == sorted(stamps)
    assert [sample.labels is None for sample in samples] == [False, True] * 4
    for sample in samples:
        assert len(sample.images) == 6
        for image in sample.images:
            stamp_us = int(image.image_id.rsplit('__', 1)[1])
            assert abs(stamp_us * 1000 - sample.stamp_ns) < 60_000_000
    keyframes = open_tiny(tiny)
    np.testing.assert_array_equal(samples[2].points, keyframes[1].points)


def test_an_image_far_from_a_sweep_between_keyframes_is_left_out(tiny):
    data = tiny.tables['sample_data']
    data[:] = [r for r in data if r['is_key_frame'] or '/CAM_BACK/' not in r['filename']]
    tiny.write()
    cameras = [[i.camera for i in s.images] for s in open_tiny(tiny, between_keyframes=True)]
    assert cameras[0] == list(CAMERAS)
    assert cameras[1] == [name for name in CAMERAS if name != 'CAM_BACK']


def test_missing_files_are_counted_and_the_complete_scenes_can_be_used(tiny):
    for channel in ('CAM_BACK', 'LIDAR_TOP'):
        (tiny.root / tiny.keyframes(channel)[2]['filename']).unlink()
    message = (
        r'(?s)in part.*samples/CAM_BACK/n015.*2 files missing in samples/CAM_BACK, '
        r'samples/LIDAR_TOP; 1 of 2 scenes are complete.*`scenes: \[scene-0061\]`'
    )
    with pytest.raises(InputError, match=message):
        open_tiny(tiny)
    assert len(open_tiny(tiny, scenes=['scene-0061'])) == 2
    assert len(open_tiny(tiny, sweeps={'without': [2]})) == 3


def test_missing_labels_and_folders_are_missing_files_too(tiny):
    (tiny.root / 'lidarseg').rename(tiny.root / 'elsewhere')
    with pytest.raises(InputError, match=r'(?s)4 files missing in lidarseg/v1\.0-mini; 0 of 2'):
        open_tiny(tiny)


def test_a_sweep_without_cameras_needs_neither_images_nor_poses(tiny):
    for name in CAMERAS:
        (tiny.root / 'samples' / name).rename(tiny.root / name)
    (tiny.root / 'v1.0-mini' / 'ego_pose.json').unlink()
    sample = open_tiny(tiny, cameras=[])[0]
    assert sample.images == ()
    assert len(sample.labels) == NUM_POINTS


@pytest.mark.parametrize(
    'table',
    ['scene', 'sample', 'sample_data', 'calibrated_sensor', 'sensor', 'ego_pose', 'category'],
)
def test_a_missing_or_cut_off_table_is_named(tiny, table):
    path = tiny.root / 'v1.0-mini' / f'{table}.json'
    text = path.read_text()
    for cut in (text[:-30], text[:-1], ''):
        path.write_text(cut)
        with pytest.raises(InputError, match=rf'(?s)not a complete JSON list.*{table}\.json'):
            open_tiny(tiny)
    path.unlink()
    with pytest.raises(InputError, match=rf'(?s)does not exist.*{table}\.json'):
        open_tiny(tiny)


@pytest.mark.parametrize(
    ('table', 'column', 'value', 'message'),
    [
        ('calibrated_sensor', 'rotation', [1, 0, 0], 'malformed'),
        ('calibrated_sensor', 'camera_intrinsic', [[1, 0]], 'malformed'),
        ('ego_pose', 'translation', [0, float('nan'), 0], 'malformed'),
        ('calibrated_sensor', 'rotation', [0, 0, 0, 0], 'rotation is zero'),
        ('ego_pose', 'rotation', None, 'malformed'),
        ('ego_pose', 'token', 'other', 'lacks rows'),
        ('sample_data', 'sample_token', 'other', 'no sweep of a scene'),
        ('sample_data', 'filename', '../secret.bin', 'outside the data set'),
        ('sample_data', 'filename', '/etc/passwd', 'outside the data set'),
    ],
)
def test_malformed_rows_are_refused(tiny, table, column, value, message):
    for row in tiny.tables[table]:
        row[column] = value
    tiny.write()
    with pytest.raises(InputError, match=message):
        open_tiny(tiny)


def test_a_keyframe_without_an_image_of_a_camera_is_refused(tiny):
    gone = tiny.keyframes('CAM_FRONT_LEFT')[0]
    tiny.tables['sample_data'].remove(gone)
    tiny.write()
    with pytest.raises(InputError, match=r'(?s)no image of a camera.*CAM_FRONT_LEFT'):
        open_tiny(tiny)
    assert len(open_tiny(tiny, cameras=['CAM_FRONT'])) == 4


def test_a_sweep_that_is_cut_off_or_not_finite_is_refused(tiny):
    path = tiny.root / tiny.keyframes('LIDAR_TOP')[0]['filename']
    content = path.read_bytes()
    dataset = open_tiny(tiny)
    path.write_bytes(content[:-4])
    with pytest.raises(InputError, match=r'(?s)wrong byte count.*pcd\.bin'):
        dataset[0]
    path.write_bytes(b'')
    with pytest.raises(InputError, match='no points'):
        dataset[0]
    path.write_bytes(np.float32([1, 2, 3, np.nan, 0] * 2 + [1] * 5).tobytes())
    with pytest.raises(InputError, match='not finite'):
        dataset[0]


def test_an_image_of_another_size_than_its_row_is_refused(tiny):
    path = tiny.root / tiny.keyframes('CAM_BACK')[0]['filename']
    Image.new('RGB', (16, 9)).save(path)
    with pytest.raises(InputError, match=r'(?s)do not belong together.*CAM_BACK'):
        open_tiny(tiny)[0]


def test_label_maps_lie_beside_each_camera(tiny):
    for name in CAMERAS:
        stem = Path(tiny.keyframes(name)[0]['filename']).stem
        (tiny.root.parent / 'maps' / name).mkdir(parents=True)
        for ending in ('class', 'confidence'):
            path = tiny.root.parent / 'maps' / name / f'{stem}_{ending}.png'
            Image.fromarray(np.full((4, 6), CAMERAS.index(name), np.uint8)).save(path)
    images = open_tiny(tiny, label_maps='maps', sweeps=[0])[0].images
    assert [image.class_map.max() for image in images] == list(range(6))


def test_it_can_be_sent_to_another_process(tiny):
    dataset = open_tiny(tiny)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3].points, dataset[3].points)
    assert copy[3].images[5].image_id == dataset[3].images[5].image_id


@given(
    numbers=st.lists(st.integers(0, 9), max_size=30),
    piece=st.integers(1, 200),
    indent=st.sampled_from([None, 0, 2]),
)
def test_a_large_table_is_scanned_alike_in_pieces_of_any_size(
    numbers, piece, indent, tmp_path_factory
):
    rows = [{'token': token(str(n))[: n + 1], 'value': [n, [n]]} for n in numbers]
    folder = tmp_path_factory.mktemp('tables')
    (folder / 'rows.json').write_text(json.dumps(rows, indent=indent))
    wanted = {token(str(n))[: n + 1] for n in range(0, 10, 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nuscenes_tables, 'PIECE', piece)
        found = list(scan_table(folder, 'rows', ['token', 'value'], wanted))
    assert found == [row for row in rows if row['token'] in wanted]
