# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Label every lidar point with any words: what runs on the robot."""
