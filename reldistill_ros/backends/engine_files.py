# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Engines on disk: what each was built for, and a folder that keeps them.

An engine is machine code: it fits one model, one GPU and one version of TensorRT, and TensorRT
trusts what it is given. So a file begins with what it was built for and with the sha256 of its
content, and no engine is opened before both have been compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import make_private
from reldistill_ros.core.settings import Settings, parse_settings

MAGIC = b'reldistill engine 1\n'
LONGEST_HEADER = 1 << 16  # bytes
MOST_KEPT = 8  # files; an engine is about as large as its graph
RECIPE = 1  # of `tensorrt_build`: another number wherever it builds in another way


class EngineKey(Settings):
    """What an engine was built for.

    Attributes:
        model: sha256 of the graph.
        library: name of the TensorRT module.
        version: of TensorRT.
        gpu: name of the GPU that it was built on; empty for any of `compute_capabilities`.
        compute_capabilities: of the GPUs that it runs on, as `8.7`.
        precision: of its weights and features.
        profile: voxels of each level for the smallest, the typical and the largest sweep.
        recipe: see `RECIPE`.
    """

    model: str
    library: str
    version: str
    gpu: str
    compute_capabilities: tuple[str, ...]
    precision: str
    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        """sha256 of all of it."""
        text = json.dumps(self.model_dump(mode='json'), sort_keys=True)
        return _sha256(text.encode())

    def differences(self, here: EngineKey) -> dict[str, tuple[object, object]]:
        """Fields in which an engine with this key does not serve: its value and the one here.

        An engine for any GPU serves where the GPU's compute capability is one of its own.
        """
        found = {}
        for name in type(self).model_fields:
            mine, wanted = getattr(self, name), getattr(here, name)
            if name == 'compute_capabilities':
                serves = set(wanted) <= set(mine)
            elif name == 'gpu':
                serves = mine in ('', wanted)
            else:
                serves = mine == wanted
            if not serves:
                found[name] = mine, wanted
        return found


class _Header(Settings):
    key: EngineKey
    sha256: str


@dataclass(frozen=True)
class EngineFile:
    """A file that has been checked.

    Attributes:
        key: what the engine was built for.
        engine: what TensorRT takes.
    """

    key: EngineKey
    engine: bytes


def write_engine(path: Path, key: EngineKey, engine: bytes) -> None:
    """Write an engine, whole or not at all; several processes may write the same."""
    header = _Header(key=key, sha256=_sha256(engine)).model_dump_json()
    _write_whole(path, MAGIC + header.encode() + b'\n' + engine)


def read_engine(path: Path) -> EngineFile:
    """Read an engine.

    Raises:
        InputError: there is no such file, or it is no engine of ours, or it is not whole.
    """
    try:
        with path.open('rb') as file:
            if file.readline(len(MAGIC)) != MAGIC:
                raise InputError('this is not an engine of reldistill', where=path)
            header = _parse_header(file.readline(LONGEST_HEADER), path)
            engine = file.read()
    except FileNotFoundError as error:
        raise InputError('there is no such engine', where=path) from error
    digest = _sha256(engine)
    if digest != header.sha256:
        raise InputError(
            'the engine is not whole',
            where=path,
            expected=f'sha256 {header.sha256}',
            got=f'sha256 {digest}',
        )
    return EngineFile(header.key, engine)


def read_fitting_engine(path: Path, here: EngineKey, rebuild: str) -> bytes:
    """Read an engine that must serve here.

    Args:
        path: its file.
        here: what is needed.
        rebuild: the command that builds it anew.

    Raises:
        InputError: it does not serve; says why, and the command.
    """
    file = read_engine(path)
    differences = file.key.differences(here)
    if differences:
        raise InputError(
            'the engine was built for something else',
            where=path,
            expected='; '.join(f'{name} {wanted}' for name, (_, wanted) in differences.items()),
            got='; '.join(f'{name} {mine}' for name, (mine, _) in differences.items()),
            fix=f'build it anew: {rebuild}',
        )
    return file.engine


def write_blob(path: Path, content: bytes) -> None:
    """Write what a library keeps between runs, with its sha256, whole or not at all."""
    _write_whole(path, f'{_sha256(content)}\n'.encode() + content)


def read_blob(path: Path) -> bytes | None:
    """What `write_blob` wrote, None where there is none or it is not whole."""
    try:
        digest, _, content = path.read_bytes().partition(b'\n')
    except FileNotFoundError:
        return None
    return content if digest.decode('ascii', 'replace') == _sha256(content) else None


class EngineCache:
    """Engines in a folder that only the user can write to.

    A file that is not whole counts as absent. When there are more than `MOST_KEPT`, those go that
    were written first.

    Args:
        folder: made if absent.

    Raises:
        InputError: the folder cannot be had, or others can write to it.
    """

    def __init__(self, folder: Path) -> None:
        make_private(folder, 'engines')
        self.folder = folder

    def get(self, key: EngineKey) -> bytes | None:
        """The engine with exactly this key, or else one that serves as well, or None.

        The latter was built ahead of time, for any GPU of its compute capabilities.
        """
        own = self._path(key)
        for path in sorted(self.folder.glob('*.engine'), key=lambda path: path != own):
            try:
                file = read_engine(path)
            except InputError as error:
                print(f'reldistill: an engine is left aside: {error}', file=sys.stderr)
                continue
            if not file.key.differences(key):
                return file.engine
        return None

    def put(self, key: EngineKey, engine: bytes) -> Path:
        """Keep an engine; returns its file."""
        path = self._path(key)
        write_engine(path, key, engine)
        files = sorted(self.folder.glob('*.engine'), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
        return path

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f'{key.digest[:32]}.engine'


def user_engine_folder() -> Path:
    """Where engines are kept: `reldistill/engines` in the user's cache folder."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'reldistill' / 'engines'


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    # a folder of its own: another process may be writing the same file
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.partial-') as own:
        partial = Path(own) / path.name
        partial.write_bytes(content)
        partial.replace(path)


def _parse_header(line: bytes, path: Path) -> _Header:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InputError('the engine is not whole', where=path, got='no header') from error
    return parse_settings(values, _Header, path)
