"""An interrupted run goes on where it was saved, and its results are those of an uninterrupted
one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import resumable
from helpers.resumable import DATA, SETTINGS, SWEEP, run

from saejax import load
from saejax.core.checkpoints import Checkpoints
from saejax.core.signals import stopping
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter
from saejax.results.workdir import RunLog
from saejax.training.planning import make_plan
from saejax.training.resuming import Keeper

CACHE = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Programs are compiled once for all runs of this module, and those of its children."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    before = {name: getattr(jax.config, name) for name in CACHE}
    for name, value in CACHE.items():
        jax.config.update(name, folder if value is None else value)
    yield {k.upper(): str(folder if v is None else v) for k, v in CACHE.items()}
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of a run that nobody interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run(path)
    return path


def arrays(path):
    with np.load(path) as file:
        return {name: (a.dtype, a.shape, a.tobytes()) for name, a in file.items()}


def results(path):
    """Everything that a run leaves but times and the machine."""
    texts = {name: (path / name).read_text() for name in ("results.csv", "metrics.jsonl")}
    files = {str(p.relative_to(path)): arrays(p) for p in sorted(path.rglob("*.npz"))}
    return texts | files


def signalled(monkeypatch, step, number=signal.SIGTERM):
    """Lets the process get a signal after this step."""

    def act(done):
        if done == step:
            signal.raise_signal(number)

    monkeypatch.setattr(Keeper, "chunk_done", resumable.after_chunk(act))


def steps_trained(monkeypatch):
    """The steps at which chunks end from now on."""
    seen = []
    monkeypatch.setattr(Keeper, "chunk_done", resumable.after_chunk(seen.append))
    return seen


def stop(monkeypatch, path, step, **kwargs):
    """Leaves a run that was stopped, and saved, at a step."""
    with monkeypatch.context() as patch:
        signalled(patch, step)
        with pytest.raises(SystemExit):
            run(path, **kwargs)


def test_sigterm_saves_says_so_and_the_same_run_ends_bit_for_bit(
    whole, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        signalled(patch, 6)
        with pytest.raises(SystemExit) as ended:
            run(tmp_path / "run", checkpoint_every=None)
    assert ended.value.code == 143
    error = capsys.readouterr().err
    assert (
        "SIGTERM: stopped at step 6 of 12 and saved; the same command goes on from there" in error
    )
    assert not load(tmp_path / "run").run["finished"]
    seen = steps_trained(monkeypatch)
    result = run(tmp_path / "run")
    assert seen == [8, 10, 12]
    assert results(tmp_path / "run") == results(whole)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert [r["step"] for r in result.run["resumed"]] == [6]
    assert len(result.run["chunk_seconds"]) == 6


def test_a_training_on_a_store_goes_on_bit_for_bit(tmp_path, monkeypatch):
    own = StoreConfig({}, "h", 6, dtype="float16", rows_per_shard=64, has_tokens=False)
    with StoreWriter(tmp_path / "store", own) as writer:
        writer.append(np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))
        writer.finish()
    data = StoreSource(Store.open(tmp_path / "store"), held_out=0.2)
    run(tmp_path / "whole", data)
    stop(monkeypatch, tmp_path / "run", 4, data=data)
    stop(monkeypatch, tmp_path / "run", 10, data=data)
    run(tmp_path / "run", data)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_a_sweep_of_several_architectures_goes_on_bit_for_bit(tmp_path, monkeypatch):
    sweep, settings = resumable.MIXED
    mixed = {"sweep": sweep, "settings": settings}
    result = run(tmp_path / "whole", **mixed)
    assert len(result.cells()) == 8
    stop(monkeypatch, tmp_path / "run", 6, **mixed)
    assert load(tmp_path / "run").cells() == result.cells()
    seen = steps_trained(monkeypatch)
    run(tmp_path / "run", **mixed)
    assert seen == [8, 10, 12]
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_killed_at_any_moment_it_goes_on_bit_for_bit(whole, tmp_path, compiled):
    path, dice = tmp_path / "run", random.Random(time.time_ns())

    def child(*arguments):
        here = Path(__file__).resolve().parents[1]
        return subprocess.Popen(
            [sys.executable, str(here / "helpers" / "resumable.py"), str(path), *arguments],
            env=os.environ
            | compiled
            | {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])},
            stderr=subprocess.PIPE,
        )

    # Anywhere: while it starts, compiles, trains or saves. Then while its second checkpoint is
    # written.
    killed = child("--pause=0.2")
    deadline = time.monotonic() + 120
    while killed.poll() is None and time.monotonic() < deadline:
        if (path / "metrics.jsonl").exists():
            time.sleep(dice.uniform(0, 4))
            break
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    done = sum(1 for _ in (path / "metrics.jsonl").open()) // 4 * 2
    in_a_save = child(f"--kill_at={min(done + 4, 12)}")
    _, error = in_a_save.communicate(timeout=120)
    assert in_a_save.returncode == -signal.SIGKILL, error.decode()
    run(path)
    assert results(path) == results(whole)


@pytest.mark.parametrize("at", [2, 6])
def test_killed_while_it_writes_its_results_it_writes_them_again(whole, tmp_path, monkeypatch, at):
    plain, seen = RunLog._cells, []

    def cells(self, name, result, of):
        def limited(index):
            seen.append(index)
            if len(seen) == at:
                raise RuntimeError("killed")
            return of(index)

        plain(self, name, result, limited)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "_cells", cells)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "run")
    (tmp_path / "run" / "dictionaries" / ".half.part.npz").write_bytes(b"PK")
    trained = steps_trained(monkeypatch)
    run(tmp_path / "run")
    assert trained == []
    assert results(tmp_path / "run") == results(whole)


def test_killed_before_anything_was_measured_it_begins_anew(whole, tmp_path):
    plan = make_plan(SWEEP, DATA, SETTINGS)
    RunLog(tmp_path / "run", plan.describe(), None).close()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 2, "mse"')
    (tmp_path / "run" / ".results.part.csv").write_text("half")
    run(tmp_path / "run")
    assert results(tmp_path / "run") == results(whole)
    assert not list((tmp_path / "run").glob(".results*"))


def test_what_a_killed_process_left_of_its_first_file_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.part.json").write_text("{")
    stop(monkeypatch, tmp_path, 2)
    assert json.loads((tmp_path / "run.json").read_text())["finished"] is False


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    whole, tmp_path, monkeypatch
):
    stop(monkeypatch, tmp_path / "run", 8)
    newest = tmp_path / "run" / "checkpoints" / "8"
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    seen = steps_trained(monkeypatch)
    with pytest.warns(UserWarning, match=r"checkpoints.*8"):
        run(tmp_path / "run")
    assert seen == [8, 10, 12]
    assert results(tmp_path / "run") == results(whole)


def test_the_newest_two_are_kept_or_as_many_as_asked(tmp_path, monkeypatch):
    for name, keep in (("two", {}), ("three", {"keep_checkpoints": 3})):
        stop(monkeypatch, tmp_path / name, 8, **keep)
        with Checkpoints(tmp_path / name / "checkpoints", 9) as left:
            assert left.steps() == [4, 6, 8][-keep.get("keep_checkpoints", 2) :]


def test_by_default_it_saves_as_often_as_the_clock_says(tmp_path, monkeypatch):
    for name, seconds, steps in (("often", 0.0, [4, 6]), ("never", 1e9, [])):
        monkeypatch.setattr("saejax.training.resuming.SECONDS", seconds)
        with monkeypatch.context() as patch:
            fail = resumable.after_chunk(lambda step: 1 / (step != 6))
            patch.setattr(Keeper, "chunk_done", fail)
            with pytest.raises(ZeroDivisionError):
                run(tmp_path / name, checkpoint_every=None)
        with Checkpoints(tmp_path / name / "checkpoints") as left:
            assert left.steps() == steps


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_is_kept(
    whole, tmp_path, monkeypatch
):
    plain = shutil.disk_usage

    def full(path):
        usage = plain(path)
        return usage._replace(free=10) if (tmp_path / "run/checkpoints/6").exists() else usage

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", full)
        with pytest.raises(OSError, match=r"checkpoints.*step 8.*6"):
            run(tmp_path / "run")
    seen = steps_trained(monkeypatch)
    run(tmp_path / "run")
    assert seen == [8, 10, 12]
    assert results(tmp_path / "run") == results(whole)


# --------------------------------------------------------------------------- whose workdir it is


def test_a_run_that_has_ended_is_loaded_and_not_trained_again(whole, monkeypatch):
    before = results(whole)
    monkeypatch.setattr(
        sys.modules["saejax.training.loop"], "start", lambda *_: pytest.fail("it was trained again")
    )
    result = run(whole)
    assert result.run["finished"]
    assert result.values("mse").shape == (1, 2, 1, 1, 1, 2, 1, 1)
    assert results(whole) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(SETTINGS, steps=14), r"settings\.steps: got 14, allowed: 12"),
        (replace(SETTINGS, cell_batch=2), r"settings\.cell_batch: got 2, allowed: None"),
    ],
)
def test_another_configuration_is_refused_and_named(whole, settings, message):
    with pytest.raises(ValueError, match=rf"workdir: got .* of other settings: {message}; allowed"):
        run(whole, settings=settings)


def test_flags_that_differ_are_named_as_flags(tmp_path, monkeypatch):
    flags = "--workdir=a\n--steps=12\n--l1=0.5\n--checkpoint_every=2\n"
    stop(monkeypatch, tmp_path / "run", 2, flags=flags)
    others = "--workdir=b\n--steps=14\n--l1=0.5\n--checkpoint_every=4\n"
    with pytest.raises(
        ValueError, match=r"other settings: steps: got '14', allowed: '12'; allowed"
    ):
        run(tmp_path / "run", settings=replace(SETTINGS, steps=14), flags=others)
    run(tmp_path / "run", flags=flags.replace("=a", "=b"), checkpoint_every=4)


def test_another_array_or_function_of_the_same_shape_is_refused(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    shift = np.float32(1)
    given = {
        "rows": rows,
        "function": lambda key: jax.nn.relu(jax.random.normal(key, (16, 6))) + rows[0] * shift,
    }
    RunLog(tmp_path / "run", make_plan(SWEEP, given, SETTINGS).describe(), None).close()
    for other in (
        given | {"rows": rows + 1},
        given | {"function": lambda key: jax.nn.relu(jax.random.normal(key, (16, 6))) - rows[0]},
        given
        | {"function": lambda key: jax.nn.relu(jax.random.normal(key, (16, 6))) + rows[1] * shift},
    ):
        with pytest.raises(ValueError, match=r"data\.(rows|function)\.sha256: got"):
            run(tmp_path / "run", other)
    again = lambda key: jax.nn.relu(jax.random.normal(key, (16, 6))) + rows[0] * shift  # noqa: E731
    monkeypatch.setattr(sys.modules["saejax.training.loop"], "start", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it would have begun
        run(tmp_path / "run", given | {"function": again})


def test_a_second_process_on_the_workdir_is_refused(tmp_path, monkeypatch):
    refused = []

    def another(self, progress):
        with monkeypatch.context() as patch:
            patch.setattr(Keeper, "chunk_done", lambda *_: None)
            with pytest.raises(BlockingIOError, match=r"workdir: got .* another process is using"):
                run(tmp_path / "run")
        refused.append(progress.done)

    monkeypatch.setattr(Keeper, "chunk_done", another)
    run(tmp_path / "run")
    assert refused == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("every", [3, 0, -2, 2.5])
def test_checkpoints_between_evaluations_are_refused(tmp_path, every, unchecked):
    with pytest.raises(
        ValueError, match=r"checkpoint_every: got .*, allowed: None, or a multiple of"
    ):
        run(tmp_path / "run", checkpoint_every=every)
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------- signals


def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signalled(patch, 4, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", checkpoint_every=None)
    with Checkpoints(tmp_path / "run" / "checkpoints") as left:
        assert left.steps() == [4]
    with pytest.raises(KeyboardInterrupt), stopping() as asked:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert asked.asked()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it waited")


def test_handlers_are_put_back_and_left_alone_in_other_threads(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stopping():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    found = []

    def elsewhere():
        with stopping() as asked:
            found.append((signal.getsignal(signal.SIGTERM), asked.asked()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(before[0], False)]


def test_without_a_workdir_signals_mean_what_they_meant(monkeypatch):
    monkeypatch.setattr(
        sys.modules["saejax.training.loop"], "stopping", lambda: pytest.fail("handlers were set")
    )
    run(None)
