# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Rectified images against OpenCV's projection of points through the same lens."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from reldistill_ros.cameras.lens import (
    Lens,
    check_model,
    find_rectification,
    largest_valid_part,
    rectify_classes,
    rectify_image,
)
from reldistill_ros.core.errors import InputError

SIZE = (240, 320)
MATRIX = (200.0, 0, 161.3, 0, 204.0, 117.7, 0, 0, 1)
NO_TURN = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
BARREL = (-0.28, 0.07, 0.0008, -0.0012, -0.005)
RATIONAL = (0.4, -0.02, 0.0005, 0.0003, -0.001, 0.75, 0.05, -0.004)
FISHEYE = (-0.03, 0.012, -0.006, 0.001)


def lens(coefficients=BARREL, model='polynomial', rotation=NO_TURN, rectified=MATRIX, size=SIZE):
    return Lens(model, tuple(coefficients), MATRIX, tuple(rotation), tuple(rectified), size)


def project_distorted(points, made):
    """Pixels (N, 2) of points (N, 3) in the raw image, by OpenCV."""
    matrix, turn = np.reshape(made.matrix, (3, 3)), np.zeros(3)
    distortion = np.array(made.coefficients)
    if made.model == 'polynomial':
        return cv2.projectPoints(points, turn, turn, matrix, distortion)[0][:, 0]
    return cv2.fisheye.projectPoints(points[:, None], turn, turn, matrix, distortion)[0][:, 0]


def raw_pixels_through_our_image(points, made):
    """Pixels of the points in our pinhole image, led back to the raw image; those inside."""
    maps = find_rectification(made)
    turned = points @ np.reshape(made.rotation, (3, 3)).T
    pixels = turned @ maps.intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    height, width = maps.columns.shape
    inside = ((pixels >= 0) & (pixels <= [width - 1, height - 1])).all(axis=1)
    inside &= turned[:, 2] > 0
    at = pixels[inside, ::-1].T
    found = [map_coordinates(source, at, order=1) for source in (maps.columns, maps.rows)]
    return np.stack(found, axis=1), inside


def points_in_view(num=400):
    rng = np.random.default_rng(0)
    rays = np.concatenate([rng.uniform(-0.8, 0.8, (num, 2)), np.ones((num, 1))], axis=1)
    return rays * rng.uniform(1, 60, (num, 1))


@pytest.mark.parametrize(
    'made',
    [
        lens(),
        lens(BARREL[:4]),
        lens((0.15, 0.02, 0.0, 0.0, 0.0)),
        lens(RATIONAL),
        lens(FISHEYE, 'equidistant'),
        lens(rectified=(150.0, 0, 155, 0, 150, 121, 0, 0, 1)),
        lens(rotation=Rotation.from_euler('xyz', [1, -2, 0.5], degrees=True).as_matrix().ravel()),
    ],
)
def test_a_point_lies_where_opencv_projects_it(made):
    points = points_in_view()
    found, inside = raw_pixels_through_our_image(points, made)
    assert inside.sum() > 100
    expected = project_distorted(points[inside], made)
    assert np.abs(found - expected).max() < 0.1


@settings(max_examples=25, deadline=None)
@given(
    k1=st.floats(-0.35, 0.35),
    k2=st.floats(-0.05, 0.1),
    p1=st.floats(-0.003, 0.003),
    p2=st.floats(-0.003, 0.003),
    fisheye=st.booleans(),
    zoom=st.floats(0.7, 1.5),
)
def test_points_lie_right_and_no_pixel_is_empty_whatever_the_lens(k1, k2, p1, p2, fisheye, zoom):
    coefficients = (k1 / 4, k2 / 4, p1, p2) if fisheye else (k1, k2, p1, p2, 0.0)
    rectified = (*(zoom * number for number in MATRIX[:2]), *MATRIX[2:])
    made = lens(coefficients, 'equidistant' if fisheye else 'polynomial', rectified=rectified)
    points = points_in_view()
    found, inside = raw_pixels_through_our_image(points, made)
    assert inside.any()
    assert np.abs(found - project_distorted(points[inside], made)).max() < 0.1
    maps = find_rectification(made)
    assert maps.columns.min() >= -0.5
    assert maps.columns.max() <= SIZE[1] - 0.5
    assert maps.rows.min() >= -0.5
    assert maps.rows.max() <= SIZE[0] - 0.5


def test_a_map_without_distortion_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    made = lens((0.0, 0.0, 0.0, 0.0, 0.0))
    np.testing.assert_array_equal(rectify_image(image, find_rectification(made)), image)
    np.testing.assert_array_equal(find_rectification(made).intrinsics.ravel(), MATRIX)


def test_the_picture_of_a_point_moves_with_it():
    point = np.array([[0.45, -0.3, 1.0]])
    column, row = np.rint(project_distorted(point, lens())[0]).astype(int)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[row - 1 : row + 2, column - 1 : column + 2] = 255
    maps = find_rectification(lens())
    rectified = rectify_image(image, maps)[..., 0].astype(float)
    rows, columns = np.indices(rectified.shape)
    centre = [(axis * rectified).sum() / rectified.sum() for axis in (columns, rows)]
    expected = point @ maps.intrinsics.T
    # the drawn square lies on whole pixels: half a pixel at most off the point
    assert np.abs(centre - expected[0, :2]).max() < 1.0


def test_class_maps_of_another_size_are_taken_along_without_mixing():
    height, width = SIZE
    classes = np.zeros((height // 2, width // 2), np.uint8)
    classes[:, width // 4 :] = 7
    maps = find_rectification(lens())
    rectified = rectify_classes(classes, maps)
    assert rectified.shape == maps.columns.shape
    assert set(np.unique(rectified)) == {0, 7}
    edge = width / 2 - 0.5  # between the pixels 159 and 160 of the raw image
    clear = np.abs(maps.columns - edge) > 0.1
    expected = np.where(maps.columns > edge, 7, 0)
    np.testing.assert_array_equal(rectified[clear], expected[clear])


def test_what_lies_beyond_the_reach_of_the_polynomial_is_cut_away():
    # r (1 - 0.28 r^2 + 0.07 r^4 ...) turns back; a wide pinhole image reaches that far
    wide = lens((-0.35, 0.0, 0.0, 0.0, 0.0), rectified=(60.0, 0, 160, 0, 60, 120, 0, 0, 1))
    maps = find_rectification(wide)
    half = (np.array(maps.columns.shape[::-1]) - 1) / 2 / 60
    assert np.hypot(*half) < np.sqrt(1 / (3 * 0.35)) * 1.02  # where the derivative is zero
    assert (np.diff(maps.columns, axis=1) > 0).all()
    assert (np.diff(maps.rows, axis=0) > 0).all()


def test_the_largest_valid_part_is_valid_and_holds_the_principal_point():
    valid = np.ones((20, 30), bool)
    valid[:3] = valid[:, 28:] = False
    intrinsics = np.array([[10.0, 0, 12], [0, 10, 11], [0, 0, 1]])
    assert largest_valid_part(valid, intrinsics) == (slice(3, 20), slice(0, 28))
    valid[:, 20] = False  # beyond is another region
    assert largest_valid_part(valid, intrinsics) == (slice(3, 20), slice(0, 20))
    rows, columns = largest_valid_part(np.zeros((4, 5), bool), intrinsics)
    assert rows.stop - rows.start == 0 or columns.stop - columns.start == 0


def test_a_calibration_that_shows_nothing_is_refused():
    away = lens(rectified=(200.0, 0, 161.0, 0, 200, 9000, 0, 0, 1))
    with pytest.raises(InputError, match='makes no pinhole image'):
        find_rectification(away)


@pytest.mark.parametrize(
    ('name', 'number'), [('plumb_bob', 8), ('equidistant', 5), ('ftheta', 6), ('', 5)]
)
def test_unknown_models_and_wrong_numbers_of_coefficients_are_refused(name, number):
    with pytest.raises(InputError, match=rf'(?s)distortion.*not known.*{number}'):
        check_model(name, number, 'info')
