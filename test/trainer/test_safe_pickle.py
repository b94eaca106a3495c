# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The unpickler that runs nothing."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_pandas import array, block, call, frame, name, value, write_table

from reldistill_ros.core.errors import InputError
from trainer.datasets import safe_pickle
from trainer.datasets.safe_pickle import read_table


class Malicious:
    """Runs a command when it is unpickled by the standard library."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def write(path, content):
    path.write_bytes(gzip.compress(content))
    return path


def refuse(path):
    with pytest.raises(InputError, match='not a pickled table of numbers'):
        read_table(path)


def test_columns_of_several_types_come_back_by_name(tmp_path):
    path = tmp_path / '00.pkl.gz'
    write_table(path, {'x': [1.5, 2.5, -1.0], 'y': [0.0, 1.0, 2.0]}, {'d': [0, 1, 0]})
    table = read_table(path)
    assert list(table) == ['x', 'y', 'd']
    np.testing.assert_array_equal(table['x'], [1.5, 2.5, -1.0])
    np.testing.assert_array_equal(table['y'], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(table['d'], [0, 1, 0])
    assert table['x'].dtype == np.float64
    assert table['d'].dtype == np.int64


def test_a_pickle_that_runs_a_command_is_refused_and_nothing_runs(tmp_path):
    witness = tmp_path / 'witness'
    attack = pickle.dumps(Malicious(f'touch {witness}'))
    pickle.loads(attack)
    assert witness.exists(), 'the attack works on the standard unpickler'
    witness.unlink()
    refuse(write(tmp_path / '00.pkl.gz', attack))
    assert not witness.exists()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_attack_inside_a_true_table_is_refused(tmp_path, protocol):
    witness = tmp_path / 'witness'
    attack = pickle.dumps(Malicious(f'touch {witness}'), protocol)
    attack = attack[2:-1] if protocol >= 2 else attack[:-1]
    table = frame([{'x': [1.0]}]).replace(value('_typ'), attack)
    refuse(write(tmp_path / '00.pkl.gz', table))
    assert not witness.exists()


@pytest.mark.parametrize(
    ('module', 'attribute'),
    [
        ('builtins', 'eval'),
        ('builtins', 'getattr'),
        ('numpy', 'load'),
        ('numpy', 'ndarray.tofile'),
        ('numpy.core.multiarray', 'fromfile'),
        ('pandas.io.common', 'os'),
        ('trainer.datasets.safe_pickle', '_Record'),
    ],
)
def test_no_name_outside_the_list_is_admitted(tmp_path, module, attribute):
    refuse(write(tmp_path / '00.pkl.gz', b'\x80\x03' + name(module, attribute) + b'.'))


def test_an_array_of_pointers_is_refused(tmp_path):
    # numpy itself would take these bytes for addresses of Python objects
    forged = array(np.array([2**40 + 8]), 'O8').replace(value([2**40 + 8]), value(b'A' * 8))
    table = frame([{'x': [1.0]}]).replace(array(np.array([[1.0]])), forged)
    assert forged in table
    refuse(write(tmp_path / '00.pkl.gz', table))


def test_a_shape_that_does_not_fit_the_bytes_is_refused(tmp_path):
    honest = array(np.array([[1.0, 2.0]]))
    for shape in [(1, 3), (-1, -2), (2**40, 2**40), (1, 2.0)]:
        forged = honest.replace(value((1, 2)), value(shape))
        table = frame([{'x': [1.0, 2.0]}]).replace(honest, forged)
        refuse(write(tmp_path / '00.pkl.gz', table))


def test_a_block_with_places_beyond_its_rows_is_refused(tmp_path):
    honest = block(np.array([[1.0]]), 0)
    forged = honest.replace(value(1) + value(1) + b't', value(5) + value(1) + b't')
    refuse(write(tmp_path / '00.pkl.gz', frame([{'x': [1.0]}]).replace(honest, forged)))


def test_a_pickle_cannot_change_the_reader(tmp_path):
    # BUILD sets attributes of what it finds on the stack, here of an admitted class
    changed = {'ADMITTED': {}, '__init__': None}
    attack = name('numpy', 'ndarray') + value((None, changed)) + b'b'
    refuse(write(tmp_path / '00.pkl.gz', b'\x80\x03' + attack + b'.'))
    assert callable(safe_pickle._Array.__init__)
    write_table(tmp_path / '01.pkl.gz', {'x': [1.0]})
    assert list(read_table(tmp_path / '01.pkl.gz')) == ['x']


def test_a_forged_memo_number_takes_no_memory(tmp_path):
    forged = b'\x80\x03' + value([]) + b'r\xff\xff\xff\xff.'  # LONG_BINPUT of 2**32 - 1
    tracemalloc.start()
    refuse(write(tmp_path / '00.pkl.gz', forged))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_something_else_than_a_table_is_refused(tmp_path):
    slice_of_nothing = call(name('builtins', 'slice'), value(None))
    for content in [value([1, 2]), slice_of_nothing]:
        refuse(write(tmp_path / '00.pkl.gz', b'\x80\x03' + content + b'.'))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_table_is_read_or_refused_never_worse(place, byte):
    content = bytearray(frame([{'x': [1.0, 2.0]}, {'d': [3, 4]}]))
    content[place % len(content)] = byte
    try:
        columns = safe_pickle._parse_table(bytes(content), Path('damaged'))
    except InputError:
        return
    assert all(isinstance(column, np.ndarray) for column in columns.values())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content):
    with pytest.raises(InputError):
        safe_pickle._parse_table(content, Path('random'))


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = write(tmp_path / '00.pkl.gz', frame([{'x': [1.0] * 1000}]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match='complete gzip'):
        read_table(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'(?s)does not exist.*00\.pkl\.gz'):
        read_table(tmp_path / '00.pkl.gz')


def test_tables_are_read_without_importing_pandas(tmp_path):
    write_table(tmp_path / '00.pkl.gz', {'x': [1.0]})
    program = (
        'import sys; from pathlib import Path; from trainer.datasets.safe_pickle import read_table;'
        "read_table(Path(sys.argv[1])); assert 'pandas' not in sys.modules"
    )
    repository = Path(__file__).resolve().parents[2]
    path = str(tmp_path / '00.pkl.gz')
    subprocess.run([sys.executable, '-c', program, path], cwd=repository, check=True)
