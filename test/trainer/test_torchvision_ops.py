# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""torchvision beside a torch of another build."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from fresh_interpreter import run_python

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(find_spec('open_clip') is None, reason='the clip extra is not installed')
def test_open_clip_imports_in_a_fresh_interpreter():
    done = run_python(
        'from trainer.torchvision_ops import make_torchvision_importable as mend\n'
        'mend(); mend()\n'
        'import open_clip, timm, torchvision\n'
        'torchvision.extension\n'
        'print(len(open_clip.list_models()) > 0)\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, 'True\n', '')


FAKE_TORCHVISION = """
import sys, types, importlib.abc, importlib.machinery
class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == 'torchvision':
            return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module):
        {body}
sys.meta_path.insert(0, Loader())
import torch
from trainer.torchvision_ops import make_torchvision_importable
try:
    make_torchvision_importable()
except BaseException as error:
    print(type(error).__name__, error)
print(hasattr(torch.ops.torchvision, 'nms'))
"""


@pytest.mark.parametrize(
    ('body', 'printed'),
    [
        ('module.works = True', 'False\n'),
        ("raise RuntimeError('broken otherwise')", 'RuntimeError broken otherwise\nFalse\n'),
        (
            "raise ModuleNotFoundError('no PIL', name='PIL')",
            'ModuleNotFoundError no PIL\nFalse\n',
        ),
        ("raise ModuleNotFoundError('none', name='torchvision')", 'False\n'),
    ],
)
def test_operators_are_defined_only_where_they_are_what_is_missing(body: str, printed: str):
    done = run_python(FAKE_TORCHVISION.format(body=body))
    assert (done.stdout, done.stderr) == (printed, '')
