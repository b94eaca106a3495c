# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What student and cameras say of a point becomes one label."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.cameras.ensemble import (
    ENSEMBLE,
    UNKNOWN_FLOOR,
    CameraView,
    Ensemble,
    EnsembleSettings,
    StudentHabits,
    class_bounds,
    distributions,
    open_ensemble,
    student_votes,
)
from reldistill_ros.cameras.poll import SpokenView
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import VoxelSettings, parse_settings
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import Labels

SEEDS = st.integers(0, 2**32 - 1)
VOXEL = VoxelSettings(voxel_size=0.5, point_cloud_range=(-10, -10, -2, 10, 10, 6))


def vocabulary(*names, **prompts):
    classes = [
        {'name': name, 'color': [9 * k, 0, 0], 'prompts': prompts.get(name, [name])}
        for k, name in enumerate(names)
    ]
    return Vocabulary.model_validate_json(
        json.dumps({'version': 1, 'name': 'test', 'classes': classes})
    )


WORDS = vocabulary('road', 'car', 'person', car=['car', 'van'])
# reliable on roads, takes cars for roads half of the time, and has never seen a person
HABITS = StudentHabits(
    class_names=WORDS.class_names,
    said=((0.98, 0.01, 0.01), (0.5, 0.49, 0.01), (0.7, 0.25, 0.05)),
    overall=(0.7, 0.25, 0.05),
)
SETTINGS = EnsembleSettings(
    temperature=0.05, trust=0.99, camera_weight=1, student_weight=1, student=HABITS
)
# prompts: road, car, van, person
ROAD, CAR, VAN, PERSON = np.eye(4, dtype=np.float32)


def ensemble(words=WORDS, **changes):
    return Ensemble(SETTINGS.model_copy(update=changes), words, WORDS, VOXEL)


def said(*classes):
    """A student's labels."""
    ids = np.array(classes, np.uint8)
    return Labels(ids, np.full(len(ids), 0.5, np.float32), np.full(len(ids), 0.7, np.float32))


def apart(num):
    """Points in voxels of their own."""
    return np.array([[k + 0.25, 0.25, 0.25, 0] for k in range(num)], np.float32)


def view(indices, cosines, confidences=None, age=0.0):
    cosines = np.array(cosines, np.float32)
    sure = np.ones(len(cosines)) if confidences is None else confidences
    return CameraView(np.array(indices), cosines, np.array(sure, np.float32), age)


def random_case(seed):
    """Points, the student's labels and views of several cameras."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 60))
    points = rng.uniform(-3, 3, (num, 4)).astype(np.float32)
    student = said(*rng.choice([0, 1, 2, 255], num))
    views = []
    for _ in range(rng.integers(1, 4)):
        seen = np.sort(rng.permutation(num)[: rng.integers(0, num + 1)])
        confidences = rng.uniform(0, 1, len(seen)) * rng.integers(0, 2, len(seen))
        cosines = rng.uniform(-1, 1, (len(seen), 4)).reshape(-1, 4)
        views.append(view(seen, cosines, confidences, age=rng.uniform(0, 2)))
    return points, student, views


def assert_same(one, other):
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)
    np.testing.assert_allclose(one.entropies, other.entropies, rtol=1e-4, atol=1e-6)


def test_without_cameras_the_labels_are_those_of_the_student():
    student = said(0, 1, 255)
    assert ensemble()(apart(3), student, []) is student
    blind = view([0, 2], [CAR, CAR], [0, 0])
    assert_same(ensemble()(apart(3), student, [blind]), student)


def test_a_sure_camera_corrects_the_student_and_an_unsure_one_does_not():
    points, student = apart(2), said(0, 0)
    fused = ensemble()(points, student, [view([0, 1], [CAR, CAR], [0.95, 0.1])])
    np.testing.assert_array_equal(fused.class_ids, [1, 0])
    np.testing.assert_array_equal(student.class_ids, [0, 0])


def test_the_fused_score_is_the_formula():
    sure = 0.8 * SETTINGS.trust * 0.5 ** (0.3 / SETTINGS.half_life)
    cosines = np.array([[0.1, 0.3, 0.35, 0.2]], np.float32)
    scores = np.exp(np.array([0.1, 0.35, 0.2]) / 0.05)  # the best prompt of each class
    camera = sure * scores / scores.sum() + (1 - sure) / 3
    expected = camera**1.5 * np.array([0.98, 0.5, 0.7]) ** 0.5
    expected /= expected.sum()
    fused = ensemble(camera_weight=1.5, student_weight=0.5)(
        apart(1), said(0), [view([0], cosines, [0.8], age=0.3)]
    )
    assert fused.class_ids[0] == expected.argmax()
    np.testing.assert_allclose(fused.probabilities[0], expected.max(), rtol=1e-5)
    np.testing.assert_allclose(fused.entropies[0], -(expected * np.log(expected)).sum(), rtol=1e-5)


def test_a_point_that_the_student_has_no_class_for_gets_that_of_the_camera():
    fused = ensemble()(apart(2), said(255, 255), [view([0], [PERSON])])
    np.testing.assert_array_equal(fused.class_ids, [2, 255])


def test_a_point_that_the_student_calls_unknown_stays_so_for_a_camera_without_an_idea():
    points, student = apart(3), said(255, 255, 255)
    points[2, 0] = 11.0  # outside the range: the student never looked at it
    vague = view([0, 1, 2], [CAR, CAR, CAR], [0.4, 0.9, 0.4])
    fused = ensemble()(points, student, [vague])
    np.testing.assert_array_equal(fused.class_ids, [255, 1, 1])
    assert fused.probabilities[0] == student.probabilities[0]
    assert fused.probabilities[1] > UNKNOWN_FLOOR > fused.probabilities[2]
    beside = ensemble()(points, said(255, 0, 0), [view([0], np.zeros((1, 4)), [1 / 255])])
    np.testing.assert_array_equal(beside.class_ids, [255, 0, 0])


def test_numbers_that_are_not_finite_change_no_label():
    student = said(0, 1)
    broken = view([0, 1], np.full((2, 4), np.nan))
    assert_same(ensemble()(apart(2), student, [broken]), student)


def test_an_opinion_between_rows_of_a_table_is_the_mixture_of_theirs():
    judge = ensemble(student_weight=0.0)
    table = np.array([CAR, ROAD, PERSON])
    between = SpokenView(
        np.array([0]),
        np.array([[0, 2]], np.int32),
        np.array([[0.75, 0.25]], np.float32),
        np.ones(1, np.float32),
        judge.spoken(table),
    )
    fused = judge(apart(1), said(0), [between])
    assert fused.class_ids[0] == 1
    alone = [judge.spoken(table[[row]])[0] for row in (0, 2)]
    mixed = SETTINGS.trust * (0.75 * alone[0] + 0.25 * alone[1]) + (1 - SETTINGS.trust) / 3
    np.testing.assert_allclose(fused.probabilities[0], mixed[1], rtol=1e-5)


def test_of_more_voxels_than_fit_in_the_first_slots_none_is_mixed_with_another():
    rng = np.random.default_rng(0)
    points = rng.uniform(-300, 300, (5000, 4)).astype(np.float32)  # mostly outside the range
    classes = rng.integers(0, 3, len(points))
    cosines = np.array([ROAD, CAR, PERSON])[classes]
    fused = ensemble(student_weight=0.0)(points, said(*[255] * 5000), [view(range(5000), cosines)])
    voxels = np.floor((points[:, :3] - np.float32([-10, -10, -2])) / np.float32(0.5))
    _, first, counts = np.unique(voxels, axis=0, return_index=True, return_counts=True)
    alone = first[counts == 1]
    assert len(alone) > 4900
    np.testing.assert_array_equal(fused.class_ids[alone], classes[alone])


def test_a_student_that_never_says_person_has_no_veto():
    # a camera at 60 per cent: the student calls people roads as often as anything
    fused = ensemble()(apart(1), said(1), [view([0], [PERSON], [0.6])])
    assert fused.class_ids[0] == 2


def test_neighbours_in_a_voxel_outvote_what_leaks_over_an_outline():
    points = np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.4, 0.4, 0.4]], np.float32)
    leaking = view([0, 1, 2], [CAR, CAR, PERSON])
    student = said(1, 1, 1)
    np.testing.assert_array_equal(ensemble()(points, student, [leaking]).class_ids, [1, 1, 1])
    points[2] = 1.1
    np.testing.assert_array_equal(ensemble()(points, student, [leaking]).class_ids, [1, 1, 2])


def test_a_visible_point_without_an_opinion_takes_that_of_its_voxel():
    points = np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3]], np.float32)
    seen = view([0, 1], [CAR, ROAD], [1, 0])
    fused = ensemble()(points, said(2, 2, 2), [seen])
    np.testing.assert_array_equal(fused.class_ids, [1, 1, 2])  # no camera sees the last point


def test_an_older_image_counts_for_less():
    case = apart(1), said(0)
    fresh, old = view([0], [CAR], [0.9]), view([0], [CAR], [0.9], age=3.0)
    assert ensemble()(*case, [fresh]).class_ids[0] == 1
    assert ensemble()(*case, [old]).class_ids[0] == 0
    newer = view([0], [CAR], [0.9], age=0.1)
    contrary = view([0], [ROAD], [0.9], age=2.0)
    fused = ensemble(student_weight=0.0)(*case, [newer, contrary])
    assert fused.class_ids[0] == 1


@settings(deadline=None)
@given(SEEDS)
def test_the_order_of_cameras_and_points_does_not_matter(seed):
    points, student, views = random_case(seed)
    once = ensemble()(points, student, views)
    assert_same(ensemble()(points, student, views[::-1]), once)
    order = np.random.default_rng(seed).permutation(len(points))
    place = np.argsort(order)
    moved = Labels(
        student.class_ids[order], student.probabilities[order], student.entropies[order]
    )
    views = [replace(entry, point_indices=place[entry.point_indices]) for entry in views]
    again = ensemble()(points[order], moved, views)
    np.testing.assert_array_equal(again.class_ids, once.class_ids[order])


@settings(deadline=None)
@given(SEEDS)
def test_the_same_camera_twice_says_no_more_than_once(seed):
    points, student, views = random_case(seed)
    once = ensemble()(points, student, views[:1])
    assert_same(ensemble()(points, student, [views[0], views[0]]), once)


@settings(deadline=None)
@given(SEEDS)
def test_labels_are_classes_and_points_out_of_view_stay_as_they_were(seed):
    points, student, views = random_case(seed)
    fused = ensemble()(points, student, views)
    seen = np.unique(np.concatenate([entry.point_indices for entry in views]))
    unseen = np.setdiff1d(np.arange(len(points)), seen)
    np.testing.assert_array_equal(fused.class_ids[unseen], student.class_ids[unseen])
    known = fused.class_ids != 255
    assert (fused.class_ids[known] < 3).all()
    assert ((fused.probabilities > 0) & (fused.probabilities <= 1)).all()
    assert (fused.entropies[known] <= np.log(3) + 1e-5).all()


@given(SEEDS)
def test_distributions_sum_to_one_and_never_rule_a_class_out(seed):
    _, _, views = random_case(seed)
    for entry in views:
        rows = distributions(entry, SETTINGS, class_bounds(WORDS))
        np.testing.assert_allclose(rows.sum(axis=1), 1)
        assert (rows > 0).all()


def test_votes_follow_the_classes_when_words_change():
    other = vocabulary('tree', 'car', 'road', car=['car', 'van'])
    votes = np.exp(student_votes(HABITS, other, WORDS))
    # said road: a class that was not counted is as likely as any
    np.testing.assert_allclose(votes[2], [0.7, 0.5, 0.98])
    np.testing.assert_allclose(votes[1], [0.25, 0.49, 0.01])
    np.testing.assert_allclose(votes[0], 1)  # no vote for what was never counted
    np.testing.assert_allclose(votes[255], 1)


def test_a_class_of_the_same_name_with_other_prompts_is_another_class():
    other = vocabulary('road', 'car', 'person', car=['bus'])
    votes = np.exp(student_votes(HABITS, other, WORDS))
    np.testing.assert_allclose(votes[1], 1)
    np.testing.assert_allclose(votes[0], [0.98, 0.7, 0.7])


def test_the_weights_survive_their_file():
    content = SETTINGS.model_dump(mode='json')
    assert parse_settings(content, EnsembleSettings, 'ensemble.json') == SETTINGS
    content['student']['overall'] = [0.5, 0.5]
    with pytest.raises(InputError, match='said must be 3 x 3'):
        parse_settings(content, EnsembleSettings, 'ensemble.json')


def test_a_bundle_brings_its_weights_and_its_grid(tmp_path):
    class Files:
        path, vocabulary, manifest = tmp_path, WORDS, SimpleNamespace(voxel=VOXEL)

        def holds(self, name):
            return (tmp_path / name).is_file()

        def read(self, name):
            return (tmp_path / name).read_bytes()

    case = apart(1), said(0), [view([0], [CAR], [0.1])]
    assert open_ensemble(Files(), WORDS)(*case).class_ids[0] == 1
    (tmp_path / ENSEMBLE).write_text(json.dumps(SETTINGS.model_dump(mode='json')))
    fused = open_ensemble(Files(), WORDS)(*case)
    assert_same(fused, ensemble()(*case))
    assert fused.class_ids[0] == 0
    (tmp_path / ENSEMBLE).write_text('{"trust": 2}')
    with pytest.raises(InputError, match=r'(?s)not valid: trust.*ensemble.json'):
        open_ensemble(Files(), WORDS)


def test_without_weights_the_camera_decides_where_it_has_an_opinion():
    plain = Ensemble(EnsembleSettings(), WORDS, WORDS, VOXEL)
    fused = plain(apart(3), said(0, 0, 0), [view([0, 1], [CAR, VAN])])
    np.testing.assert_array_equal(fused.class_ids, [1, 1, 0])
