# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From words to the rows of the text matrix: prompts, templates, centring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import Vocabulary

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

# Shorter rows are rounding errors of float32, which normalising would blow up to a direction.
SHORTEST_ROW = 1e-6


def unit_rows(rows: ArrayLike) -> NDArray[np.float32]:
    """Scale each row to unit length; rows shorter than `SHORTEST_ROW` become zero.

    A row with a value that is not finite becomes NaN, for the caller to find.

    Args:
        rows: (..., C), any float type; computed in float64.
    """
    values = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    short = lengths < SHORTEST_ROW
    with np.errstate(invalid='ignore'):
        units = values / np.where(short, 1.0, lengths)
    return np.where(short, 0.0, units).astype(np.float32)


def prompt_embeddings(vocabulary: Vocabulary, encode: Encode) -> NDArray[np.float32]:
    """Embed every prompt of a vocabulary.

    Each prompt is put into each template; each sentence's embedding is normalised, these are
    averaged over the templates, and the mean is normalised again: the ensemble of the zero-shot
    protocol of CLIP (Radford et al. 2021, section 3.1.4).

    Args:
        vocabulary: classes with their prompts, and the templates.
        encode: words to embeddings, (K,) to (K, C); called once with all sentences.

    Returns:
        (M, C) unit rows in the order of `vocabulary.prompts`.

    Raises:
        InputError: the encoder has no embedding for a prompt, or not one row per sentence.
    """
    return ensembles(vocabulary.prompts, vocabulary.templates, encode)


def ensembles(
    prompts: Sequence[str], templates: Sequence[str], encode: Encode
) -> NDArray[np.float32]:
    """Embed prompts, see `prompt_embeddings`: (M, C) unit rows."""
    sentences = [template.replace('{}', prompt) for prompt in prompts for template in templates]
    embedded = np.asarray(encode(sentences))
    if embedded.ndim != 2 or len(embedded) != len(sentences):
        raise InputError(
            'the text encoder did not return one embedding per sentence',
            expected=f'({len(sentences)}, C)',
            got=embedded.shape,
        )
    by_prompt = unit_rows(embedded).reshape(len(prompts), len(templates), -1)
    rows = unit_rows(by_prompt.mean(axis=1, dtype=np.float64))
    check_directions(prompts, rows)
    return rows


def center(embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract a stored mean and renormalise.

    Real text embeddings share one narrow cone; without their common part they differ more. Do
    the same, with the same mean, to teacher features, student features and prompts.

    Args:
        embeddings: (N, C) unit rows; zero rows (no supervision) stay zero.
        mean: (C,).

    Returns:
        (N, C) unit rows; zero where a row was zero or is the mean itself.

    Raises:
        InputError: the mean has another dimension than the embeddings.
    """
    if mean.shape != embeddings.shape[-1:]:
        raise InputError(
            'the mean to subtract does not belong to these embeddings',
            expected=f'shape {embeddings.shape[-1:]}',
            got=mean.shape,
        )
    known = embeddings.any(axis=-1)
    rows = np.asarray(embeddings, np.float32) - mean.astype(np.float32)
    lengths = np.sqrt(np.einsum('...c,...c->...', rows, rows))
    scale = np.zeros_like(lengths)
    np.divide(1, lengths, out=scale, where=known & ~(lengths < SHORTEST_ROW))
    rows *= scale[..., None]
    return rows


def check_directions(prompts: Sequence[str], rows: NDArray[np.float32]) -> None:
    """Refuse prompts whose rows (M, C) are zero or not finite.

    Raises:
        InputError: names these prompts.
    """
    lengths = np.linalg.norm(rows, axis=1)
    bad = [prompt for prompt, length in zip(prompts, lengths) if not length > 0]
    if bad:
        raise InputError(
            'the text encoder has no embedding for some prompts (zero or not finite)',
            where=', '.join(map(repr, bad)),
            fix='use other words, or another text encoder',
        )
