# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How alike the relations of student and teacher are: `python -m trainer.structure RUN`."""
