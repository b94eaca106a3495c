# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The one error that a user's mistake raises, and how the command line shows it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn


class InputError(ValueError):
    """Bad input, told so that its author can mend it.

    Args:
        what: what is wrong, in one sentence.
        where: file, key, topic or message that is wrong.
        expected: what would have been right.
        got: what was found.
        fix: what to do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        details = {'where': where, 'expected': expected, 'got': got, 'to do': fix}
        lines = [f'  {key}: {value}' for key, value in details.items() if value is not None]
        super().__init__('\n'.join([what, *lines]))


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split('.')[0]:
            raise
        raise InputError(
            f'the optional package {module} is not installed',
            fix=f"from the checkout: pip install -e '.[{extra}]'",
        ) from error


def run_command(main: Callable[[], None]) -> NoReturn:
    """Run a command line: exit code 0, or 2 and a message without traceback on a user's mistake.

    That is an `InputError`, or a file or folder that cannot be read or written.
    """
    try:
        main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f'error: {InputError(str(error.strerror), where=error.filename)}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
