"""Runs that cannot start, freeze or are interrupted."""

import io
import json
import re
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_runs import (
    EVERY_WAY,
    PLAIN,
    ROWS,
    SETTINGS,
    SPEC,
    TWO_L1,
    batch_of,
    cells_of,
    quiet,
)

from saejax import Sweep, load, train
from saejax.training.batches import Inputs
from saejax.training.chunk import State

# ---------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("sweep", "data", "settings", "error", "message"),
    [
        (Sweep(ratio=0.3), SPEC, PLAIN, ValueError, "ratio: got 0.3.*n_features=8.*whole number"),
        (Sweep(ratio=0.25), ROWS, PLAIN, ValueError, "ratio: got 0.25.*d_in=6"),
        (
            Sweep(resample="on", ratio=1),
            SPEC,
            PLAIN,
            ValueError,
            "^resample: got 'on', allowed: only with resample_every above 0$",
        ),
        (
            Sweep(resample=("off", "anthropic"), ratio=1),
            SPEC,
            PLAIN,
            ValueError,
            "^resample: got 'anthropic', allowed: only with resample_every above 0$",
        ),
        (
            Sweep(resample=("off", "ghost"), ratio=1),
            SPEC,
            PLAIN,
            ValueError,
            "^resample: got 'ghost', allowed: only with ghost_after above 0$",
        ),
        (
            Sweep(resample=("on", "ghost"), ratio=1),
            SPEC,
            SETTINGS,
            ValueError,
            "^resample: got 'ghost', allowed: only with ghost_after above 0$",
        ),
        (
            Sweep(ratio=1),
            SPEC,
            SETTINGS,
            ValueError,
            "^resample_every: got 4, allowed: 0, because no cell .* resample 'on' or 'anthropic'$",
        ),
        (
            Sweep(resample="ghost", ratio=1),
            SPEC,
            EVERY_WAY,
            ValueError,
            "^resample_every: got 4, allowed: 0, because no cell .* resample 'on' or 'anthropic'$",
        ),
        (
            Sweep(resample=("on", "anthropic"), ratio=1),
            SPEC,
            EVERY_WAY,
            ValueError,
            "^ghost_after: got 2, allowed: 0, because no cell of the sweep has resample 'ghost'$",
        ),
        (Sweep(ratio=1), ROWS[0], PLAIN, ValueError, r"shape \(6,\), allowed: \[rows, d_in\]"),
        (Sweep(ratio=1), {}, PLAIN, ValueError, "empty dict"),
        (
            Sweep(ratio=1),
            {"a": SPEC, "b": replace(SPEC, d_in=5)},
            PLAIN,
            ValueError,
            "d_in must be",
        ),
        (
            Sweep(ratio=1),
            batch_of,
            replace(PLAIN, batch_size=5),
            ValueError,
            r"returns an array of shape \(16, 6\), allowed: one array of shape \[batch_size=5",
        ),
        (Sweep(ratio=1), "uncorrelated", PLAIN, TypeError, "got str, allowed: a Synthetic"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors_come_before_compilation_and_before_the_workdir(
    sweep, data, settings, error, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("something was compiled"))
    with pytest.raises(error, match=message):
        quiet(sweep, data, settings, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_used_workdir_is_refused_before_compilation(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("something was compiled"))
    with pytest.raises(FileExistsError, match="workdir"):
        quiet(Sweep(ratio=1), SPEC, PLAIN, workdir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def with_a_bad_rate():
    sweep = Sweep(l1=(0.01, 0.1), ratio=1, lr=(1e-3, 1e15))
    text = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, redirect_stderr(text):
        warnings.simplefilter("always")
        result = train(sweep, ROWS, replace(PLAIN, steps=6, eval_every=3))
    return result, [str(w.message) for w in caught], text.getvalue()


def test_a_cell_that_is_not_finite_is_named_once_and_frozen(with_a_bad_rate):
    result, messages, _ = with_a_bad_rate
    about = [m for m in messages if "frozen" in m]
    assert len(about) == 2
    for message, l1 in zip(about, (0.01, 0.1), strict=True):
        coordinates = (
            f"dataset=data, seed=0, ratio=1.0, l1={l1}, lr={1e15}, resample=off, "
            "architecture=relu, k=0"
        )
        assert message.startswith(f"cell {coordinates}: not finite at step 1;")
    np.testing.assert_array_equal(result.final["frozen_at"][0, 0, 0, :, 1, 0, 0, 0], 1)
    for _, where in cells_of(result):
        params = result.dictionary(**where)
        assert all(np.isfinite(a).all() for a in (params.W_enc, params.b_enc, params.W_dec))


def test_the_other_cells_finish(with_a_bad_rate):
    result, _, _ = with_a_bad_rate
    good = np.ix_(*result.select(lr=1e-3))
    assert (result.final["frozen_at"][good] == -1).all()
    assert np.isfinite(result.values("mse")[good]).all()
    assert (result.history["mse"][1][good] < result.history["mse"][0][good]).all()
    assert np.isnan(result.values("mse")[np.ix_(*result.select(lr=1e15))]).all()


def test_progress_bar_shows_step_time_left_and_rates(with_a_bad_rate):
    _, _, text = with_a_bad_rate
    assert "compiling" in text
    pattern = (
        r"training: 100%.*step 6/6 \[[\d:]+, [\d:]+ left, [\d.e+]+ samples/s, [\d.e+-]+ TFLOP/s\]"
    )
    assert re.search(pattern, text)
    assert "step 3/6" in text


def test_no_progress_bar_when_it_is_off(recorded):
    assert recorded[2] == ""


STUDY = {"name": "grid", "numbers": [1, 2.5], "nothing": None}
INTERRUPTIONS = [KeyboardInterrupt(), RuntimeError("out of memory")]
each_interruption = pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda e: type(e).__name__)


def interrupt(monkeypatch, error, at, meanwhile=lambda: None):
    """Makes `train` end with an error at this step; nothing is compiled, and every mse is 1."""

    def compile_chunk(plan, state, inputs):
        def chunk(*args):
            if int(args[-1]) >= at:
                meanwhile()
                raise error
            shape = (plan.n_source, len(plan.d_sae), *plan.n_hypers)
            return args[0], ({"mse": jnp.ones(shape), "frozen_at": jnp.full(shape, -1)},), None

        return chunk

    module = sys.modules["saejax.training.loop"]
    monkeypatch.setattr(module, "start", lambda plan: (State((), (), ()), Inputs({}, None, ())))
    monkeypatch.setattr(module, "compile_chunk", compile_chunk)


def end(path, error, **kwargs):
    with pytest.raises(type(error)):
        quiet(TWO_L1, ROWS, PLAIN, workdir=path, flags="--steps=8\n", **kwargs)


@each_interruption
def test_a_run_that_ends_before_its_first_evaluation_leaves_no_folder(tmp_path, monkeypatch, error):
    seen = []
    path = tmp_path / "run"
    interrupt(monkeypatch, error, 0, lambda: seen.extend(p.name for p in path.iterdir()))
    for _ in range(2):
        end(path, error)
        assert list(tmp_path.iterdir()) == []
    assert sorted(seen) == sorted(2 * [".lock", "config.flags", "metrics.jsonl", "run.json"])


@each_interruption
def test_an_empty_folder_is_empty_again(tmp_path, monkeypatch, error):
    interrupt(monkeypatch, error, 0)
    end(tmp_path, error)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appeared_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "run"
    interrupt(monkeypatch, INTERRUPTIONS[0], 0, lambda: (path / "notes.txt").write_text("mine"))
    end(path, INTERRUPTIONS[0])
    assert [(p.name, p.read_text()) for p in path.iterdir()] == [("notes.txt", "mine")]


def test_a_first_evaluation_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    def half(path, rows):
        path.write_text(json.dumps(next(iter(rows)))[:20])
        raise OSError("disk full")

    interrupt(monkeypatch, INTERRUPTIONS[0], 8)
    monkeypatch.setattr("saejax.results.workdir.append_rows", half)
    end(tmp_path / "run", OSError())
    assert list(tmp_path.iterdir()) == []


@each_interruption
def test_a_run_that_ends_after_its_first_evaluation_keeps_everything(tmp_path, monkeypatch, error):
    interrupt(monkeypatch, error, 4)
    end(tmp_path / "run", error, study=STUDY)
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert names == ["config.flags", "metrics.jsonl", "run.json"]
    result = load(tmp_path / "run")
    np.testing.assert_array_equal(result.steps, [4])
    assert result.values("mse").shape == (1, 1, 2, 2, 1, 1, 1, 1)
    assert result.run["study"] == STUDY
    assert result.run["finished"] is False


def test_a_study_that_is_not_json_is_an_error_that_leaves_no_folder(tmp_path, monkeypatch):
    interrupt(monkeypatch, INTERRUPTIONS[0], 0)
    end(tmp_path / "run", TypeError(), study={"name": object()})
    assert list(tmp_path.iterdir()) == []
