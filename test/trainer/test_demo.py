# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The demo deletes only what a demo wrote."""

from __future__ import annotations

import pytest

from reldistill_ros.core.errors import InputError
from trainer.demo import make_room


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'mine').touch()
    with pytest.raises(InputError, match='not written by the demo'):
        make_room(tmp_path)
    with pytest.raises(InputError, match='not written by the demo'):
        make_room(tmp_path / 'run' / 'mine')
    assert (tmp_path / 'run' / 'mine').exists()


def test_what_an_earlier_demo_wrote_makes_room_for_the_next(tmp_path):
    out = tmp_path / 'new' / 'demo'
    make_room(out)
    (out / 'run').mkdir()
    (out / 'notes.txt').touch()
    make_room(out)
    assert not (out / 'run').exists()
    assert (out / 'notes.txt').exists()
