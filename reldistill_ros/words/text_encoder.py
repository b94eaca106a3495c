# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bundle's text encoder: words typed at run time become unit vectors, without torch.

`text_encoder.onnx` in ONNX Runtime with `tokenizer.json` of the package `tokenizers`, and
`text_encoder.json` for what neither of them says; or `text_table.npz`, a list of words whose
embeddings are known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.bundle import (
    TEXT_ENCODER,
    TEXT_ENCODER_FILES,
    TEXT_ENCODER_SETTINGS,
    TEXT_TABLE,
    TOKENIZER,
    Bundle,
)
from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.prompts import Encode, unit_rows
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.onnx_session import open_session
from reldistill_ros.words.text_cleaning import Cleaning, clean_text
from reldistill_ros.words.text_table import TextTable

BATCH_SIZE = 32


class TextEncoderSettings(Settings):
    """What the graph and the tokenizer do not say.

    Attributes:
        name: of the original, as in the manifest.
        embedding_size: C.
        cleaning: of the text before it is cut into tokens.
        context_length: tokens at most; the tokenizer cuts longer texts.
        padding_id: token that fills up the shorter rows of a batch.
        pad_to: `longest` row of the batch where padding changes nothing, which is much faster;
            `context` where the network sees the padding.
        attention_mask: whether the graph wants to know which tokens are padding.
    """

    name: str
    embedding_size: int = Field(gt=0)
    cleaning: Cleaning
    context_length: int = Field(gt=0)
    padding_id: int = Field(ge=0)
    pad_to: Literal['longest', 'context']
    attention_mask: bool


class OnnxTextEncoder:
    """Texts to unit vectors.

    It computes in the calling thread and in no other where `num_threads` is 1.

    Args:
        settings: see there.
        tokenizer: content of `tokenizer.json`.
        graph: content of `text_encoder.onnx`: `input_ids` (B, L) int64, and `attention_mask`
            likewise where `settings` says so, to `embeddings` (B, C).
        num_threads: of one inference.

    Raises:
        InputError: one of the two is not what it should be, or `tokenizers` is not installed.
    """

    def __init__(
        self, settings: TextEncoderSettings, tokenizer: bytes, graph: bytes, num_threads: int
    ) -> None:
        self.settings = settings
        self._tokenizer = _open_tokenizer(tokenizer)
        self._control_tokens = _control_tokens(tokenizer)
        self._session = open_session(
            graph,
            num_threads,
            what='text encoder',
            where=TEXT_ENCODER,
            spins=False,
            keeps_memory=False,
        )

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed K texts as (K, C) unit rows.

        Raises:
            InputError: a text is empty, or holds a word that controls the encoder.
        """
        ids = [self.tokenize(text) for text in texts]
        rows = np.zeros((len(ids), self.settings.embedding_size), np.float32)
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        for start in range(0, len(ids), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            rows[batch] = self._embed([ids[index] for index in batch])
        return unit_rows(rows)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without padding; see `__call__`."""
        cleaned = clean_text(text, self.settings.cleaning)
        if not cleaned.strip():
            raise InputError(
                'a text to embed is empty', got=repr(text), fix='give it a word or remove it'
            )
        for token in self._control_tokens:
            if token in cleaned:
                raise InputError(
                    f'a text to embed holds {token}, which the text encoder takes for a command',
                    got=repr(text),
                    fix='write it without',
                )
        ids: list[int] = self._tokenizer.encode(cleaned).ids
        return ids

    def _embed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Token ids of a batch to (B, C)."""
        settings = self.settings
        longest = max(map(len, rows))
        length = longest if settings.pad_to == 'longest' else settings.context_length
        ids = np.full((len(rows), length), settings.padding_id, np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        inputs = {'input_ids': ids} | ({'attention_mask': mask} if settings.attention_mask else {})
        embeddings: NDArray[np.float32] = self._session.run(None, inputs)[0]
        return embeddings


def load_text_encoder(bundle: Bundle, num_threads: int = 1) -> Encode:
    """Load the text encoder, or the table of words, that a bundle carries.

    Raises:
        InputError: it carries none, or a file is not the one that was exported.
    """
    if bundle.holds(*TEXT_ENCODER_FILES):
        settings = parse_settings(
            json.loads(bundle.read(TEXT_ENCODER_SETTINGS)),
            TextEncoderSettings,
            bundle.path / TEXT_ENCODER_SETTINGS,
        )
        return OnnxTextEncoder(
            settings, bundle.read(TOKENIZER), bundle.read(TEXT_ENCODER), num_threads
        )
    if bundle.holds(TEXT_TABLE):
        with np.load(BytesIO(bundle.read(TEXT_TABLE)), allow_pickle=False) as table:
            return TextTable(table['words'].tolist(), table['embeddings'], bundle.path)
    raise InputError(
        'the bundle carries no text encoder: it knows its own words only',
        where=bundle.path,
        expected=f'some of {", ".join(bundle.vocabulary.prompts)}',
        fix='export the run again with its text encoder',
    )


def encoder_digest(bundle: Bundle) -> str:
    """Equal for bundles whose text encoders are; the text encoder's name where it is not there."""
    files = bundle.manifest.files
    parts = [files[name] for name in (*TEXT_ENCODER_FILES, TEXT_TABLE) if name in files]
    return '-'.join(parts) or bundle.manifest.text_encoder


def _open_tokenizer(content: bytes) -> Any:
    tokenizers = import_extra('tokenizers', 'words')
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except ValueError as error:
        raise InputError(
            'the tokenizer cannot be read', where=TOKENIZER, got=error, fix='export again'
        ) from error
    tokenizer.no_padding()
    return tokenizer


def _control_tokens(content: bytes) -> tuple[str, ...]:
    """Words that no user may type: they would end the text, or mask a part of it."""
    added = json.loads(content).get('added_tokens', [])
    return tuple(entry['content'] for entry in added if entry['special'])
