# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Tokenizers of text encoders as `tokenizers.Tokenizer`, which saves itself as one JSON file."""

from __future__ import annotations

from typing import Any

from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.words.text_cleaning import Cleaning

# The words that open_clip's tokenizer knows, as its regular expression has them. The text has its
# case already, so that only the contractions are to be found in any case. It drops one character,
# U+0345: as a mark it is no letter, but without regard to case it is a Greek iota.
CLIP_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"


def sentence_tokenizer(model: Any, context_length: int) -> Any:
    """The tokenizer of a model of `sentence_transformers`."""
    return _cut_at(_copy(model.tokenizer), context_length)


def clip_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer of a model of open_clip.

    Raises:
        InputError: it has a step that the format does not hold.
    """
    kind = type(tokenizer).__name__
    odd_mode = getattr(tokenizer, 'tokenizer_mode', '') or getattr(
        tokenizer, 'strip_sep_token', False
    )
    if kind == 'SimpleTokenizer' and tokenizer.reduction_fn is None:
        return _byte_pairs(tokenizer)
    if kind in ('HFTokenizer', 'SigLipTokenizer') and not odd_mode:
        return _cut_at(_copy(tokenizer.tokenizer), tokenizer.context_length)
    raise InputError(
        'the tokenizer of the CLIP model cannot be exported',
        got=kind,
        fix='export with --without-text-encoder',
    )


def clip_cleaning(tokenizer: Any) -> Cleaning:
    """What an open_clip tokenizer does to the text first."""
    if type(tokenizer).__name__ == 'SigLipTokenizer':
        return 'canonicalize'
    cleaning: dict[str, Cleaning] = {
        '_clean_lower': 'lower',
        '_clean_whitespace': 'whitespace',
        '_clean_canonicalize': 'canonicalize',
    }
    return cleaning[tokenizer.clean_fn.__name__]


def clip_padding_id(tokenizer: Any) -> int:
    """Token that an open_clip tokenizer fills up with."""
    return int(getattr(getattr(tokenizer, 'tokenizer', None), 'pad_token_id', 0))


def _copy(fast_tokenizer: Any) -> Any:
    """A copy of what a tokenizer of `transformers` is made of."""
    tokenizers = import_extra('tokenizers', 'words')
    copy = tokenizers.Tokenizer.from_str(fast_tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    return copy


def _cut_at(tokenizer: Any, context_length: int) -> Any:
    tokenizer.enable_truncation(context_length)
    return tokenizer


def _byte_pairs(simple: Any) -> Any:
    """CLIP's byte-pair encoding with what open_clip's `SimpleTokenizer` holds.

    Sennrich et al. 2016, on bytes: words end in `</w>`, a text is put between two special tokens
    and cut so that it keeps them.
    """
    tokenizers = import_extra('tokenizers', 'words')
    start, end = (simple.decoder[token] for token in (simple.sot_token_id, simple.eot_token_id))
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=simple.encoder, merges=list(simple.bpe_ranks), end_of_word_suffix='</w>'
        )
    )
    tokenizer.add_special_tokens([start, end])
    before = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence(
        [
            before.Split(tokenizers.Regex(CLIP_WORDS), behavior='removed', invert=True),
            before.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f'{start} $A {end}',
        special_tokens=[(start, simple.sot_token_id), (end, simple.eot_token_id)],
    )
    return _cut_at(tokenizer, simple.context_length)
