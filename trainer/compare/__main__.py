# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""`python -m trainer.compare`."""

from reldistill_ros.core.errors import run_command
from trainer.compare.compare import main

run_command(main)
