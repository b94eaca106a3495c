# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Words typed at run time, with a real bundle: the same labels as the exported ones give."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny_clip import TINY_TEXT, tiny_clip
from tiny_drive import WORDS as TINY_WORDS
from tiny_drive import scene

from reldistill_ros.core.bundle import load_bundle, sha256_of
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import center, ensembles, prompt_embeddings, unit_rows
from reldistill_ros.labeller import Labeller
from reldistill_ros.words.text_encoder import load_text_encoder
from reldistill_ros.words.words import (
    PromptEncoder,
    bundle_revision,
    bundle_words,
    parse_prompts,
)
from trainer.export import export
from trainer.export_parts import Parts
from trainer.export_text import export_text


@pytest.fixture(scope='module')
def table_bundle(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp('bundle') / 'tiny'
    export(trained, path, num_threads=1)
    return path


@pytest.fixture(scope='module')
def clip_bundle(table_bundle, tmp_path_factory):
    """The same bundle as if its words came out of a CLIP, centred."""
    path = tmp_path_factory.mktemp('clip') / 'bundle'
    shutil.copytree(table_bundle, path)
    (path / 'text_table.npz').unlink()
    encoder = tiny_clip(
        tmp_path_factory.mktemp('weights'), 'tiny-words-test', TINY_TEXT, embed_dim=16
    )
    vocabulary = load_bundle(table_bundle).vocabulary
    export_text(encoder, vocabulary, path)
    embeddings = prompt_embeddings(vocabulary, encoder)
    mean = 0.5 * embeddings.mean(axis=0)
    np.savez(
        path / 'text_features.npz',
        prompt_embeddings=center(embeddings, mean),
        embedding_mean=mean,
    )
    return _sign(path)


def _sign(path):
    """Enter the files as they are into the manifest."""
    manifest = json.loads((path / 'manifest.json').read_text())
    names = sorted(file.name for file in path.iterdir() if file.name != 'manifest.json')
    manifest['files'] = {name: sha256_of(path / name) for name in names}
    (path / 'manifest.json').write_text(json.dumps(manifest))
    return path


@pytest.fixture
def copy(clip_bundle, tmp_path):
    return shutil.copytree(clip_bundle, tmp_path / 'copy')


@pytest.fixture(scope='module')
def points():
    return scene(np.random.default_rng(99))[0]


def typed(bundle, *prompts, templates=()):
    return parse_prompts(prompts, templates, bundle.vocabulary)


def test_the_bundle_s_own_words_typed_give_its_own_rows_and_revision(clip_bundle):
    bundle = load_bundle(clip_bundle)
    words = PromptEncoder.from_bundle(bundle, None)(typed(bundle, *bundle.vocabulary.class_names))
    assert np.array_equal(words.prompt_embeddings, bundle.prompt_embeddings)
    assert words.revision == bundle_revision(bundle) == bundle_words(bundle).revision


def test_the_exported_encoder_gives_the_exported_rows_and_labels(clip_bundle, points):
    bundle = load_bundle(clip_bundle)
    own = bundle.vocabulary
    encoded = ensembles(own.prompts, own.templates, load_text_encoder(bundle))
    rows = center(encoded, bundle.embedding_mean)
    np.testing.assert_allclose(rows, bundle.prompt_embeddings, atol=2e-3)
    labeller = Labeller.from_bundle(clip_bundle, num_threads=1)
    expected = labeller(points).class_ids
    words = bundle_words(bundle)
    labeller.use(labeller.fold(type(words)(own, rows, words.thresholds, 'typed')))
    assert len(np.unique(expected)) > 1
    assert np.array_equal(labeller(points).class_ids, expected)


def test_new_words_are_encoded_centred_and_kept_on_disk(clip_bundle, tmp_path, monkeypatch):
    bundle = load_bundle(clip_bundle)
    vocabulary = typed(bundle, TINY_WORDS[0], 'garbage bin: garbage bin, Mülltonne')
    words = PromptEncoder.from_bundle(bundle, tmp_path / 'cache')(vocabulary)
    encoder = load_text_encoder(bundle)
    expected = center(ensembles(vocabulary.prompts, ('{}',), encoder), bundle.embedding_mean)
    np.testing.assert_allclose(words.prompt_embeddings, expected, atol=2e-3)
    assert np.array_equal(words.prompt_embeddings[0], bundle.prompt_embeddings[0])
    np.testing.assert_allclose(words.prompt_embeddings[1:], expected[1:], atol=1e-6)

    def fail(bundle, num_threads):
        raise AssertionError('the text encoder was loaded')

    monkeypatch.setattr('reldistill_ros.words.words.load_text_encoder', fail)
    again = PromptEncoder.from_bundle(bundle, tmp_path / 'cache')(vocabulary)
    assert np.array_equal(again.prompt_embeddings, words.prompt_embeddings)
    assert again.revision == words.revision
    with pytest.raises(AssertionError, match='was loaded'):
        PromptEncoder.from_bundle(bundle, tmp_path / 'cache')(typed(bundle, 'another word'))


def test_the_revision_tells_names_words_templates_and_thresholds_apart(clip_bundle):
    bundle = load_bundle(clip_bundle)
    encode = PromptEncoder.from_bundle(bundle, None)
    revisions = [
        bundle_revision(bundle),
        encode(typed(bundle, 'bin')).revision,
        encode(typed(bundle, 'bin: box')).revision,
        encode(typed(bundle, 'bin', 'box')).revision,
        encode(typed(bundle, 'box', 'bin')).revision,
        encode(typed(bundle, 'bin', templates=('a {}',))).revision,
        encode(typed(bundle, 'bin'), 0.1).revision,
        encode(typed(bundle, 'bin'), 0.2).revision,
        encode(bundle.vocabulary, 0.1).revision,
    ]
    assert len(set(revisions)) == len(revisions)
    assert encode(typed(bundle, ' bin ')).revision == revisions[1]
    assert len({revision.split('-')[0] for revision in revisions}) == 1


def test_points_of_the_asked_share_of_each_class_are_unknown(table_bundle, trained):
    bundle = load_bundle(table_bundle)
    labeller = Labeller.from_bundle(table_bundle, num_threads=1)
    (drive,) = trained.run.open_training()
    sweeps = [drive[index].points for index in range(len(drive))]
    before = np.concatenate([labeller(points).class_ids for points in sweeps])
    labeller.use(labeller.fold(bundle_words(bundle, unknown_share=0.1)))
    after = np.concatenate([labeller(points).class_ids for points in sweeps])
    assert set(bundle.calibration.classes) == set(bundle.vocabulary.class_names)
    assert bundle.calibration.num_points == (before != 255).sum()
    for index in range(3):
        given = before == index
        assert (after[given] == 255).mean() == pytest.approx(0.1, abs=0.02)
        assert set(after[given].tolist()) == {index, 255}


def test_a_bundle_without_calibration_has_no_unknown_points(copy):
    (copy / 'calibration.json').unlink()
    bundle = load_bundle(_sign(copy))
    encode = PromptEncoder.from_bundle(bundle, None)
    assert np.isneginf(encode(bundle.vocabulary).thresholds).all()
    with pytest.raises(InputError, match=r'(?s)which cosines are usual.*unknown_share'):
        encode(bundle.vocabulary, 0.1)


def test_a_table_of_words_names_those_that_are_written_alike(table_bundle):
    bundle = load_bundle(table_bundle)
    encode = PromptEncoder.from_bundle(bundle, None)
    word = TINY_WORDS[1]
    assert np.array_equal(
        encode(typed(bundle, f'other: {word.upper()}')).prompt_embeddings[0],
        unit_rows(load_text_encoder(bundle)([word]))[0],
    )
    with pytest.raises(InputError, match=rf"(?s)does not hold '{word}x'.*{word}.*any word"):
        encode(typed(bundle, f'{word}x'))


def test_a_bundle_without_text_encoder_knows_its_own_words_only(trained, tmp_path):
    export(trained, tmp_path / 'bundle', 1, Parts(text_encoder=False))
    bundle = load_bundle(tmp_path / 'bundle')
    assert 'text' not in bundle.manifest.parity
    encode = PromptEncoder.from_bundle(bundle, None)
    words = encode(typed(bundle, TINY_WORDS[2], TINY_WORDS[0]))
    assert np.array_equal(words.prompt_embeddings, bundle.prompt_embeddings[[2, 0]])
    with pytest.raises(InputError, match=r'(?s)no text encoder.*' + TINY_WORDS[0]):
        encode(typed(bundle, 'new word'))


def test_a_text_encoder_that_changes_after_loading_is_not_run(copy):
    encode = PromptEncoder.from_bundle(load_bundle(copy), None)
    data = bytearray((copy / 'text_encoder.onnx').read_bytes())
    data[len(data) // 2] ^= 1
    (copy / 'text_encoder.onnx').write_bytes(data)
    with pytest.raises(InputError, match=r'(?s)not the one that was exported.*text_encoder\.onnx'):
        encode.load()


def test_a_part_of_a_text_encoder_is_refused(copy):
    (copy / 'tokenizer.json').unlink()
    with pytest.raises(InputError, match=r'(?s)only a part.*tokenizer\.json'):
        load_bundle(_sign(copy))


@pytest.mark.parametrize('name', ['../outside', '/etc/hostname', '..', 'folder/file'])
def test_files_outside_the_bundle_are_not_opened(copy, name):
    manifest = json.loads((copy / 'manifest.json').read_text())
    (copy.parent / 'outside').write_text('')
    manifest['files'][name] = '0' * 64
    (copy / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(InputError, match='missing'):
        load_bundle(copy)


def test_objects_in_the_embeddings_are_not_unpickled(copy):
    np.savez(copy / 'text_features.npz', prompt_embeddings=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r'(?s)embeddings cannot be read.*allow_pickle=False'):
        load_bundle(_sign(copy))
