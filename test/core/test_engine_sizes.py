# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sizes of engines, and sweeps filled up to them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_student import NUM_FEATURES, make_student

from reldistill_ros.backends.engine_sizes import (
    MARGIN,
    ROW_BLOCK,
    STEP,
    EngineSizes,
    SweepSizes,
    engine_sizes,
    input_shapes,
)
from reldistill_ros.backends.padded_inputs import ALIGNMENT, Layout
from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.student import folded_copy

SEEN = SweepSizes(
    num_sweeps=100,
    small=(15_000, 9_000, 5_000, 2_000, 900),
    typical=(21_627, 13_270, 7_124, 3_154, 1_246),
    large=(24_000, 14_000, 7_900, 3_300, 1_390),
    largest=(24_968, 15_000, 8_000, 3_500, 1_400),
)


def seen_sizes(draw):
    """Percentiles in order, each level at most as large as the finer one."""
    finest = sorted(draw(st.lists(st.integers(1, 200_000), min_size=4, max_size=4)))
    shares = [1.0]
    for _ in range(4):
        shares.append(shares[-1] * draw(st.floats(0.125, 1.0)))
    rows = [tuple(max(1, int(n * share)) for share in shares) for n in finest]
    names = ('small', 'typical', 'large', 'largest')
    return SweepSizes(num_sweeps=1, **dict(zip(names, rows)))


@given(st.data())
def test_buckets_grow_in_steps_to_the_margin_and_hold_every_sweep_seen(data):
    seen = seen_sizes(data.draw)
    sizes = engine_sizes(seen)
    buckets = np.array(sizes.buckets)
    assert (buckets % ROW_BLOCK == 0).all()
    assert (np.diff(buckets, axis=0) >= 0).all()
    assert (np.diff(buckets, axis=1) <= 0).all()
    assert (buckets[-1] >= MARGIN * np.array(seen.largest)).all()
    assert (buckets[:-1] * STEP + 2 * ROW_BLOCK >= buckets[1:]).all()
    for name in ('small', 'typical', 'large', 'largest'):
        index = sizes.fit(getattr(seen, name))
        assert (buckets[index] >= getattr(seen, name)).all()
        assert index == 0 or (buckets[index - 1] < getattr(seen, name)).any()
    assert sizes.typical == sizes.fit(seen.typical)


def test_a_lidar_with_32_beams_gets_few_buckets():
    sizes = engine_sizes(SEEN)
    assert len(sizes.buckets) == 8
    assert sizes.profile[1] == (24_128, 14_528, 7_744, 3_392, 1_408)
    assert sizes.profile[2] == (49_984, 30_016, 16_000, 7_040, 2_816)


def test_a_sweep_that_is_too_large_at_any_level_is_refused_with_a_way_out():
    sizes = engine_sizes(SEEN)
    for level in range(5):
        too_many = list(SEEN.largest)
        too_many[level] *= 3
        with pytest.raises(InputError, match=r'(?s)more voxels than the engine.*backend fused'):
            sizes.fit(too_many)


@pytest.fixture(scope='module')
def session(tmp_path_factory):
    from trainer.onnx_graph import write_onnx

    path = tmp_path_factory.mktemp('graph') / 'student.onnx'
    write_onnx(folded_copy(make_student()).backbone, NUM_FEATURES, path)
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


def random_sweep(seed, count, grid):
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, grid, (count, 3)), axis=0).astype(np.int32)
    feats = rng.normal(size=(len(coords), NUM_FEATURES)).astype(np.float32)
    return feats, build_kernel_maps(coords)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 30),
    st.lists(st.integers(0, 200), min_size=5, max_size=5),
)
def test_a_sweep_filled_up_gives_the_features_that_it_gives_alone(
    session, seed, count, grid, more
):
    feats, maps = random_sweep(seed, count, grid)
    sizes = tuple(level.num_voxels + extra for level, extra in zip(maps, more))
    layout = Layout(sizes, NUM_FEATURES)
    # whatever was there before, as the block is used again and again
    block = np.full(layout.num_bytes, 0x7F, np.uint8)
    layout.fill(block, feats, maps)
    filled = {name: place.view(block) for name, place in layout.places.items()}
    (expected,) = session.run(None, {'feats': feats, **table_inputs(maps)})
    (got,) = session.run(None, filled)
    assert got.shape[0] == sizes[0]
    assert np.isfinite(got).all()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got[: len(feats)], expected, atol=1e-5 * scale)


def test_without_filling_up_the_inputs_are_the_tables():
    feats, maps = random_sweep(1, 300, 12)
    layout = Layout(tuple(level.num_voxels for level in maps), NUM_FEATURES)
    block = np.zeros(layout.num_bytes, np.uint8)
    layout.fill(block, feats, maps)
    expected = {'feats': feats, **table_inputs(maps)}
    assert list(layout.places) == list(expected)
    for name, place in layout.places.items():
        assert place.start % ALIGNMENT == 0
        np.testing.assert_array_equal(place.view(block), expected[name])


def test_the_shapes_are_those_of_the_exported_graph(session):
    sizes = (50, 40, 30, 20, 10)
    shapes = input_shapes(sizes, NUM_FEATURES)
    assert [entry.name for entry in session.get_inputs()] == list(shapes)
    voxels = {f'voxels{level}': size for level, size in enumerate(sizes)}
    for entry in session.get_inputs():
        assert tuple(voxels.get(dim, dim) for dim in entry.shape) == shapes[entry.name]


def test_a_profile_is_the_first_the_typical_and_the_last_bucket():
    buckets = tuple((n,) * 5 for n in (64, 128, 192))
    assert EngineSizes(buckets, 1).profile == buckets
