# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Fixtures of the trainer's tests."""

from __future__ import annotations

import pytest
from tiny_drive import write_drive, write_settings


@pytest.fixture
def tiny(tmp_path):
    """A folder with a small drive and a run file for it."""
    write_drive(tmp_path / 'drive')
    write_settings(tmp_path)
    return tmp_path
