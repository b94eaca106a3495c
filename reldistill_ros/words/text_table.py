# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A text encoder that is a list of words with known embeddings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError


class TextTable:
    """Embeddings looked up by word, without case and outer space.

    Args:
        words: K different words.
        embeddings: (K, C) float32 unit rows.
        where: whose table it is, for messages.
    """

    def __init__(
        self, words: Sequence[str], embeddings: NDArray[np.float32], where: object
    ) -> None:
        self.words = tuple(words)
        self.embeddings = embeddings
        self._index = {word_key(word): row for row, word in enumerate(words)}
        self._where = where

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed T texts as (T, C).

        Raises:
            InputError: a text is not in the table; names those that are written alike.
        """
        return self.embeddings[[self._row(text) for text in texts]]

    def _row(self, text: str) -> int:
        key = word_key(text)
        if key not in self._index:
            near = difflib.get_close_matches(key, list(self._index), n=5, cutoff=0.0)
            raise InputError(
                f'the table of text embeddings does not hold {text!r}',
                where=self._where,
                expected=f'one of {", ".join(near)}',
                fix="use a word of the table (template '{}' only), or train with a text encoder "
                'that takes any word: kind minilm or open_clip',
            )
        return self._index[key]


def word_key(word: str) -> str:
    """Equal for words that the table takes for the same."""
    return word.strip().casefold()
