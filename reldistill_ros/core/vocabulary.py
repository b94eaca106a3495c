# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Classes, the words that stand for them, and how a data set's own labels map onto them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings

IGNORE_INDEX = 255
MAX_CLASSES = 255
MAX_PROMPT_LENGTH = 200

ColorValue = Annotated[int, Field(ge=0, le=255)]


class VocabularyClass(Settings):
    """One class.

    Attributes:
        name: what it is called in tables and topics.
        prompts: words and synonyms that stand for it; the name itself where empty.
        color: RGB of its points in pictures.
    """

    name: str = Field(min_length=1, max_length=MAX_PROMPT_LENGTH)
    prompts: tuple[str, ...] = ()
    color: tuple[ColorValue, ColorValue, ColorValue]


class Vocabulary(Settings):
    """A versioned list of classes, stored as YAML.

    Attributes:
        version: version of the format.
        templates: sentences with one `{}` for the prompt; their embeddings are averaged.
        label_names: data set name -> label name -> class name; labels not named are ignored, and
            each label that is named must be one of the data set's. A data set that is not named
            must use the class names themselves.
    """

    version: int = Field(ge=1, le=1)
    name: str
    classes: tuple[VocabularyClass, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    templates: tuple[str, ...] = Field(default=('{}',), min_length=1)
    label_names: dict[str, dict[str, str]] = Field(default_factory=dict)

    @model_validator(mode='after')
    def _prompts_are_usable(self) -> Vocabulary:
        for kind, words in (('class name', self.class_names), ('prompt', self.prompts)):
            _check_words(kind, words)
        for template in self.templates:
            if template.count('{}') != 1:
                raise ValueError(f'a template needs exactly one {{}}, got {template!r}')
        for data_set, mapping in self.label_names.items():
            unknown = sorted(set(mapping.values()) - set(self.class_names))
            if unknown:
                raise ValueError(f'label_names.{data_set} names unknown classes {unknown}')
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, class by class."""
        return tuple(word for entry in self.classes for word in entry.prompts or (entry.name,))

    @property
    def prompt_classes(self) -> NDArray[np.int64]:
        """Class of each prompt, (M,)."""
        counts = [len(entry.prompts) or 1 for entry in self.classes]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def colors(self) -> NDArray[np.uint8]:
        """RGB of each class, (K, 3)."""
        return np.array([entry.color for entry in self.classes], dtype=np.uint8)

    def color_table(self, unlabelled: tuple[int, int, int]) -> NDArray[np.uint8]:
        """RGB of every label, (256, 3); of those that are no class, `unlabelled`."""
        table = np.full((256, 3), unlabelled, dtype=np.uint8)
        table[: len(self.classes)] = self.colors
        return table

    def label_table(self, data_set: str, label_names: Sequence[str]) -> NDArray[np.uint8]:
        """Class of each of a data set's labels.

        Args:
            data_set: name of the data set, a key of `label_names` or not.
            label_names: the data set's labels in order.

        Returns:
            (256,) uint8: index with the data set's labels; `IGNORE_INDEX` for the rest.

        Raises:
            InputError: the data set has too many labels, or lacks one that is mapped, or the
                vocabulary knows none of them.
        """
        where = f'vocabulary {self.name}, label_names: {data_set}'
        if len(label_names) > MAX_CLASSES:
            raise InputError(
                'the data set has too many labels',
                where=where,
                expected=f'at most {MAX_CLASSES}, as {IGNORE_INDEX} stands for unlabelled',
                got=len(label_names),
            )
        mapping = self._label_mapping(data_set, label_names, where)
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        for label, name in enumerate(label_names):
            if name in mapping:
                table[label] = self.class_names.index(mapping[name])
        return table

    def _label_mapping(
        self, data_set: str, label_names: Sequence[str], where: str
    ) -> Mapping[str, str]:
        """Class name of each label that has one; see `label_table`."""
        mapping = self.label_names.get(data_set)
        if mapping is None:
            mapping = {name: name for name in self.class_names if name in label_names}
        unknown = sorted(set(mapping) - set(label_names))
        if unknown:
            raise InputError(
                f'the data set does not have the labels {", ".join(unknown)}',
                where=where,
                expected=f'some of {", ".join(label_names)}',
                fix='correct or remove these keys in the vocabulary file',
            )
        if not mapping:
            raise InputError(
                'the vocabulary knows none of the labels of the data set',
                where=where,
                expected=f'some of {", ".join(label_names[:12])}',
                got=', '.join(self.class_names),
                fix='add a mapping to the vocabulary file',
            )
        return mapping


def _check_words(kind: str, words: Sequence[str]) -> None:
    """Reject empty, over-long and duplicate words (compared without case and outer space)."""
    seen: set[str] = set()
    for word in words:
        key = word.strip().casefold()
        if not key:
            raise ValueError(f'a {kind} is empty; give it a word or remove it')
        if len(word) > MAX_PROMPT_LENGTH:
            raise ValueError(
                f'a {kind} is longer than {MAX_PROMPT_LENGTH} characters: {word[:40]!r}...'
            )
        if key in seen:
            raise ValueError(f'the {kind} {word!r} stands twice; remove one of the two')
        seen.add(key)
