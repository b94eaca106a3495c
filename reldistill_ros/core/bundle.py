# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The model bundle: the one folder that passes from the trainer to the robot.

`manifest.json` says what the model is and holds the sha256 of every other file. No file is
unpickled: JSON, YAML (safe_load), safetensors, ONNX and npz without objects. Words can be typed at
run time where the bundle carries its text encoder (see `reldistill_ros.words.text_encoder`) or a table
of words; points can be called unknown where it carries `calibration.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import (
    InputSettings,
    Settings,
    StudentSettings,
    VoxelSettings,
    load_settings,
    parse_settings,
)
from reldistill_ros.core.unknown import Calibration
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import ProjectionHead

FORMAT_VERSION = 3
MANIFEST = 'manifest.json'
STUDENT_ONNX = 'student.onnx'
STUDENT_HALF_ONNX = 'student_float16.onnx'  # what TensorRT builds in float16
STUDENT_INT8_ONNX = 'student_int8.onnx'  # with matrix products in 8 bits
STUDENT_WEIGHTS = 'student.safetensors'
VOCABULARY = 'vocabulary.yaml'
TEXT_FEATURES = 'text_features.npz'
TEXT_ENCODER = 'text_encoder.onnx'
TOKENIZER = 'tokenizer.json'
TEXT_ENCODER_SETTINGS = 'text_encoder.json'
TEXT_ENCODER_FILES = (TEXT_ENCODER, TOKENIZER, TEXT_ENCODER_SETTINGS)
TEXT_TABLE = 'text_table.npz'
CALIBRATION = 'calibration.json'
REQUIRED_FILES = (STUDENT_ONNX, STUDENT_WEIGHTS, VOCABULARY, TEXT_FEATURES)


class Manifest(Settings):
    """What a bundle is.

    Attributes:
        format_version: version of this format; another one is refused.
        voxel: the grid.
        inputs: the student's input features and their scale.
        student: the network.
        intensity_max: raw intensity that counts as 1; None where the training data came from
            sensors with different scales, and the user has to say it.
        temperature: of the probabilities over the classes.
        text_encoder: name and weights of the text encoder that made the prompts.
        teacher: name and weights of the 2D network that was distilled.
        run: settings of the training run.
        data_hash: sha256 over the ids of the training sweeps.
        git_commit: of the trainer.
        parity: per engine, how far it is from the torch student, measured at export: `max_diff`
            of the point features relative to their largest, `max_diff_cosine` of the cosines
            to the prompts, `label_agreement` as a share of the voxels. Under `text` and `image`,
            how far the exported encoders are from the originals, see `trainer.export_text` and
            `trainer.export_image`.
        files: sha256 of every other file by name.
    """

    format_version: int
    voxel: VoxelSettings
    inputs: InputSettings
    student: StudentSettings
    intensity_max: float | None = Field(default=None, gt=0)
    temperature: float = Field(gt=0)
    text_encoder: str
    teacher: str
    run: dict[str, Any]
    data_hash: str
    git_commit: str
    parity: dict[str, dict[str, float]]
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder.
        manifest: what it is.
        vocabulary: the classes it was exported with.
        prompt_embeddings: (M, C) float32 unit rows, one for each of `vocabulary.prompts`.
        embedding_mean: (C,) float32, what they were centred with; zeros where they were not.
        head_weight: (C, D) float32 of the projection head.
        head_bias: (C,) float32.
        calibration: cosines seen in training; None where they were not measured.
    """

    path: Path
    manifest: Manifest
    vocabulary: Vocabulary
    prompt_embeddings: NDArray[np.float32]
    embedding_mean: NDArray[np.float32]
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    calibration: Calibration | None = None

    @property
    def head(self) -> ProjectionHead:
        """The projection head."""
        return ProjectionHead(self.head_weight, self.head_bias)

    def holds(self, *names: str) -> bool:
        """Whether all of these files are in the bundle."""
        return set(names) <= set(self.manifest.files)

    def read(self, name: str) -> bytes:
        """The content of a file, checked once more: it may be read long after `load_bundle`.

        Raises:
            InputError: the file is gone, or not the one that was exported.
        """
        file = self.path / name
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            raise _missing(file) from error
        _check_hash(file, self.manifest, hashlib.sha256(content).hexdigest())
        return content


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open('rb') as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def load_bundle(path: Path) -> Bundle:
    """Open a bundle, checking version, then hashes, then shapes.

    Raises:
        InputError: not a bundle, or another version, or a file is missing, changed or of the
            wrong shape.
    """
    manifest = _load_manifest(path)
    _check_files(path, manifest)
    vocabulary = load_settings(path / VOCABULARY, Vocabulary)
    embeddings, mean = _load_text_features(path / TEXT_FEATURES)
    weights = load_file(path / STUDENT_WEIGHTS)
    head_weight, head_bias = weights['head.weight'], weights['head.bias']
    size = manifest.student.embedding_size
    _check_shape(path / TEXT_FEATURES, embeddings, (len(vocabulary.prompts), size))
    _check_shape(path / TEXT_FEATURES, mean, (size,))
    _check_shape(path / STUDENT_WEIGHTS, head_weight, (size, head_weight.shape[-1]))
    _check_shape(path / STUDENT_WEIGHTS, head_bias, (size,))
    calibration = _calibration(path, manifest)
    return Bundle(
        path, manifest, vocabulary, embeddings, mean, head_weight, head_bias, calibration
    )


def _load_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        values = json.loads(file.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            'this is not a model bundle: it has no manifest',
            where=file,
            fix='give the folder that python -m trainer.export wrote',
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError('the manifest is not JSON', where=file, got=error) from error
    version = values.get('format_version') if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            'the bundle has another format version',
            where=file,
            expected=FORMAT_VERSION,
            got=version,
            fix='export the checkpoint again with this version of reldistill',
        )
    return parse_settings(values, Manifest, file)


def _load_text_features(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        with np.load(file, allow_pickle=False) as text:
            return text['prompt_embeddings'], text['embedding_mean']
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            'the text embeddings cannot be read', where=file, got=error, fix='export again'
        ) from error


def _check_files(path: Path, manifest: Manifest) -> None:
    for name in sorted({*REQUIRED_FILES, *manifest.files}):
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise _missing(file)
        _check_hash(file, manifest, sha256_of(file))
    part = [name for name in TEXT_ENCODER_FILES if name in manifest.files]
    if part and len(part) < len(TEXT_ENCODER_FILES):
        raise InputError(
            'the bundle holds only a part of its text encoder',
            where=path,
            expected=', '.join(TEXT_ENCODER_FILES),
            got=', '.join(part),
            fix='export the checkpoint again',
        )


def _missing(file: Path) -> InputError:
    return InputError(
        'a file of the bundle is missing', where=file, fix='copy the whole folder again'
    )


def _check_hash(file: Path, manifest: Manifest, got: str) -> None:
    expected = manifest.files.get(file.name)
    if got != expected:
        raise InputError(
            'a file of the bundle is not the one that was exported',
            where=file,
            expected=f'sha256 {expected}',
            got=f'sha256 {got}',
            fix='copy the bundle again, or export it again',
        )


def _calibration(path: Path, manifest: Manifest) -> Calibration | None:
    if CALIBRATION not in manifest.files:
        return None
    file = path / CALIBRATION
    return parse_settings(json.loads(file.read_text(encoding='utf-8')), Calibration, file)


def _check_shape(file: Path, array: NDArray[np.float32], expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise InputError(
            'an array of the bundle has the wrong shape',
            where=file,
            expected=expected,
            got=array.shape,
            fix='export the checkpoint again',
        )
