"""Cells on several devices and in several processes are what they are on one."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import resumable
from helpers.commands import devices
from helpers.resumable import run
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax import Resample, Sweep, load
from saejax.core.devices import Layout, choose_layout
from saejax.training.planning import make_plan
from saejax.training.resuming import Keeper

HERE = Path(__file__).resolve().parents[1]
PATHS = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
sizes = st.integers(1, 24)


@given(n_devices=st.integers(1, 16), n_source=sizes, n_hyper=sizes, batch_size=st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_a_layout_divides_what_it_is_laid_over_and_uses_all_devices_that_can_be(
    n_devices, n_source, n_hyper, batch_size
):
    whole = n_source, n_hyper, batch_size
    layout = choose_layout(n_devices, *whole)
    assert layout.n_devices <= n_devices
    assert not any(n % parts for n, parts in zip(whole, layout, strict=True))
    for other in np.ndindex(*(min(n, n_devices) for n in whole)):
        other = Layout(*(i + 1 for i in other))
        if not any(n % parts for n, parts in zip(whole, other, strict=True)):
            if other.n_devices <= n_devices:
                assert other.n_devices <= layout.n_devices
            if other.n_devices == layout.n_devices:
                assert other.batch >= layout.batch


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        ((8, 2, 6, 4096), (2, 2, 2)),  # the published grid
        ((4, 2, 6, 4096), (2, 2, 1)),
        ((6, 2, 6, 4096), (2, 3, 1)),
        ((8, 1, 1, 512), (1, 1, 8)),
        ((3, 1, 1, 512), (1, 1, 2)),
        ((1, 5, 5, 5), (1, 1, 1)),
    ],
)
def test_batches_are_divided_only_where_cells_are_fewer(given, layout):
    assert choose_layout(*given) == layout


def start(n_devices, *arguments):
    """A process with so many simulated devices that trains the run of `resumable`."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "helpers" / "resumable.py"), *map(str, arguments)],
        env=devices(n_devices) | PATHS,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def end(process, code=0):
    _, error = process.communicate(timeout=240)
    assert process.returncode == code, error
    return error


def here(path, what=resumable.EVERY_WAY):
    sweep, settings = what
    run(path, settings=settings, sweep=sweep)


def stopped_here(path, step, monkeypatch):
    """A run that one device left at a step."""

    def act(done):
        if done == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "chunk_done", resumable.after_chunk(act))
        with pytest.raises(KeyboardInterrupt):
            here(path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The whole run on one device."""
    assert jax.device_count() == 1
    path = tmp_path_factory.mktemp("alone") / "run"
    here(path)
    return path


# Adam's first steps are as large for a gradient near 0, which is mostly rounding, as for any other.
ROUNDED = {"rtol": 1e-3, "atol": 1e-3}


def assert_same(path, alone, history_from=0):
    """Results up to rounding."""
    result, expected = load(path), load(alone)
    assert result.run["finished"]
    for name, values in expected.history.items():
        np.testing.assert_allclose(result.history[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(result.best_index, expected.best_index)
    assert result.cells() == expected.cells()
    for index in expected.cells():
        ours, theirs = (r.load_params(index)._asdict() for r in (result, expected))
        for name, values in theirs.items():
            if values is None:
                assert ours[name] is None
            else:
                np.testing.assert_allclose(ours[name], values, **ROUNDED, err_msg=name)
        film, expected_film = (r.load_snapshots(index) for r in (result, expected))
        np.testing.assert_allclose(film.W_dec, expected_film.W_dec, **ROUNDED)
        np.testing.assert_array_equal(film.alive, expected_film.alive)


def test_eight_devices_go_on_where_one_stopped_and_come_to_the_same(alone, tmp_path, monkeypatch):
    stopped_here(tmp_path / "run", 2, monkeypatch)
    # Whole cells each: were anything exchanged, devices that share a CPU's threads could lock up.
    end(start(8, tmp_path / "run", "--every_way", "--exchanges_nothing"))
    assert load(tmp_path / "run").run["layout"] == {"source": 2, "hyper": 4, "batch": 1}
    assert_same(tmp_path / "run", alone)


def test_two_processes_train_one_sweep_and_one_device_goes_on(alone, tmp_path):
    port, path = free_port(), tmp_path / "run"
    # Twice as many devices as cells. SIGTERM reaches the second process alone, and both stop.
    pair = [
        start(
            8,
            path,
            "--every_way",
            f"--coordinator=localhost:{port}",
            f"--process_id={i}",
            *(["--signal_at=6"] if i else []),
        )
        for i in range(2)
    ]
    for process in pair:
        assert "SIGTERM: stopped at step 6 of 12 and saved" in end(process, 143)
    assert load(path).run["layout"] == {"source": 2, "hyper": 4, "batch": 2}
    here(path)
    assert [r["step"] for r in load(path).run["resumed"]] == [6]
    assert_same(path, alone)


def test_eight_devices_train_architectures_side_by_side_as_one_does(tmp_path):
    here(tmp_path / "alone", resumable.MIXED)
    port, path = free_port(), tmp_path / "run"
    pair = [
        start(4, path, "--mixed", f"--coordinator=localhost:{port}", f"--process_id={i}")
        for i in range(2)
    ]
    for process in pair:
        end(process)
    assert load(path).run["layout"] == {"source": 2, "hyper": 2, "batch": 2}
    assert_same(path, tmp_path / "alone")


def test_what_is_dealt_to_devices_comes_out_even_in_every_architecture(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 16)
    settings = replace(resumable.SETTINGS, resample=Resample())
    sweep = Sweep(
        l1=(0.1, 0.2, 0.3, 0.4), k=(1, 2, 3, 4, 5, 6), ratio=2, architecture=("relu", "topk")
    )
    plan = make_plan(sweep, resumable.DATA, settings)
    assert plan.layout == Layout(1, 2, 1)
    assert plan.local == (1, (2, 3), 16)


def test_devices_that_cannot_all_be_used_are_said(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 3)
    sweep, settings = resumable.EVERY_WAY
    given = sweep, resumable.DATA, settings
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.warns(
        UserWarning, match=r"batch_size 16: 2 of 3 devices can share .* a multiple of 3"
    ):
        plan = make_plan(*given)
    assert plan.layout == Layout(2, 1, 1)
    assert plan.local == (1, (4,), 16)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(
        ValueError, match=r"batch_size: got 16, with which 2 of 3 devices .*; allowed"
    ):
        make_plan(*given)


def test_cores_of_a_cpu_do_not_divide_batches(monkeypatch, recwarn):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 16)
    sweep, settings = resumable.EVERY_WAY
    plan = make_plan(sweep, resumable.DATA, settings)
    assert plan.layout == Layout(2, 4, 1)
    assert not recwarn.list
