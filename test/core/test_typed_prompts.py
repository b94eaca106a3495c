# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a user types becomes a vocabulary, or an error that says what to mend."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.core.colors import distinct_colors
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.words.words import parse_prompts

KNOWN = Vocabulary.model_validate(
    {
        'version': 1,
        'name': 'street',
        'classes': (
            {'name': 'car', 'prompts': ('car', 'van'), 'color': (0, 0, 255)},
            {'name': 'plants', 'prompts': ('tree', 'bush'), 'color': (0, 255, 0)},
            {'name': 'sign: stop', 'color': (255, 0, 0)},
        ),
        'templates': ('a {}', 'the {}'),
    }
)


def parse(*prompts: str, templates: tuple[str, ...] = ()) -> Vocabulary:
    return parse_prompts(prompts, templates, KNOWN)


def test_a_known_name_keeps_its_synonyms_and_its_color():
    vocabulary = parse(' Car ', 'lamp post')
    assert vocabulary.class_names == ('car', 'lamp post')
    assert vocabulary.prompts == ('car', 'van', 'lamp post')
    assert vocabulary.classes[0].color == (0, 0, 255)
    assert vocabulary.templates == KNOWN.templates


def test_typed_words_take_the_place_of_the_synonyms():
    vocabulary = parse('car: lorry , truck', 'tree', templates=('{}',))
    assert vocabulary.prompts == ('lorry', 'truck', 'tree')
    assert vocabulary.classes[0].color == (0, 0, 255)
    assert vocabulary.templates == ('{}',)


def test_a_synonym_that_is_typed_as_a_class_belongs_to_that_class():
    assert parse('plants', 'tree').prompts == ('bush', 'tree')
    assert parse('greenery: bush', 'plants').prompts == ('bush', 'tree')


def test_a_known_name_may_hold_a_colon():
    assert parse('sign: stop').class_names == ('sign: stop',)
    assert parse('sign: go').classes[0].prompts == ('go',)


def test_the_bundle_s_own_names_give_its_own_classes():
    assert parse(*KNOWN.class_names).classes == KNOWN.classes


@pytest.mark.parametrize(
    ('prompts', 'message'),
    [
        ((), 'no prompts'),
        (('',), r'(?s)empty.*prompt 0'),
        (('car', ' \t'), r'(?s)empty.*prompt 1'),
        (('\u200b\u00ad',), 'empty'),
        (('car:',), 'empty'),
        (('car: van,, bus',), 'empty'),
        ((': van',), 'empty'),
        (('tree', 'TREE '), 'stands twice'),
        (('a: x', 'b: x'), 'stands twice'),
        (('car', 'car: van'), 'stands twice'),
        (('x' * 201,), r'(?s)too long.*200'),
        (('name: ' + ', '.join(f'w{i}' for i in range(2000)),), r'(?s)too long.*4000'),
        (tuple(f'c{i}' for i in range(256)), r'(?s)too many prompts.*255.*256'),
        (
            tuple(f'c{i}: ' + ','.join(f'{i}w{j}' for j in range(9)) for i in range(150)),
            r'(?s)too many words.*1000.*1350',
        ),
        (('\ud800',), 'not Unicode'),
    ],
)
def test_what_cannot_be_used_is_refused(prompts, message):
    with pytest.raises(InputError, match=message):
        parse(*prompts)


@pytest.mark.parametrize(
    ('templates', 'message'),
    [
        (('a photo',), r'exactly one \{\}'),
        (('{} and {}',), r'exactly one \{\}'),
        (('',), r'(?s)empty.*template 0'),
        (('{}' + 'x' * 200,), 'too long'),
        (tuple(f'{i} {{}}' for i in range(101)), 'too many templates'),
    ],
)
def test_templates_that_cannot_be_used_are_refused(templates, message):
    with pytest.raises(InputError, match=message):
        parse('car', templates=templates)


def test_many_words_in_many_templates_are_refused_together():
    with pytest.raises(InputError, match=r'(?s)too many words.*25500'):
        parse(*(f'c{i}' for i in range(255)), templates=tuple(f'{i} {{}}' for i in range(100)))


@given(st.lists(st.text(max_size=300), max_size=8), st.lists(st.text(max_size=12), max_size=2))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_vocabulary_or_an_input_error(prompts, templates):
    try:
        vocabulary = parse_prompts(prompts, templates, KNOWN)
    except InputError:
        return
    assert len(vocabulary.classes) == len(prompts) <= IGNORE_INDEX
    assert len(set(vocabulary.class_names)) == len(prompts)
    assert Vocabulary.model_validate_json(vocabulary.model_dump_json()) == vocabulary


WORDS = st.text(
    st.characters(exclude_categories=('C', 'Z'), exclude_characters=':,'), min_size=1, max_size=20
)


@given(
    st.lists(
        WORDS,
        min_size=1,
        max_size=20,
        unique_by=lambda w: unicodedata.normalize('NFC', w).casefold(),
    )
)
@settings(max_examples=100, deadline=None)
def test_any_different_visible_words_are_taken_as_they_are(words):
    taken = {'car', 'plants', 'sign: stop', 'van', 'tree', 'bush'}
    words = [word for word in words if word.casefold() not in taken]
    if words:
        assert parse(*words).class_names == tuple(word.strip() for word in words)


def test_255_classes_have_255_colors_and_a_longer_list_keeps_those_of_a_shorter_one():
    vocabulary = parse('car', *(f'c{i}' for i in range(254)))
    colors = [entry.color for entry in vocabulary.classes]
    assert len(set(colors)) == 255
    assert not set(colors) & {(96, 96, 96), (0, 0, 0)}
    assert distinct_colors(254, [])[:9] == distinct_colors(9, [])
    assert [entry.color for entry in parse('car', 'c0', 'c1').classes] == colors[:3]


def test_the_first_colors_differ_by_much():
    colors = distinct_colors(12, [])
    gaps = [
        sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5
        for index, one in enumerate(colors)
        for other in colors[:index]
    ]
    assert min(gaps) > 80
