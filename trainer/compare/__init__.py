# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Many runs and protocols as one table: `python -m trainer.compare PLAN.yaml --out DIR`."""
