# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From settings to text encoders and teachers."""

from __future__ import annotations

from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.config_files import find_config
from trainer.open_clip_text import OpenClipEncoder, load_open_clip
from trainer.teachers.clip import ClipNetwork
from trainer.teachers.dino import load_dino
from trainer.teachers.grids import ImageGrids, PatchNetwork
from trainer.teachers.label_maps import LabelMapTeacher, class_embeddings
from trainer.teachers.onnx_features import OnnxNetwork
from trainer.teachers.onnx_segmentation import OnnxSegmentation, SegmentationTeacher
from trainer.teachers.onnx_session import OnnxGraph, find_graph
from trainer.teachers.patches import PatchTeacher
from trainer.teachers.prompt_denoising import DenoisedTeacher
from trainer.teachers.settings import (
    ClipTeacherSettings,
    DinoSettings,
    FeatureTeacherSettings,
    GridTeacherSettings,
    OnnxFeatureSettings,
    OnnxSegmentationSettings,
    OnnxSettings,
    OpenClipSettings,
    TableSettings,
    TeacherSettings,
    TextEncoderSettings,
)
from trainer.teachers.teacher import Teacher
from trainer.text import MinilmEncoder, TableEncoder, TextEncoder


def build_text_encoder(settings: TextEncoderSettings, data_root: Path) -> TextEncoder:
    """Build the text encoder that a run file names; it is never replaced by another one.

    Raises:
        InputError: its weights or files cannot be had.
    """
    if isinstance(settings, OpenClipSettings):
        return load_open_clip(
            settings.model, settings.pretrained, data_root=data_root, device=settings.device
        )
    if isinstance(settings, TableSettings):
        return TableEncoder(data_root / settings.embeddings, data_root / settings.names)
    return MinilmEncoder()


def build_teacher(
    settings: TeacherSettings, encoder: TextEncoder | None, data_root: Path
) -> Teacher:
    """Build the teacher that a run file names, in the space of the text encoder if it has one.

    Raises:
        InputError: a bad vocabulary, an encoder whose space the teacher does not share, or
            weights or a graph that cannot be had.
    """
    if isinstance(settings, FeatureTeacherSettings):
        return PatchTeacher(build_grids(settings, None, data_root))
    if encoder is None:
        raise _needs_encoder(settings.kind)
    if isinstance(settings, ClipTeacherSettings):
        return _build_clip(settings, encoder, data_root)
    vocabulary = load_settings(find_vocabulary(settings.vocabulary, data_root), Vocabulary)
    if isinstance(settings, OnnxSegmentationSettings):
        return SegmentationTeacher(
            build_grids(settings, None, data_root),
            vocabulary,
            encoder,
            ignore_classes=settings.ignore_classes,
            min_confidence=settings.min_confidence,
            mix=settings.mix,
        )
    return LabelMapTeacher(
        vocabulary,
        encoder,
        ignore_classes=settings.ignore_classes,
        min_confidence=settings.min_confidence,
        mix_confidence=settings.mix_confidence,
    )


def build_grids(
    settings: GridTeacherSettings, encoder: TextEncoder | None, data_root: Path
) -> ImageGrids:
    """Build what of a teacher does not depend on words, and may be kept.

    Args:
        settings: of the teacher.
        encoder: needed for a teacher of kind `clip` alone, whose image tower it brings.
        data_root: what paths are relative to.

    Raises:
        InputError: weights or a graph that cannot be had, or an encoder that is not CLIP's.
    """
    network: PatchNetwork
    if isinstance(settings, OnnxSettings):
        network = _build_onnx(settings, data_root)
        size, windows = settings.input_size, None
    else:
        network = _build_torch(settings, encoder, data_root)
        size = settings.short_side
    if not isinstance(settings, OnnxSegmentationSettings):
        windows = settings.windows
    cache = data_root / settings.cache if settings.cache else None
    return ImageGrids(network, size=size, windows=windows, cache=cache)


def _build_torch(
    settings: ClipTeacherSettings | DinoSettings, encoder: TextEncoder | None, data_root: Path
) -> PatchNetwork:
    if isinstance(settings, DinoSettings):
        weights = data_root / settings.weights if settings.weights else None
        return load_dino(settings.model, weights, device=settings.device)
    if encoder is None:
        raise _needs_encoder(settings.kind)
    return ClipNetwork(
        clip_encoder(encoder), key_smoothing=settings.key_smoothing, device=settings.device
    )


def _build_onnx(settings: OnnxSettings, data_root: Path) -> PatchNetwork:
    path = find_graph(settings.path, settings.package, data_root)
    graph = OnnxGraph(path, settings.tensor, settings.threads)
    if isinstance(settings, OnnxFeatureSettings):
        return OnnxNetwork(
            graph,
            patch_size=settings.patch_size,
            prefix_tokens=settings.prefix_tokens,
            mean=settings.mean,
            std=settings.std,
            size=_trial_size(settings.input_size, settings.patch_size),
        )
    return OnnxSegmentation(
        graph,
        output=settings.output,
        multiple=settings.multiple,
        cell=settings.cell,
        mean=settings.mean,
        std=settings.std,
        size=_trial_size(settings.input_size, settings.multiple),
    )


def _trial_size(size: int | tuple[int, int], patch: int) -> tuple[int, int]:
    """Height and width of a first, small image."""
    return (2 * patch, 3 * patch) if isinstance(size, int) else size


def _build_clip(settings: ClipTeacherSettings, encoder: TextEncoder, data_root: Path) -> Teacher:
    teacher = PatchTeacher(build_grids(settings, encoder, data_root))
    if settings.vocabulary is None:
        return teacher
    path = find_vocabulary(settings.vocabulary, data_root)
    embeddings = class_embeddings(load_settings(path, Vocabulary), encoder)
    return DenoisedTeacher(teacher, embeddings, settings.denoise_below)


def _needs_encoder(kind: str) -> InputError:
    return InputError(
        'the teacher needs a text encoder',
        where=f'teacher kind: {kind}',
        fix='set `text` in the settings of the run',
    )


def find_vocabulary(path: Path, data_root: Path) -> Path:
    """Find a vocabulary: absolute, in the data root, or in the project's `config/` folder.

    Raises:
        InputError: it is in neither.
    """
    return find_config(path, data_root, 'the vocabulary')


def clip_encoder(encoder: TextEncoder) -> OpenClipEncoder:
    """The text encoder as the CLIP model whose image tower is the teacher.

    Raises:
        InputError: it is none.
    """
    if not isinstance(encoder, OpenClipEncoder):
        raise InputError(
            "the teacher's features and the words would lie in different spaces",
            where='teacher kind: clip',
            expected='a text encoder of kind: open_clip, whose image tower the teacher is',
            got=encoder.name,
            fix='set the text encoder to kind: open_clip, or the teacher to kind: label_maps',
        )
    return encoder
