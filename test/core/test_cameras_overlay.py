# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels drawn on images."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('cv2', reason='the cameras extra is not installed')

from reldistill_ros.cameras.overlay import PANEL, OverlayStyle, draw_overlay
from reldistill_ros.cameras.visibility import Pairs
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary

RED, BLUE = (200, 10, 10), (10, 10, 200)
WORDS = Vocabulary.model_validate_json(
    json.dumps(
        {
            'version': 1,
            'name': 'two',
            'classes': [{'name': 'car', 'color': RED}, {'name': '月 tree', 'color': BLUE}],
        }
    )
)
GREY = np.full((300, 400, 3), 90, np.uint8)
SOLID = OverlayStyle(point_size=3, opacity=1.0)


def pairs(*pixels_and_depths):
    values = np.array(pixels_and_depths, np.float32).reshape(-1, 3)
    return Pairs(np.arange(len(values)), values[:, :2], values[:, 2])


def draw(found, classes, picture=GREY, style=SOLID):
    return draw_overlay(picture, found, np.array(classes, np.uint8), WORDS, style)


def test_a_point_is_a_square_of_its_class_around_its_pixel():
    drawn = draw(pairs((200, 100, 5)), [0])
    changed = np.argwhere((drawn[:, 150:] != GREY[:, 150:]).any(axis=2))
    assert changed.tolist() == [[r, c] for r in (99, 100, 101) for c in (49, 50, 51)]
    assert (drawn[99:102, 199:202] == RED).all()


@pytest.mark.parametrize('depths', [(5, 9), (9, 5)])
def test_near_points_lie_over_far_ones_in_whatever_order_they_come(depths):
    found = pairs((200, 100, depths[0]), (201, 101, depths[1]))
    drawn = draw(found, [0, 1])
    near = RED if depths[0] < depths[1] else BLUE
    assert tuple(drawn[101, 201]) == near
    assert (drawn == np.array(RED, np.uint8)).all(axis=2).sum() >= 4  # the far one is seen too


def test_opacity_mixes_with_the_image():
    style = OverlayStyle(point_size=1, opacity=0.25)
    assert tuple(draw(pairs((200, 100, 5)), [0], style=style)[100, 200]) == (118, 70, 70)


def test_unlabelled_points_are_not_drawn_and_without_points_the_image_stays():
    np.testing.assert_array_equal(draw(pairs((200, 100, 5)), [IGNORE_INDEX]), GREY)
    np.testing.assert_array_equal(draw(pairs(), []), GREY)


def test_the_legend_names_the_classes_in_the_picture_only():
    one = draw(pairs((300, 200, 5)), [1])
    both = draw(pairs((300, 200, 5), (350, 250, 5)), [1, 0])

    def legend(drawn):
        return drawn[:60, :150].reshape(-1, 3).tolist()

    assert list(BLUE) in legend(one)
    assert list(RED) not in legend(one)
    assert list(RED) in legend(both)
    assert list(PANEL) in legend(both)


def test_a_wide_image_is_scaled_down_with_its_points():
    style = OverlayStyle(width=100, point_size=1, opacity=1.0)
    drawn = draw(pairs((380, 280, 5)), [0], style=style)
    assert drawn.shape == (75, 100, 3)
    assert tuple(drawn[70, 95]) == RED


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (5, 3)])
def test_an_image_smaller_than_point_and_legend_is_drawn_on_all_the_same(size):
    picture = np.full((*size, 3), 90, np.uint8)
    drawn = draw(pairs((0, 0, 1)), [0], picture, OverlayStyle(point_size=32))
    assert drawn.shape == picture.shape


def test_the_picture_itself_is_left_as_it_was():
    picture = GREY.copy()
    draw(pairs((200, 100, 5)), [0], picture)
    np.testing.assert_array_equal(picture, GREY)
