# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The words that points are compared with, and how words typed at run time become such.

vocabulary = parse_prompts(['car', 'tree: tree, bush'], [], bundle.vocabulary)
words = PromptEncoder.from_bundle(bundle, cache)(vocabulary)  # slow
labeller.use(labeller.fold(words))
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.bundle import STUDENT_WEIGHTS, TEXT_FEATURES, Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import Encode, center, check_directions, ensembles
from reldistill_ros.core.unknown import never_unknown, unknown_thresholds
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.words.row_cache import RowCache
from reldistill_ros.words.text_encoder import encoder_digest, load_text_encoder
from reldistill_ros.words.typed_prompts import parse_prompts as parse_prompts


@dataclass(frozen=True, eq=False)
class Words:
    """Classes in the space of the student.

    Attributes:
        vocabulary: K classes with M prompts.
        prompt_embeddings: (M, C) float32 unit rows, centred as the bundle's.
        thresholds: (K,) float32, cosine below which a point of the class is unknown; -inf for
            never.
        revision: short name of weights and words, the same for equal ones.
    """

    vocabulary: Vocabulary
    prompt_embeddings: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    revision: str


class PromptEncoder:
    """Makes `Words` of a vocabulary; slow, for a thread of its own.

    Prompts of the bundle, in its templates, keep the embeddings that it carries. The text encoder
    is loaded for the first prompt that is neither there nor in the cache.

    Args:
        bundle: where text encoder and projection come from.
        cache: of embeddings.
        num_threads: of the text encoder.
    """

    def __init__(self, bundle: Bundle, cache: RowCache, num_threads: int = 1) -> None:
        self._bundle, self._cache, self._num_threads = bundle, cache, num_threads
        self._encode: Encode | None = None
        self._lock = threading.Lock()
        self._bundle_rows = dict(zip(bundle.vocabulary.prompts, bundle.prompt_embeddings))

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, cache: Path | None, num_threads: int = 1
    ) -> PromptEncoder:
        """Keep embeddings in the folder `cache`, or in memory only.

        Raises:
            InputError: the folder cannot be had, or others can write to it.
        """
        return cls(bundle, RowCache(cache, encoder_digest(bundle)), num_threads)

    def load(self) -> None:
        """Load the text encoder now, so that the first new word does not wait for it.

        Raises:
            InputError: the bundle carries none, or its files were changed.
        """
        with self._lock:
            self._encode = self._encode or load_text_encoder(self._bundle, self._num_threads)

    def __call__(self, vocabulary: Vocabulary, unknown_share: float = 0.0) -> Words:
        """Embed a vocabulary.

        Args:
            vocabulary: of `parse_prompts`, or any other.
            unknown_share: of the points of each class that are to be called unknown, see
                `unknown_thresholds`; 0 for none.

        Raises:
            InputError: the text encoder does not take a prompt, or there is none, or the bundle
                has no calibration.
        """
        thresholds = choose_thresholds(self._bundle, vocabulary, unknown_share)
        rows = self._embed(vocabulary.prompts, vocabulary.templates)
        return Words(
            vocabulary, rows, thresholds, words_revision(self._bundle, vocabulary, thresholds)
        )

    def _embed(self, prompts: Sequence[str], templates: tuple[str, ...]) -> NDArray[np.float32]:
        """Centred unit rows (M, C) of the prompts."""
        size = self._bundle.manifest.student.embedding_size
        known = self._bundle_rows if templates == self._bundle.vocabulary.templates else {}
        new = [prompt for prompt in prompts if prompt not in known]
        rows = {prompt: self._cache.get(prompt, templates, size) for prompt in new}
        missing = [prompt for prompt, row in rows.items() if row is None]
        if missing:
            self.load()
            assert self._encode is not None
            encoded = ensembles(missing, templates, self._encode)
            self._cache.put(missing, templates, encoded)
            rows.update(zip(missing, encoded))
        centred = center(
            np.reshape([rows[prompt] for prompt in new], (-1, size)), self._bundle.embedding_mean
        )
        check_directions(new, centred)
        both = known | dict(zip(new, centred))
        return np.stack([both[prompt] for prompt in prompts])


def bundle_words(bundle: Bundle, unknown_share: float = 0.0) -> Words:
    """The words that a bundle was exported with; see `PromptEncoder.__call__`."""
    thresholds = choose_thresholds(bundle, bundle.vocabulary, unknown_share)
    revision = words_revision(bundle, bundle.vocabulary, thresholds)
    return Words(bundle.vocabulary, bundle.prompt_embeddings, thresholds, revision)


def choose_thresholds(
    bundle: Bundle, vocabulary: Vocabulary, unknown_share: float
) -> NDArray[np.float32]:
    """Thresholds (K,) of the classes; see `unknown_thresholds`.

    Raises:
        InputError: the share is out of range, or the bundle has no calibration.
    """
    if unknown_share == 0:
        return never_unknown(vocabulary)
    if bundle.calibration is None:
        raise InputError(
            'the bundle does not say which cosines are usual',
            where=bundle.path,
            expected='calibration.json, for an unknown_share above 0',
            fix='set unknown_share to 0, or export the run again',
        )
    return unknown_thresholds(vocabulary, bundle.vocabulary, bundle.calibration, unknown_share)


def bundle_revision(bundle: Bundle) -> str:
    """Short name of a bundle's weights and words, the same for equal ones."""
    files = bundle.manifest.files
    return f'{files[STUDENT_WEIGHTS][:8]}-{files[TEXT_FEATURES][:8]}'


def words_revision(bundle: Bundle, vocabulary: Vocabulary, thresholds: NDArray[np.float32]) -> str:
    """Short name of a bundle's weights with these words; that of the bundle for its own.

    It tells names, prompts, colours, templates, thresholds and text encoders apart.
    """
    own = bundle.vocabulary
    same = (vocabulary.classes, vocabulary.templates) == (own.classes, own.templates)
    if same and np.isneginf(thresholds).all():
        return bundle_revision(bundle)
    words = vocabulary.model_dump_json(include={'classes', 'templates'})
    parts = (words, thresholds.tobytes().hex(), encoder_digest(bundle), bundle_revision(bundle))
    digest = hashlib.sha256('\n'.join(parts).encode()).hexdigest()
    return f'{bundle.manifest.files[STUDENT_WEIGHTS][:8]}-{digest[:8]}'
