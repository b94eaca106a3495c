# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The coordinate frames of a bag."""

from __future__ import annotations

from reldistill_ros.bag import TF_MESSAGE, Bag
from trainer.datasets.tf_tree import TfTree

STATIC_TOPIC_END = 'tf_static'


def read_tf(bag: Bag) -> TfTree:
    """Read all coordinate frames of a bag."""
    topics = bag.topics_of(TF_MESSAGE)
    return TfTree(
        (
            message
            for topic in topics
            if topic.endswith(STATIC_TOPIC_END)
            for _, message in bag.messages(topic)
        ),
        (
            message
            for topic in topics
            if not topic.endswith(STATIC_TOPIC_END)
            for _, message in bag.messages(topic)
        ),
    )
