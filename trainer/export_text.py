# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The text encoder of a run as files that the robot reads without torch, checked word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reldistill_ros.core import bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.words.text_encoder import OnnxTextEncoder, TextEncoderSettings
from trainer.open_clip_text import OpenClipEncoder
from trainer.text import MinilmEncoder, TableEncoder, TextEncoder
from trainer.text_graph import (
    causal_tower,
    sentence_tower,
    whole_tower,
    write_text_graph,
)
from trainer.text_tokenizer import (
    clip_cleaning,
    clip_padding_id,
    clip_tokenizer,
    sentence_tokenizer,
)

# Of 1 - cosine. Weights are stored in 16 bits, which costs MiniLM and a ViT-B/16 4e-7.
TOLERANCE = 1e-5
AWKWARD_TEXTS = (
    'CAR',
    'Straße mit Äpfeln',
    'naïve café',
    'cafe\u0301',
    'ΟΔΟΣ',
    'İstanbul',
    '自動車',
    '한국어',
    'автомобиль',
    'سيارة حمراء',
    'बस',
    '🚗 and 👨\u200d👩\u200d👧',
    '\uff46\uff55\uff4c\uff4c width',
    'mojibake: schÃ¶n',
    '\u201cquoted\u201d \u2013 and \u2018more\u2019\u2026',
    "the driver's, they'll, WE'VE",
    'rock &amp;amp; roll &lt;b&gt;',
    'under_score, semi;colon/slash\\back',
    '100 km/h at 3.5 m²',
    'x\u200by soft\u00adhyphen',
    '\t tab\nand  line\r\nbreak ',
    'U\u0345 combining \u0301alone',
    'antidisestablishmentarianism' * 7,
    'lamp ' * 300,
)


@dataclass(frozen=True)
class _Pair:
    """The original and what was exported of it."""

    original: MinilmEncoder | OpenClipEncoder
    exported: OnnxTextEncoder


def export_text(encoder: TextEncoder, vocabulary: Vocabulary, folder: Path) -> dict[str, float]:
    """Write the text encoder's files into a bundle's folder, and compare them with the original.

    Token ids must be equal on all sentences of the vocabulary and on `AWKWARD_TEXTS`; embeddings
    are compared on every prompt, on every template, and on those texts.

    Returns:
        `max_cosine_error` (largest 1 - cosine), `num_texts` that were embedded, `num_tokenized`,
        and `megabytes` of the files.

    Raises:
        InputError: the encoder is of another kind, has a part that cannot be exported, or differs
            from the original.
    """
    if isinstance(encoder, TableEncoder):
        table = encoder.table
        file = folder / bundle.TEXT_TABLE
        np.savez(file, words=np.array(table.words), embeddings=table.embeddings)
        return {'num_texts': len(table.words), 'megabytes': file.stat().st_size / 1e6}
    if isinstance(encoder, MinilmEncoder):
        settings = _write_minilm(encoder, folder)
    elif isinstance(encoder, OpenClipEncoder):
        settings = _write_open_clip(encoder, folder)
    else:
        raise InputError(
            'this kind of text encoder cannot be exported',
            got=encoder.name,
            fix='export with --without-text-encoder',
        )
    write_json(folder / bundle.TEXT_ENCODER_SETTINGS, settings.model_dump(mode='json'))
    exported = OnnxTextEncoder(
        settings,
        (folder / bundle.TOKENIZER).read_bytes(),
        (folder / bundle.TEXT_ENCODER).read_bytes(),
        num_threads=1,
    )
    parity = _compare(_Pair(encoder, exported), vocabulary)
    sizes = [(folder / name).stat().st_size for name in bundle.TEXT_ENCODER_FILES]
    return {**parity, 'megabytes': sum(sizes) / 1e6}


def _write_minilm(encoder: MinilmEncoder, folder: Path) -> TextEncoderSettings:
    length = int(encoder.model.max_seq_length)
    tokenizer = sentence_tokenizer(encoder.model, length)
    tokenizer.save(str(folder / bundle.TOKENIZER), pretty=False)
    tower = sentence_tower(encoder.model)
    write_text_graph(tower, folder / bundle.TEXT_ENCODER, context_length=length)
    return TextEncoderSettings(
        name=encoder.name,
        embedding_size=encoder.embedding_size,
        cleaning='none',
        context_length=length,
        padding_id=encoder.model.tokenizer.pad_token_id,
        pad_to='longest',
        attention_mask=True,
    )


def _write_open_clip(encoder: OpenClipEncoder, folder: Path) -> TextEncoderSettings:
    tokenizer = clip_tokenizer(encoder.tokenizer)
    tokenizer.save(str(folder / bundle.TOKENIZER), pretty=False)
    causal = causal_tower(encoder.model)
    length = int(encoder.tokenizer.context_length)
    write_text_graph(
        causal or whole_tower(encoder.model),
        folder / bundle.TEXT_ENCODER,
        context_length=length,
        device=encoder.device,
    )
    return TextEncoderSettings(
        name=encoder.name,
        embedding_size=encoder.embedding_size,
        cleaning=clip_cleaning(encoder.tokenizer),
        context_length=length,
        padding_id=clip_padding_id(encoder.tokenizer),
        pad_to='longest' if causal else 'context',
        attention_mask=False,
    )


def _compare(pair: _Pair, vocabulary: Vocabulary) -> dict[str, float]:
    """Compare token ids and embeddings, see `export_text`."""
    prompts, templates = vocabulary.prompts, vocabulary.templates
    sentences = [template.replace('{}', prompt) for prompt in prompts for template in templates]
    tokenized = list(dict.fromkeys([*sentences, *AWKWARD_TEXTS]))
    embedded = list(
        dict.fromkeys(
            [*sentences[:: len(templates)], *sentences[: len(templates)], *AWKWARD_TEXTS]
        )
    )
    _check_tokens(pair, tokenized)
    cosines = np.sum(pair.original(embedded).astype(np.float64) * pair.exported(embedded), axis=1)
    error = float(np.max(1 - cosines))
    if not error <= TOLERANCE:
        raise InputError(
            'the exported text encoder differs from the original; no bundle was written',
            where=f'{embedded[int(cosines.argmin())]!r}',
            expected=f'a cosine of 1, to {TOLERANCE}',
            got=1 - error,
            fix='export with --without-text-encoder, and report this',
        )
    return {
        'max_cosine_error': max(error, 0.0),
        'num_texts': len(embedded),
        'num_tokenized': len(tokenized),
    }


def _check_tokens(pair: _Pair, texts: Sequence[str]) -> None:
    """Token ids without padding are those of the original."""
    for text, expected in zip(texts, original_tokens(pair.original, texts)):
        got = pair.exported.tokenize(text)
        padded = got + [pair.exported.settings.padding_id] * (len(expected) - len(got))
        if padded != expected:
            raise InputError(
                'the exported tokenizer differs from the original; no bundle was written',
                where=repr(text),
                expected=expected,
                got=got,
                fix='export with --without-text-encoder, and report this',
            )


def original_tokens(
    encoder: MinilmEncoder | OpenClipEncoder, texts: Sequence[str]
) -> list[list[int]]:
    """Token ids of the original encoder, padded to any length."""
    if isinstance(encoder, OpenClipEncoder):
        ids: list[list[int]] = encoder.tokenizer(list(texts)).tolist()
        return ids
    return [encoder.model.preprocess([text])['input_ids'][0].tolist() for text in texts]
