# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node asks of a model, and opening the one that its parameters name; no ROS."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.parameters import UNLABELLED, NodeSettings


class Words(Protocol):
    """What the node asks of `reldistill_ros.words.words.Words`."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def revision(self) -> str: ...


class LabelledSweep(Protocol):
    """Labels of the points of a sweep, and the words that they stand for."""

    @property
    def labels(self) -> Labels: ...

    @property
    def words(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class FusedSweep:
    """Labels, and the words that they are classes of.

    Attributes:
        labels: of the points.
        words: whose classes they are.
        cameras: what came of each camera, for the log of the sweeps; empty where none was asked.
    """

    labels: Labels
    words: Any
    cameras: str = ''


class Labeller(Protocol):
    """What the node asks of `reldistill_ros.labeller.Labeller`."""

    intensity_max: float | None

    @property
    def words(self) -> Any:
        """The `Words` in force."""

    def fold(self, words: Any) -> Any:
        """Prepare words for `use`: the slow part, for any thread."""

    def use(self, prepared: Any) -> None:
        """Put prepared words in force from the next sweep on."""

    def label(self, points: NDArray[np.float32]) -> LabelledSweep:
        """Label points (N, 4): x y z in metres, intensity 0 to 1."""


class Encoder(Protocol):
    """What the node asks of `reldistill_ros.words.words.PromptEncoder`: text to `Words`, slowly."""

    def __call__(self, vocabulary: Vocabulary, unknown_share: float) -> Any: ...


class ImageEncoder(Protocol):
    """What the node asks of `reldistill_ros.cameras.image_encoder.ImageEncoder`."""

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Look at an image (H, W, 3): an `Encoded`, slowly."""


class Ensemble(Protocol):
    """What the node asks of `reldistill_ros.cameras.ensemble.Ensemble`."""

    def __call__(
        self, points: NDArray[np.float32], labels: Labels, views: Sequence[Any]
    ) -> Labels: ...

    def spoken(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distributions (R, K) over the classes of cosines (R, M) to the prompts."""

    def warm_up(self) -> None:
        """Compile what a sweep would wait for."""


class ModelSource(Protocol):
    """Opens the parts of one model, any number of times."""

    def labeller(self, settings: NodeSettings) -> Labeller:
        """The student, in the engine that the settings name."""

    def text_encoder(self) -> Encoder:
        """What encodes words."""

    def image_encoder(self) -> ImageEncoder | None:
        """What looks at images; None where the model has none."""

    def ensemble(self, vocabulary: Vocabulary) -> Ensemble:
        """What fuses the labels of these words with those of the cameras."""


OpenSource = Callable[[NodeSettings], ModelSource]


class Dictionary:
    """From the parameters about words to `Words`.

    Args:
        known: the words of the bundle.
        make_encoder: opens what encodes others; where it fails, so do other words.
    """

    def __init__(self, known: Any, make_encoder: Callable[[], Encoder]) -> None:
        self._known, self._encoder = known, attempt(make_encoder)

    def vocabulary_of(self, settings: NodeSettings) -> Vocabulary:
        """The classes that the parameters ask for, at once.

        Raises:
            InputError: prompts or templates that cannot be used, or a filter of no class.
        """
        from reldistill_ros.words.words import parse_prompts

        vocabulary: Vocabulary = self._known.vocabulary
        if settings.prompts or settings.prompt_templates:
            # a name alone keeps its synonyms, and no templates mean the bundle's
            prompts = settings.prompts or vocabulary.class_names
            vocabulary = parse_prompts(prompts, settings.prompt_templates, vocabulary)
        _check_filter(settings.filter_classes, vocabulary)
        return vocabulary

    def words_of(self, settings: NodeSettings) -> Any:
        """Encode what the parameters ask for, slowly.

        Raises:
            InputError: the words cannot be encoded.
        """
        vocabulary = self.vocabulary_of(settings)
        if vocabulary is self._known.vocabulary and not settings.unknown_share:
            return self._known
        if self._encoder.value is None:
            raise self._encoder.error or InputError('there is no text encoder')
        return self._encoder.value(vocabulary, settings.unknown_share)


class BundleSource:
    """The bundle that the parameters name, read and checked once.

    Args:
        settings: of the node.

    Raises:
        InputError: there is no such bundle, or it is not as it was exported.
    """

    def __init__(self, settings: NodeSettings) -> None:
        from reldistill_ros.core.bundle import load_bundle

        self._bundle = load_bundle(resolve_bundle(settings))
        self._image_threads = settings.image_threads
        self._ensemble: Any = None  # its weights

    def labeller(self, settings: NodeSettings) -> Labeller:
        """Open the bundle in the engine that the settings name."""
        from reldistill_ros.labeller import Labeller as BundleLabeller

        labeller: Any = BundleLabeller.from_bundle(
            self._bundle,
            backend=settings.backend,
            num_threads=settings.num_threads,
            precision=settings.precision,
            engine_file=Path(settings.engine_file) if settings.engine_file else None,
        )
        return labeller  # type: ignore[no-any-return]

    def text_encoder(self) -> Encoder:
        """Open the bundle's text encoder."""
        from reldistill_ros.words.words import PromptEncoder

        encoder = PromptEncoder.from_bundle(self._bundle, user_cache())
        # now, as a change of words should not wait for it; a bundle without one says so at the
        # first word that needs it
        attempt(encoder.load)
        return encoder

    def image_encoder(self) -> ImageEncoder | None:
        """Open the bundle's image encoder."""
        from reldistill_ros.cameras.image_encoder import load_image_encoder

        return load_image_encoder(self._bundle, self._image_threads)

    def ensemble(self, vocabulary: Vocabulary) -> Ensemble:
        """The ensemble of the bundle; its file is read once."""
        from reldistill_ros.cameras.ensemble import Ensemble as BundleEnsemble
        from reldistill_ros.cameras.ensemble import load_ensemble_settings

        if self._ensemble is None:
            self._ensemble = load_ensemble_settings(self._bundle)
        known, voxel = self._bundle.vocabulary, self._bundle.manifest.voxel
        return BundleEnsemble(self._ensemble, vocabulary, known, voxel)


def user_cache() -> Path:
    """Folder for encoded words, private to the user."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'reldistill' / 'words'


def resolve_bundle(settings: NodeSettings) -> Path:
    """The bundle's folder with every link followed.

    Raises:
        InputError: it lies outside `bundle_root`, where that is set.
    """
    path = Path(settings.bundle)
    if not settings.bundle_root:
        return path
    root, real = Path(settings.bundle_root).resolve(), path.resolve()
    if not real.is_relative_to(root):
        raise InputError(
            'the bundle lies outside the folder that bundles may come from',
            where=f'parameter bundle: {path}',
            expected=f'a folder inside {root} (parameter bundle_root)',
            got=real,
        )
    return real


def _check_filter(filter_classes: tuple[str, ...], vocabulary: Vocabulary) -> None:
    known = {*vocabulary.class_names, UNLABELLED}
    unknown = [name for name in filter_classes if name not in known]
    if unknown:
        raise InputError(
            'filter_classes names what is no class',
            where=', '.join(map(repr, unknown)),
            expected=f'some of {", ".join(sorted(known))}',
            fix='correct it, or change prompts and filter_classes in one step',
        )


def warm_up(labeller: Labeller) -> None:
    """Label a ring of points, so that the first sweep does not wait for memory or compilation."""
    angles = np.linspace(0, 2 * np.pi, 2000, dtype=np.float32)
    zeros = np.zeros_like(angles)
    labeller.label(np.stack([10 * np.cos(angles), 10 * np.sin(angles), zeros, zeros], axis=1))
