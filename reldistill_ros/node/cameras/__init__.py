# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The cameras of the node: their topics, the thread that looks at images, and what they add."""
