# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The images that a sweep may still ask for are kept, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('cv2', reason='the cameras extra is not installed')

from reldistill_ros.cameras.looks import MOST_BYTES, MOST_LOOKS, NANO, Look, Looks, Said

SPACING = NANO // 30


class Encoded:
    stretch = 1.0

    def __init__(self, num_bytes=1000):
        self.num_bytes = num_bytes


def look(stamp_ns, **changes):
    values = {'encoded': Encoded(), **changes}
    return Look(None, stamp_ns, 'camera', None, (4, 4), **values)


def stamps(looks):
    return sorted(one.stamp_ns for one in looks.not_speaking(None))


@pytest.mark.parametrize('late', [0.0, 0.2, 0.3])
def test_a_camera_of_30_hz_still_has_the_image_of_a_late_sweep(late):
    looks = Looks(window=0.1)
    for number in range(60):
        looks.add(look(number * SPACING))
        wanted = number * SPACING - round(late * NANO)
        if wanted >= 0:
            looks.wanted_at(wanted)
            assert abs(looks.nearest_encoded(wanted).stamp_ns - wanted) <= SPACING


def test_how_late_sweeps_come_is_learnt_from_them():
    looks = Looks(window=0.0)
    misses = 0
    for number in range(200):
        looks.add(look(number * SPACING))
        wanted = number * SPACING - NANO
        if wanted >= 0:
            misses += abs(looks.nearest_encoded(wanted).stamp_ns - wanted) > SPACING
            looks.wanted_at(wanted)
    assert 0 < misses < 30
    before = len(stamps(looks))
    looks.wanted_at(0)  # by another clock
    looks.add(look(200 * SPACING))
    assert len(stamps(looks)) <= before


def test_old_images_are_forgotten():
    looks = Looks(window=0.1)
    for number in range(300):
        looks.add(look(number * SPACING))
    kept = stamps(looks)
    assert len(kept) < 20
    assert kept[-1] - kept[0] < NANO


@pytest.mark.parametrize('num_bytes', [10, MOST_BYTES // 8])
def test_memory_is_bounded_and_what_is_kept_spreads_over_the_time(num_bytes):
    looks = Looks(window=10.0)
    for number in range(300):
        looks.add(look(number * SPACING, encoded=Encoded(num_bytes)))
        kept = stamps(looks)
        assert len(kept) <= min(MOST_LOOKS, MOST_BYTES // num_bytes)
    assert (kept[0], kept[-1]) == (0, 299 * SPACING)
    assert max(np.diff(kept)) < 3 * (kept[-1] - kept[0]) / len(kept)


def test_pictures_count_as_memory():
    looks = Looks(window=10.0)
    large = np.zeros((1000, 10_000, 3), np.uint8)
    for number in range(20):
        looks.add(look(number * SPACING, picture=large))
    assert len(stamps(looks)) == MOST_BYTES // (large.nbytes + 1000)


def test_only_images_that_were_compared_with_the_words_answer_for_them():
    looks = Looks(window=1.0)
    words, others = object(), object()
    first, second = look(0), look(SPACING)
    for one in (first, second, look(2 * SPACING, encoded=None)):
        looks.add(one)
    assert looks.nearest_speaking(0, words) is None
    assert looks.not_speaking(words) == [second, first]
    second.said = Said(words, None, np.empty((0, 0), np.float32))
    assert looks.nearest_speaking(0, words) is second
    assert looks.not_speaking(words) == [first]
    assert looks.nearest_speaking(0, others) is None
