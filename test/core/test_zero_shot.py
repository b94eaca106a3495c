# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The folded head equals embedding, normalising and comparing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 20, 64]))
@settings(max_examples=30, deadline=None)
def test_folded_prompts_give_the_cosines_of_the_embeddings(seed, size):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(size, 12)), rng.normal(size=size)
    text = rng.normal(size=(7, size))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    features = rng.normal(size=(50, 12)).astype(np.float32)
    embeddings = features @ weight.T + bias
    expected = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True) @ text.T
    got = prompt_cosines(features, fold_head(weight, bias, text))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_best_prompt_decides_and_synonyms_count_once():
    cosines = np.array([[0.1, 0.9, 0.2], [0.3, 0.1, 0.8]], np.float32)
    labels = label_cosines(cosines, np.array([0, 0, 1]), temperature=0.1)
    assert labels.class_ids.tolist() == [0, 1]
    # Classes score 0.9 and 0.2, then 0.3 and 0.8.
    assert labels.probabilities[0] == pytest.approx(1 / (1 + np.exp(-7)), rel=1e-5)
    assert labels.probabilities[1] == pytest.approx(1 / (1 + np.exp(-5)), rel=1e-5)


def test_entropy_is_zero_for_certainty_and_log_k_for_none():
    cosines = np.array([[1, -1, -1], [0.5, 0.5, 0.5]], np.float32)
    labels = label_cosines(cosines, np.arange(3), temperature=0.01)
    assert labels.entropies[0] == pytest.approx(0, abs=1e-6)
    assert labels.entropies[1] == pytest.approx(np.log(3), abs=1e-5)


def test_a_cosine_that_is_no_number_gives_no_label():
    labels = label_cosines(np.float32([[np.nan, 0.1], [0.3, 0.2]]), np.arange(2), temperature=0.1)
    assert labels.class_ids.tolist() == [255, 0]
    assert labels.probabilities[0] == 0
    assert np.isnan(labels.entropies[0])
