# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sliding windows over an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.core.errors import InputError
from trainer.teachers.grids import ImageGrids
from trainer.teachers.windows import WindowSettings, slide, window_starts

PATCH = 4


class MeanColours:
    """Each patch's mean colour; knows nothing of its surroundings."""

    name, embedding_size, patch_size = 'mean', 3, PATCH
    mean, std, device = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 'cpu'

    def __call__(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, PATCH)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_cover_a_side_and_stay_on_it(side, size, stride):
    windows = WindowSettings(size=max(size, stride), stride=stride)
    starts = window_starts(side, windows)
    size = min(windows.size, side)
    covered = {start + k for start in starts for k in range(size)}
    assert covered == set(range(side))
    assert starts == sorted(set(starts))


def test_what_depends_on_a_patch_alone_is_the_same_through_windows():
    pixels = torch.rand(1, 3, 24, 40)
    for size, stride in ((8, 4), (16, 12), (24, 24), (100, 4)):
        windows = WindowSettings(size=size, stride=stride)
        seen = slide(MeanColours(), pixels, windows, PATCH)
        torch.testing.assert_close(seen, MeanColours()(pixels))


def test_overlapping_windows_are_averaged():
    """Each window says everywhere how bright its left edge is."""

    def left_edge(pixels):
        return pixels[:, :1, :1, :1].expand(-1, 1, 2, pixels.shape[3] // PATCH)

    pixels = torch.arange(16.0)[None, None, None].expand(1, 3, 8, 16)
    seen = slide(left_edge, pixels, WindowSettings(size=8, stride=4), PATCH)
    assert seen.shape == (1, 1, 2, 4)
    assert seen[0, 0, 0].tolist() == [0, 2, 6, 8]  # windows begin at 0, 4 and 8


def test_more_windows_than_a_batch_come_out_in_place(monkeypatch):
    pixels = torch.rand(1, 3, 24, 40)
    monkeypatch.setattr('trainer.teachers.windows.BATCH_SIZE', 3)
    seen = slide(MeanColours(), pixels, WindowSettings(size=8, stride=4), PATCH)
    torch.testing.assert_close(seen, MeanColours()(pixels))


def test_windows_that_leave_gaps_or_cut_patches_are_refused():
    with pytest.raises(ValueError, match='gaps'):
        WindowSettings(size=8, stride=12)
    for size, stride in ((10, 4), (8, 6)):
        windows = WindowSettings(size=size, stride=stride)
        with pytest.raises(InputError, match=r'(?s)multiple of 4'):
            ImageGrids(MeanColours(), size=24, windows=windows)


def test_windows_belong_to_the_name():
    names = {
        ImageGrids(MeanColours(), size=24, windows=windows).name
        for windows in (
            None,
            WindowSettings(size=8, stride=4),
            WindowSettings(size=8, stride=8),
        )
    }
    assert len(names) == 3


def test_an_image_is_seen_through_windows():
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    plain = ImageGrids(MeanColours(), size=24)(image)
    seen = ImageGrids(MeanColours(), size=24, windows=WindowSettings(size=8, stride=4))(image)
    assert seen.dtype == torch.float16
    torch.testing.assert_close(seen, plain, rtol=0, atol=1e-3)
