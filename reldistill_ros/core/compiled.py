# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: numba with one set of options, a cache on disk, and a word while it compiles.

Kernels are compiled at their first call for the types they get, so callers fix dtype and layout;
`as_kernel_array` does. No kernel starts threads, for processes fork, and several runtimes share
the cores; some are made to be called from several.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
from numba.core import event
from numpy.typing import DTypeLike, NDArray

Parameters = ParamSpec('Parameters')
Result = TypeVar('Result')

# Kernels check neither indices nor divisors: their callers guarantee both.
OPTIONS: dict[str, Any] = {'nogil': True, 'boundscheck': False, 'error_model': 'numpy'}


class _Announcement(event.Listener):
    """Tells once per process that our kernels are being compiled; a cached one is not news."""

    def __init__(self) -> None:
        self.kernels: set[Callable[..., object]] = set()
        self._told = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = event.data['dispatcher']
        if self._told or dispatcher.py_func not in self.kernels:
            return
        self._told = True
        folder = dispatcher.stats.cache_path
        kept = (
            f'once; it is kept in {folder}'
            if folder
            else 'at every start: no cache folder can be written; set NUMBA_CACHE_DIR to one'
        )
        print(
            f'reldistill: compiling for this CPU, up to half a minute, {kept}',
            file=sys.stderr,
            flush=True,
        )

    def on_end(self, event: event.Event) -> None:
        """The lines that follow show that it is done."""


_announcement = _Announcement()
event.register('numba:compile', _announcement)  # type: ignore[no-untyped-call]


def compiled(
    *uses: ModuleType, **options: Any
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate a kernel: `@compiled()`, or with more options of `numba.njit`, as `fastmath`.

    Args:
        uses: other modules whose kernels it calls: numba compiles anew when the kernel's own file
            has changed, but does not look at these.
        options: of `numba.njit`, beside or instead of `OPTIONS`.
    """

    def decorate(kernel: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        _announcement.kernels.add(kernel)
        kernel_options = OPTIONS | options
        dispatcher: Callable[Parameters, Result]
        try:
            dispatcher = numba.njit(cache=True, **kernel_options)(kernel)
        except RuntimeError:  # a file can be written neither beside the source nor in the home
            dispatcher = numba.njit(**kernel_options)(kernel)
        _drop_outdated(dispatcher, uses)
        return dispatcher

    return decorate


def _drop_outdated(dispatcher: Any, uses: tuple[ModuleType, ...]) -> None:
    """Remove what is kept of a kernel if a module that it uses has another text than then."""
    folder = dispatcher.stats.cache_path
    if not (folder and uses):
        return
    texts = [Path(str(module.__file__)).read_bytes() for module in uses]
    digest = hashlib.sha256(b''.join(texts)).hexdigest()
    kernel = dispatcher.py_func
    name = f'{kernel.__module__.rpartition(".")[2]}.{kernel.__qualname__}'
    known = Path(folder) / f'{name}.uses'
    if known.is_file() and known.read_text() == digest:
        return
    for index in Path(folder).glob(f'{name}-*.nbi'):
        index.unlink(missing_ok=True)
    # a folder of its own: processes that start together each write the file
    with TemporaryDirectory(dir=folder, prefix='.partial-') as own:
        partial = Path(own) / known.name
        partial.write_text(digest)
        partial.replace(known)


def as_kernel_array(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The array as the one type a kernel is compiled for: contiguous, aligned and writable."""
    return np.require(values, dtype, ('C', 'A', 'W', 'E'))
