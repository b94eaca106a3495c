# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""`python -m trainer.structure`."""

from reldistill_ros.core.errors import run_command
from trainer.structure.structure import main

run_command(main)
