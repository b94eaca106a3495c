# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a user types at run time becomes a vocabulary, or an error that says what to mend."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence, Set

from pydantic import ValidationError

from reldistill_ros.core.colors import distinct_colors
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import (
    MAX_CLASSES,
    MAX_PROMPT_LENGTH,
    Vocabulary,
    VocabularyClass,
)

MAX_ENTRY_LENGTH = 4000
MAX_PROMPTS = 1000  # of all classes together
MAX_TEMPLATES = 100
MAX_SENTENCES = 25_000  # prompts times templates: some minutes of encoding
TYPED = 'typed at run time'


def parse_prompts(
    prompts: Sequence[str], templates: Sequence[str], known: Vocabulary
) -> Vocabulary:
    """Make a vocabulary of what a user typed.

    Args:
        prompts: a class each, as `name` or as `name: word, word`. A name of `known` without
            words keeps its synonyms, less those that are typed for another class; any name of
            `known` keeps its colour. Other classes get colours that differ.
        templates: sentences with one `{}` for the prompt; those of `known` where empty.
        known: the bundle's vocabulary.

    Raises:
        InputError: nothing, too much, too long, twice the same, or text that nobody can see.
    """
    _check_amount(prompts, templates)
    old = {_key(entry.name): entry for entry in known.classes}
    entries = [_parse_entry(text, position, old) for position, text in enumerate(prompts)]
    for position, template in enumerate(templates):
        _check_text(template, f'template {position}', MAX_PROMPT_LENGTH)
    typed = {_key(word) for name, words in entries for word in words or (name,)}
    new_colors = iter(distinct_colors(len(entries), [entry.color for entry in known.classes]))
    classes = []
    for name, words in entries:
        same = old.get(_key(name))
        if same is None:
            classes.append(VocabularyClass(name=name, prompts=words, color=next(new_colors)))
        else:
            kept = words or _synonyms(same, typed)
            classes.append(same.model_copy(update={'prompts': kept}))
    vocabulary = _build(tuple(classes), tuple(templates) or known.templates)
    _check_sentences(vocabulary)
    return vocabulary


def _check_amount(prompts: Sequence[str], templates: Sequence[str]) -> None:
    """Before anything is computed."""
    if not prompts:
        raise InputError('there are no prompts', where='prompts', fix='give one class at least')
    for name, given, most in (
        ('prompts', len(prompts), MAX_CLASSES),
        ('templates', len(templates), MAX_TEMPLATES),
    ):
        if given > most:
            raise InputError(f'there are too many {name}', expected=f'at most {most}', got=given)


def _parse_entry(
    text: str, position: int, old: Mapping[str, VocabularyClass]
) -> tuple[str, tuple[str, ...]]:
    """Name and words of one class."""
    where = f'prompt {position}'
    _check_text(text, where, MAX_ENTRY_LENGTH)
    if _key(text) in old:  # also one whose name has a colon
        return text.strip(), ()
    name, colon, rest = text.partition(':')
    words = tuple(word.strip() for word in rest.split(',')) if colon else ()
    for part in (name, *words):
        _check_text(part, f'{where}, {text[:80]!r}', MAX_PROMPT_LENGTH)
    return name.strip(), words


def _synonyms(same: VocabularyClass, typed: Set[str]) -> tuple[str, ...]:
    """The prompts of a known class, less those that are typed for others."""
    others = typed - {_key(same.name)}
    return tuple(word for word in same.prompts if _key(word) not in others)


def _check_text(text: str, where: str, most: int) -> None:
    if len(text) > most:
        raise InputError(
            'a text is too long', where=where, expected=f'at most {most} characters', got=len(text)
        )
    if any(unicodedata.category(character) == 'Cs' for character in text):
        raise InputError('a text is not Unicode', where=where, got=ascii(text[:80]))
    if not any(map(_is_visible, text)):
        raise InputError(
            'a text is empty',
            where=where,
            expected="'name' or 'name: word, word'",
            got=ascii(text[:80]),
            fix='give it a word or remove it',
        )


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != 'Z' and category not in ('Cc', 'Cf')


def _build(classes: tuple[VocabularyClass, ...], templates: tuple[str, ...]) -> Vocabulary:
    try:
        return Vocabulary(version=1, name=TYPED, classes=classes, templates=templates)
    except ValidationError as error:
        raise InputError(
            'the prompts cannot be used: '
            + '; '.join(problem['msg'].removeprefix('Value error, ') for problem in error.errors())
        ) from error


def _check_sentences(vocabulary: Vocabulary) -> None:
    num = len(vocabulary.prompts)
    sentences = num * len(vocabulary.templates)
    if num > MAX_PROMPTS or sentences > MAX_SENTENCES:
        raise InputError(
            'there are too many words',
            expected=f'at most {MAX_PROMPTS}, and {MAX_SENTENCES} times templates',
            got=f'{num}, {sentences} times templates',
            fix='use fewer synonyms or fewer templates',
        )


def _key(name: str) -> str:
    return name.strip().casefold()
