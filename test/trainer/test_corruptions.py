# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Damaged sweeps: what each kind does, and that scores count the points that remain."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_drive import LabelledDrive

from trainer.corruptions import (
    CORRUPTIONS,
    EXTINCTION,
    GAIN,
    LOST_BEAMS,
    LOST_POINTS,
    NOISE,
    SEVERITIES,
    corrupt,
)
from trainer.evaluate import evaluate, evaluate_corrupted

NUM_BEAMS, NUM_AZIMUTHS = 32, 200


@pytest.fixture
def sweep():
    """Points (6400, 4) of a lidar with 32 beams, beam after beam, up to 100 m away."""
    rng = np.random.default_rng(0)
    elevation = np.radians(np.repeat(np.linspace(-30, 10, NUM_BEAMS), NUM_AZIMUTHS))
    azimuth = np.tile(np.linspace(0, 2 * np.pi, NUM_AZIMUTHS), NUM_BEAMS)
    distance = rng.uniform(2, 100, len(azimuth))
    flat = np.cos(elevation)
    unit = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], 1)
    intensity = rng.uniform(0, 1, (len(azimuth), 1))
    return np.concatenate([unit * distance[:, None], intensity], 1).astype(np.float32)


def damage(sweep, name, severity, seed=0, index=0):
    return corrupt(sweep, name, severity, seed=seed, index=index)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_whole_beams_are_left_out_and_evenly(sweep, severity):
    _, rows = damage(sweep, 'fewer_beams', severity)
    beams, counts = np.unique(rows // NUM_AZIMUTHS, return_counts=True)
    assert len(beams) == round(NUM_BEAMS * (1 - LOST_BEAMS[severity - 1]))
    assert (counts == NUM_AZIMUTHS).all()
    assert np.ptp(np.diff(beams)) <= 1


@pytest.mark.parametrize('severity', SEVERITIES)
def test_the_share_of_dropped_points_is_as_said(sweep, severity):
    points, rows = damage(sweep, 'dropped_points', severity)
    assert 1 - len(rows) / len(sweep) == pytest.approx(LOST_POINTS[severity - 1], abs=0.02)
    np.testing.assert_array_equal(points, sweep[rows])


@pytest.mark.parametrize('severity', SEVERITIES)
def test_noise_shifts_points_by_its_deviation_and_keeps_the_intensity(sweep, severity):
    points, rows = damage(sweep, 'noise', severity)
    assert len(rows) == len(sweep)
    assert (points - sweep)[:, :3].std() == pytest.approx(NOISE[severity - 1], rel=0.03)
    np.testing.assert_array_equal(points[:, 3], sweep[:, 3])


@pytest.mark.parametrize('severity', SEVERITIES)
def test_fog_lets_through_the_light_of_its_extinction(sweep, severity):
    points, rows = damage(sweep, 'fog', severity)
    light = np.exp(-2 * EXTINCTION[severity - 1] * np.linalg.norm(sweep[:, :3], axis=1))
    np.testing.assert_allclose(points[:, 3], (sweep[:, 3] * light)[rows], rtol=1e-5)
    assert len(rows) == pytest.approx(light.sum(), rel=0.05)
    np.testing.assert_array_equal(points[:, :3], sweep[rows, :3])


@pytest.mark.parametrize('severity', SEVERITIES)
def test_a_changed_intensity_changes_nothing_else(sweep, severity):
    points, rows = damage(sweep, 'intensity', severity)
    assert len(rows) == len(sweep)
    np.testing.assert_array_equal(points[:, :3], sweep[:, :3])
    np.testing.assert_allclose(points[:, 3], sweep[:, 3] * GAIN[severity - 1])


@given(st.sampled_from(list(CORRUPTIONS)), st.sampled_from(SEVERITIES), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_rows_rise_and_damage_depends_on_seed_and_index_alone(name, severity, seed):
    points = np.random.default_rng(seed).normal(0, 20, (200, 4)).astype(np.float32)
    points[7] = np.nan
    before = points.copy()
    damaged, rows = damage(points, name, severity, seed, 3)
    assert len(damaged) == len(rows)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(points, before)
    for one, other in zip(damage(points, name, severity, seed, 3), (damaged, rows)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('name', ['dropped_points', 'noise', 'fog'])
def test_another_sweep_is_damaged_elsewhere(sweep, name):
    one, other = (damage(sweep, name, 2, index=index)[0] for index in (0, 1))
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_scores_are_written_by_kind_and_severity(trained, tmp_path):
    metrics = evaluate(trained, [LabelledDrive()], tmp_path, corruptions=True)
    written = json.loads((tmp_path / 'metrics.json').read_text())['corruptions']
    assert written == metrics['corruptions']
    assert set(written) == {'fewer_beams', 'dropped_points', 'noise', 'fog', 'intensity'}
    assert all(list(scores) == ['1', '2', '3'] for scores in written.values())
    clean = metrics['zero_shot']['miou']
    assert written['dropped_points']['3'] < clean
    assert written['fog']['1'] == pytest.approx(clean, abs=0.1)
    assert 'corruptions' not in evaluate(trained, [LabelledDrive()], tmp_path)


def test_points_that_were_lost_do_not_count(trained, monkeypatch):
    """With all but the road lost, the road is the only class that is scored."""

    def only_road(points, severity, _):
        rows = np.arange(400)
        return points[rows], rows

    for name in CORRUPTIONS:
        monkeypatch.setitem(CORRUPTIONS, name, only_road)
    scores = evaluate_corrupted(trained, [LabelledDrive()])
    assert scores['fog']['1'] > 0.5
