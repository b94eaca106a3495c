# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What an unknown word may have been meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelt most alike, None where none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(guess: str | None) -> str:
    """A question to append to a complaint, empty where nothing can be guessed."""
    return '' if guess is None else f'; did you mean {guess}?'


def known_keys(settings_class: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Keys that a class of settings has at a place.

    Args:
        settings_class: with all below it.
        place: keys, positions in lists, and tags of unions from the top, as pydantic's errors
            name them.

    Returns:
        Their names; none where the place holds no settings.
    """
    root = settings_class.model_json_schema()
    schema: Schema = root
    for step in place:
        schema = _below(_resolve(schema, root), step)
    return list(_resolve(schema, root).get('properties', ()))


def _below(schema: Schema, step: int | str) -> Schema:
    """What stands below a key, a position or a tag."""
    if isinstance(step, int):
        listed = schema.get('prefixItems', ())
        found = listed[step] if step < len(listed) else schema.get('items', {})
    elif step in schema.get('properties', {}):
        found = schema['properties'][step]
    elif step in (tags := schema.get('discriminator', {}).get('mapping', {})):
        found = {'$ref': tags[step]}
    else:
        found = schema.get('additionalProperties', {})
    return found if isinstance(found, Mapping) else {}


def _resolve(schema: Schema, root: Schema) -> Schema:
    """The schema that a reference, or one that may also be null, stands for."""
    while True:
        others = [each for each in schema.get('anyOf', ()) if each.get('type') != 'null']
        if '$ref' in schema:
            schema = root['$defs'][schema['$ref'].rpartition('/')[2]]
        elif len(others) == 1:
            (schema,) = others
        else:
            return schema
