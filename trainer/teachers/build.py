# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of text encoders and teachers, and the two functions that build them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.open_clip_text import OpenClipEncoder, load_open_clip
from trainer.teachers.clip import ClipTeacher
from trainer.teachers.label_maps import LabelMapTeacher
from trainer.teachers.teacher import Teacher
from trainer.text import MinilmEncoder, TableEncoder, TextEncoder

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / 'config'

Device = Annotated[str, Field(pattern=r'^(cpu|cuda(:\d+)?)$')]


class OpenClipSettings(Settings):
    """CLIP's text tower; see `trainer.open_clip_text.load_open_clip`."""

    kind: Literal['open_clip']
    model: str
    pretrained: str = Field(min_length=1)
    device: Device = 'cpu'


class MinilmSettings(Settings):
    """The sentence encoder that a package carries inside itself."""

    kind: Literal['minilm']


class TableSettings(Settings):
    """Precomputed embeddings; see `trainer.text.TableEncoder`.

    Attributes:
        embeddings: npy file (K, C), absolute or relative to the data root.
        names: text file with K lines, likewise.
    """

    kind: Literal['table']
    embeddings: Path
    names: Path


class LabelMapSettings(Settings):
    """Class maps of a 2D network; see `trainer.teachers.label_maps.LabelMapTeacher`.

    Attributes:
        vocabulary: YAML that names the 2D network's classes in the order of its indices;
            absolute, or relative to the data root (beside your maps), or else to the project's
            `config/` folder.
    """

    kind: Literal['label_maps']
    vocabulary: Path
    ignore_classes: tuple[str, ...] = ()
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    mix_confidence: bool = False


class ClipTeacherSettings(Settings):
    """MaskCLIP features of the CLIP model that is also the text encoder."""

    kind: Literal['clip']
    short_side: int = Field(default=448, gt=0)
    device: Device = 'cpu'


TextEncoderSettings = Annotated[
    OpenClipSettings | MinilmSettings | TableSettings, Field(discriminator='kind')
]
TeacherSettings = Annotated[LabelMapSettings | ClipTeacherSettings, Field(discriminator='kind')]


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


def build_teacher(settings: TeacherSettings, encoder: TextEncoder, data_root: Path) -> Teacher:
    """Build the teacher that a run file names, in the space of the text encoder.

    Raises:
        InputError: a bad vocabulary, or an encoder whose space the teacher does not share.
    """
    if isinstance(settings, ClipTeacherSettings):
        return ClipTeacher(
            _clip_encoder(encoder), short_side=settings.short_side, device=settings.device
        )
    path = find_vocabulary(settings.vocabulary, data_root)
    return LabelMapTeacher(
        load_settings(path, Vocabulary),
        encoder,
        ignore_classes=settings.ignore_classes,
        min_confidence=settings.min_confidence,
        mix_confidence=settings.mix_confidence,
    )


def find_vocabulary(path: Path, data_root: Path) -> Path:
    """Find a vocabulary: absolute, in the data root, or in the project's `config/` folder.

    Raises:
        InputError: it is in neither.
    """
    candidates = [data_root / path, CONFIG_FOLDER / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(
        'the vocabulary does not exist',
        where=path,
        expected=' or '.join(dict.fromkeys(map(str, candidates))),
    )


def _clip_encoder(encoder: TextEncoder) -> OpenClipEncoder:
    if not isinstance(encoder, OpenClipEncoder):
        raise InputError(
            "the teacher's features and the words would lie in different spaces",
            where='teacher kind: clip',
            expected='a text encoder of kind: open_clip, whose image tower the teacher is',
            got=encoder.name,
            fix='set the text encoder to kind: open_clip, or the teacher to kind: label_maps',
        )
    return encoder
