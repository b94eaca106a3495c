# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From the words that a user types to the embeddings that points are compared with."""
