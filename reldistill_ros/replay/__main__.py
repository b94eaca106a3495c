# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""`python -m reldistill_ros.replay`."""

from reldistill_ros.replay.replay import command

command()
