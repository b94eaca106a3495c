# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Everything that takes long before the node can label; no ROS."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.cameras.vision import Vision, open_vision
from reldistill_ros.node.engine import Engine
from reldistill_ros.node.model import Dictionary, Labeller, OpenSource
from reldistill_ros.node.parameters import (
    NodeSettings,
    choose_intensity_max,
    engines_of,
    in_engine,
)


@dataclass(frozen=True)
class Model:
    """An open model.

    Attributes:
        engine: runs it.
        dictionary: makes its words.
        intensity_max: raw intensity that counts as 1.
        revision: of its weights and of the words that come with them.
        vision: what it does with images; None where the node has no cameras.
    """

    engine: Engine
    dictionary: Dictionary
    intensity_max: float
    revision: str
    vision: Vision | None


def load_model(settings: NodeSettings, open_source: OpenSource) -> Model:
    """Open the model that the parameters name, with the words that they ask for.

    Raises:
        InputError: the bundle, the words or the sensor's intensity cannot be used.
        Exception: what an engine raised that could not be opened.
    """
    source = open_source(settings)

    def open_labeller(engine: str) -> Labeller:
        return source.labeller(in_engine(settings, engine))

    with ExitStack() as on_failure:
        engine = Engine(open_labeller, engines_of(settings), settings.max_failures)
        on_failure.callback(engine.close, 0)
        engine.open()
        labeller = engine.labeller
        if labeller is None:
            raise InputError('no engine is open')
        intensity_max = choose_intensity_max(settings.intensity_max, labeller.intensity_max)
        known = labeller.words
        dictionary = Dictionary(known, source.text_encoder)
        words = dictionary.words_of(settings)
        if words is not known:
            engine.set_words(words)
        vision = open_vision(source, settings.max_failures, words) if settings.cameras else None
        on_failure.pop_all()
        return Model(engine, dictionary, intensity_max, known.revision, vision)
