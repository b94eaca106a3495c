# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Files and folders appear whole or not at all."""

from __future__ import annotations

import json

import pytest

from reldistill_ros.core.files import replacing, write_json


def test_a_block_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / 'values.json'
    write_json(path, [1])

    def fail_half_way():
        with replacing(path) as partial:
            partial.write_text('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_json(path, [float('nan')])
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_the_block_ends_whatever_a_killed_process_left(tmp_path):
    path = tmp_path / 'bundle'
    with pytest.raises(FileNotFoundError), replacing(path) as left:
        pass  # nothing was written
    left.mkdir()
    (left / 'old').touch()
    with replacing(path) as partial:
        partial.mkdir()
        (partial / 'new').touch()
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ['new']
    assert list(tmp_path.iterdir()) == [path]
