# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Speed and memory against peers and the machine's limits."""
