# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a 2D network says of a pixel."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.cameras.image_encoder import most_likely
from reldistill_ros.cameras.opinions import (
    ClassOpinions,
    PatchOpinions,
    class_cosines,
    unit_features,
)

PROMPTS = np.eye(3, 4, dtype=np.float32)


def test_class_maps_cover_the_image_edge_to_edge_whatever_their_size():
    cosines, known = class_cosines(np.eye(2, 4, dtype=np.float32), PROMPTS)
    maps = ClassOpinions(
        (10, 20), np.array([[0, 1]], np.uint8), np.array([[255], [51]], np.uint8), cosines, known
    )
    pixels = np.array([[0, 0], [9.4, 0], [9.6, 9.5], [19.5, 4.4], [-0.5, -0.5]], np.float32)
    found = maps.at(pixels)
    np.testing.assert_array_equal(found.cosines.argmax(axis=1), [0, 0, 1, 1, 0])
    np.testing.assert_allclose(found.confidences, [1, 1, 0.2, 1, 1])


def test_classes_that_are_no_opinion_have_no_confidence():
    embeddings = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)  # the second is the sky
    cosines, known = class_cosines(embeddings, PROMPTS)
    class_map = np.array([[0, 1, 2, 255]], np.uint8)
    maps = ClassOpinions((1, 4), class_map, np.full((1, 1), 255, np.uint8), cosines, known)
    pixels = np.array([[k, 0] for k in range(4)], np.float32)
    np.testing.assert_array_equal(maps.at(pixels).confidences, [1, 0, 0, 0])


def test_patches_are_interpolated_between_their_centres():
    cosines = np.array([[[0.0], [1.0]], [[2.0], [3.0]]], np.float32)
    patches = PatchOpinions((4, 8), cosines)
    centres = np.array([[1.5, 0.5], [5.5, 0.5], [1.5, 2.5], [5.5, 2.5]], np.float32)
    np.testing.assert_allclose(patches.at(centres).cosines[:, 0], [0, 1, 2, 3])
    between = np.array([[3.5, 0.5], [3.5, 1.5], [-0.5, -0.5], [7.5, 3.5]], np.float32)
    np.testing.assert_allclose(patches.at(between).cosines[:, 0], [0.5, 1.5, 0, 3])


def test_cosines_of_patches_are_centred_as_the_prompts_are():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 2, 3)).astype(np.float32)
    mean = rng.normal(0, 0.1, 4).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=0) - mean[:, None, None]
    unit /= np.linalg.norm(unit, axis=0)
    expected = np.einsum('chw,mc->hwm', unit, PROMPTS)
    rows = unit_features(features, mean)
    np.testing.assert_allclose((rows @ PROMPTS.T).reshape(2, 3, 3), expected, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_the_likeliest_class_and_its_probability_are_those_of_the_softmax(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 50, (5, 3, 4)).astype(np.float32)
    classes, confidences = most_likely(logits)
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    exact /= exact.sum(axis=0)
    np.testing.assert_array_equal(classes, exact.argmax(axis=0))
    np.testing.assert_allclose(confidences / 255, exact.max(axis=0), atol=0.51 / 255)
