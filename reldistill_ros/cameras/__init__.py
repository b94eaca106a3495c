# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What cameras add on board: which points they see, what they take them for, and the ensemble."""
