# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Stamps that are zero, in the future, out of order or too old, and time that jumps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.node.stamps import NANO, StampChecker, is_too_old

NOW = 1_700_000_000 * NANO


def problems(*stamps, now=NOW):
    checker = StampChecker([])
    return [checker.check(int(NOW + seconds * NANO), now) for seconds in stamps], checker.jumps


def test_sweeps_in_order_have_no_problem_nor_have_equal_stamps():
    assert problems(-0.3, -0.2, -0.2, -0.1) == ([None] * 4, 0)


def test_a_sweep_before_the_last_one_is_out_of_order_and_no_measure_for_the_next():
    assert problems(-0.3, -0.5, -0.4, -0.2)[0] == [None, 'out_of_order', 'out_of_order', None]


def test_a_bag_that_begins_anew_is_no_disorder():
    assert problems(-30, -20, -30, -29.9) == ([None] * 4, 1)


def test_a_stamp_in_the_future_is_told_and_does_not_make_later_ones_old():
    assert problems(-0.1, 5, 0)[0] == [None, 'future', None]


def test_without_a_clock_no_stamp_is_in_the_future():
    assert problems(5, 6, now=0)[0] == [None, None]


def test_stamp_zero_is_told_and_compared_with_nothing():
    checker = StampChecker(['zero_stamp'])
    assert [checker.check(stamp, NOW) for stamp in (NOW, 0, NOW)] == [None, 'zero_stamp', None]
    assert checker.is_dropped('zero_stamp')
    assert not checker.is_dropped('future')


def test_after_a_jump_of_the_clock_any_stamp_is_in_order():
    checker = StampChecker([])
    checker.check(NOW, NOW)
    checker.forget()
    assert checker.check(NOW - NANO // 2, NOW) is None
    assert checker.jumps == 1


@pytest.mark.parametrize(
    ('age', 'max_age', 'is_old'), [(1.0, 2.0, False), (3.0, 2.0, True), (3.0, 0.0, False)]
)
def test_a_sweep_is_too_old_when_there_is_a_limit(age, max_age, is_old):
    stamp = NOW - int(age * NANO)
    assert is_too_old(stamp, NOW, max_age) == is_old
    assert not is_too_old(0, NOW, max_age)
    assert not is_too_old(stamp, 0, max_age)


@given(st.lists(st.integers(0, 2**63), max_size=40), st.integers(0, 2**63))
def test_what_is_let_in_never_goes_back_but_by_a_jump(stamps, now):
    checker = StampChecker([])
    let_in = [stamp for stamp in stamps if checker.check(stamp, now) is None]
    steps = [after - before for before, after in pairwise(let_in)]
    assert sum(step < 0 for step in steps) == checker.jumps
    assert all(step >= 0 or step < -NANO for step in steps)
