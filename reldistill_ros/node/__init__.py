# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the lifecycle node is made of; `reldistill_ros.segment_node` puts it together."""
