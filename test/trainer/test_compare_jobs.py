# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Jobs are done once, go on where they were stopped, and fail alone."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import yaml
from tiny_plan import (
    MODULES,
    arguments_of,
    edit,
    run_plan,
    start_compare,
    starts,
    write_plan,
)

from reldistill_ros.core.errors import InputError
from trainer.compare.compare import open_comparison
from trainer.compare.expansion import expand
from trainer.compare.jobs import is_done, run_job

ONE_RUN = '*/relational/seed0/zero_shot'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_plan(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    return tmp_path


def jobs_of(folder):
    return expand(open_comparison(arguments_of(folder), MODULES), ['main'])


def results_of(folder):
    return json.loads((folder / 'out/results.json').read_text())


def wait_for_step(folder, process, name='maps/relational/seed0/distil', step=2):
    """Until a stand-in distillation has saved its checkpoint so often."""
    checkpoint = folder / 'out/jobs' / name / 'out/checkpoint.safetensors'
    deadline = time.monotonic() + 60
    while not (checkpoint.exists() and int(checkpoint.read_text() or 0) >= step):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_job_runs_once_and_a_second_start_repeats_none(folder):
    assert run_plan(folder) == 0
    first = starts(folder)
    assert len(first) == len(set(first)) == 16
    assert all(is_done(job) for job in jobs_of(folder).values())
    assert run_plan(folder) == 0
    assert starts(folder) == first


def test_the_marker_of_a_job_says_what_was_run(folder):
    run_plan(folder, only=ONE_RUN)
    job = jobs_of(folder)['maps/relational/seed0/distil']
    record = json.loads((job.folder / 'done.json').read_text())
    assert record['fingerprint'] == job.fingerprint
    assert record['command'][2:] == list(job.command)
    assert record['seconds'] > 0
    assert 'fake_distil' in (job.folder / 'log.txt').read_text()
    assert yaml.safe_load((job.folder / 'settings.yaml').read_text())['seed'] == 0


def test_parts_of_a_plan_add_up(folder):
    run_plan(folder, only='*/seed0/*')
    assert {entry['seed'] for entry in results_of(folder)['figures']} == {0}
    run_plan(folder, only='*/seed1/*')
    assert len(starts(folder)) == 16
    assert {entry['seed'] for entry in results_of(folder)['figures']} == {0, 1}


def test_a_job_whose_result_was_deleted_is_run_again(folder):
    run_plan(folder, only=ONE_RUN)
    jobs_of(folder)['maps/relational/seed0/zero_shot'].result.unlink()
    run_plan(folder, only=ONE_RUN)
    assert starts(folder).count('maps/relational/seed0/zero_shot') == 2
    assert starts(folder).count('maps/relational/seed0/distil') == 1


def test_jobs_whose_settings_changed_are_run_again_and_the_old_ones_are_kept(folder):
    run_plan(folder)
    before = len(starts(folder))
    losses = {'similarity': {'loss': {'kind': 'similarity'}, 'epochs': 3}}
    losses['relational'] = {'loss': {'kind': 'relational'}}
    edit(folder / 'plan.yaml', losses=losses)
    assert run_plan(folder) == 0
    again = starts(folder)[before:]
    assert len(again) == 8
    assert all('/similarity/' in name for name in again)
    assert not any('--resume' in name for name in again)
    kept = list((folder / 'out/outdated/maps/similarity/seed0').glob('distil-*'))
    assert [(old / 'out/checkpoint.safetensors').read_text() for old in kept] == ['2']
    assert (kept[0] / 'done.json').exists()


def test_data_made_in_another_way_replace_the_old_ones_which_are_kept(folder):
    run_plan(folder, only=ONE_RUN)
    (folder / 'out/data/drives/train/sweep').touch()
    prepare = {'drives/train': {'command': "fake_prepare --out '{out}' --more"}}
    edit(folder / 'plan.yaml', prepare=prepare)
    assert run_plan(folder, only=ONE_RUN) == 0
    assert not list((folder / 'out/data/drives/train').iterdir())
    assert list((folder / 'out/outdated/prepare/drives').glob('train-*/out/sweep'))


def test_a_job_does_not_write_over_what_no_job_wrote(folder):
    mine = folder / 'out/data/drives/train/mine'
    mine.mkdir(parents=True)
    assert run_plan(folder, only=ONE_RUN) == 1
    assert mine.exists()
    assert 'no job wrote' in results_of(folder)['jobs']['prepare/drives/train']['message']
    with pytest.raises(InputError, match='no job wrote'):
        run_job(jobs_of(folder)['prepare/drives/train'])


def test_a_failed_job_stops_only_what_needs_it_and_is_reported_with_its_log(folder, capfd):
    (folder / 'break_similarity').touch()
    assert run_plan(folder) == 1
    entries = results_of(folder)['jobs']
    assert all(
        entry['status'] == 'done' for name, entry in entries.items() if 'relational' in name
    )
    assert entries['maps/similarity/seed1/distil']['status'] == 'failed'
    assert entries['maps/similarity/seed1/structure']['status'] == 'blocked'
    told = capfd.readouterr().err
    log = folder / 'out/jobs/maps/similarity/seed0/distil/log.txt'
    assert f'exit code 3; the end of {log}:' in told
    assert 'this loss is broken' in told
    assert '    so far' in told
    assert 'all is well' not in told  # overwritten on the line, as progress bars do
    table = (folder / 'out/table.md').read_text()
    assert '- maps/similarity/seed0/distil: failed' in table
    (folder / 'break_similarity').unlink()
    assert run_plan(folder) == 0


def test_a_command_that_writes_no_result_has_failed(folder):
    (folder / 'fake_evaluate.py').write_text('')
    assert run_plan(folder, only=ONE_RUN) == 1
    message = results_of(folder)['jobs']['maps/relational/seed0/zero_shot']['message']
    assert 'ended without writing' in message


def test_a_distillation_that_was_stopped_half_way_goes_on_from_its_checkpoint(folder):
    job = jobs_of(folder)['maps/relational/seed0/distil']
    polls = iter(range(1000))
    edit(folder / 'run.yaml', epochs=60)
    job = jobs_of(folder)[job.name]

    def stopping():
        return next(polls) > 8

    assert run_job(job, stopping).status == 'stopped'
    steps = int(job.result.read_text())
    assert 0 < steps < 60
    assert not is_done(job)
    assert run_job(job).status == 'done'
    assert starts(folder) == [job.name, f'{job.name} --resume']
    assert job.result.read_text() == '60'


def test_a_half_done_distillation_with_other_settings_is_not_resumed(folder):
    edit(folder / 'run.yaml', epochs=60)
    job = jobs_of(folder)['maps/relational/seed0/distil']
    polls = iter(range(1000))
    run_job(job, lambda: next(polls) > 8)
    edit(folder / 'run.yaml', epochs=2)
    job = jobs_of(folder)[job.name]
    assert run_job(job).status == 'done'
    assert starts(folder) == [job.name, job.name]
    assert list((folder / 'out/outdated/maps/relational/seed0').glob('distil-*/out/*'))


def test_a_killed_comparison_goes_on_and_no_job_runs_twice_at_a_time(folder, capfd):
    edit(folder / 'run.yaml', epochs=40)
    process = start_compare(folder, ONE_RUN)
    wait_for_step(folder, process)
    os.killpg(process.pid, signal.SIGKILL)  # not its job: it has a session of its own
    process.wait()
    assert run_plan(folder, only=ONE_RUN) == 0
    distil, zero_shot = 'maps/relational/seed0/distil', 'maps/relational/seed0/zero_shot'
    assert starts(folder) == [distil, f'{distil} --resume', zero_shot]
    job = jobs_of(folder)[distil]
    assert job.result.read_text() == '40'
    steps = [line for line in (job.folder / 'log.txt').read_text().splitlines() if 'step' in line]
    assert steps == [f'step {step}' for step in range(1, 41)]  # none of them twice
    assert 'waiting for another process' in capfd.readouterr().out


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_comparison_stops_its_jobs_and_goes_on_later(folder, number):
    edit(folder / 'run.yaml', epochs=100)
    process = start_compare(folder, ONE_RUN)
    wait_for_step(folder, process)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, output
    assert 'the same command continues' in output
    checkpoint = jobs_of(folder)['maps/relational/seed0/distil'].result
    steps = int(checkpoint.read_text())
    time.sleep(0.3)
    assert int(checkpoint.read_text()) == steps < 100  # nothing goes on in the background
    assert run_plan(folder, only=ONE_RUN) == 0
    assert 'maps/relational/seed0/distil --resume' in starts(folder)
    assert checkpoint.read_text() == '100'
