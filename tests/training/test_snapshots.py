"""Dictionaries over training against runs without them, a run that looks after each step, and
NumPy."""

import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from saejax import SAEConfig, Settings, Sweep, load, train
from saejax.core.keys import stream
from saejax.results.workdir import RunLog
from saejax.training.cells import transpose_decoder
from saejax.training.state import compile_chunk

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
SWEEP = Sweep(l1=(0.3, 0.01), ratio=(2, 1), seeds=(3, 0), lr=0.05)
THRESHOLD = 0.3
# An odd number of steps between snapshots: the two sets of buffers change places in each of them.
TAKING = Settings(
    steps=12,
    batch_size=8,
    eval_every=6,
    eval_batches=2,
    snapshot_every=3,
    dead_threshold=THRESHOLD,
    sae=SAEConfig(init="linear"),
)
CELLS = list(np.ndindex(1, 2, 2, 2, 1, 1, 1, 1))


def where_of(index):
    _, seed, ratio, l1, *_ = index
    return {"seed": SWEEP.seeds[seed], "ratio": SWEEP.ratio[ratio], "l1": SWEEP.l1[l1]}


@pytest.fixture(scope="module")
def taking(tmp_path_factory):
    path = tmp_path_factory.mktemp("taking") / "run"
    return path, train(SWEEP, ROWS, TAKING, workdir=path, progress=False)


@pytest.fixture(scope="module")
def stepwise():
    """The run without snapshots, evaluated after every step, and the weights after each of them."""
    seen = []

    def watched(plan, state, inputs):
        seen.append(weights_of(state.cells))
        one_step = compile_chunk(plan, state, inputs)

        def step_and_look(*args):
            out = one_step(*args)
            seen.append(weights_of(out[0].cells))
            return out

        return step_and_look

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["saejax.training.loop"], "compile_chunk", watched)
        result = train(SWEEP, ROWS, replace(TAKING, eval_every=1, snapshot_every=0), progress=False)
    return result, seen


def weights_of(groups):
    """Weights of each width, [source, hyper, ...]."""
    return [jax.tree.map(np.array, transpose_decoder(group.params)) for group in groups]


def test_snapshots_change_nothing_else(taking, stepwise):
    _, result = taking
    without, _ = stepwise
    assert result.history.keys() == without.history.keys()
    for name, values in result.history.items():
        np.testing.assert_array_equal(values, without.history[name][[5, 11]], err_msg=name)
    for index in CELLS:
        jax.tree.map(
            np.testing.assert_array_equal, result.load_params(index), without.load_params(index)
        )


def test_snapshots_are_taken_from_the_start_to_the_end(taking):
    _, result = taking
    for index in CELLS:
        steps, W_dec, alive = result.snapshots(**where_of(index))
        d_sae = 3 * int(SWEEP.ratio[index[2]])
        np.testing.assert_array_equal(steps, [0, 3, 6, 9, 12])
        assert (W_dec.shape, W_dec.dtype) == ((5, d_sae, 3), np.float32)
        assert (alive.shape, alive.dtype) == ((5, d_sae), bool)


def test_a_snapshot_is_the_dictionary_of_a_run_that_stopped_there(taking, stepwise):
    _, result = taking
    _, seen = stepwise
    for index in CELLS:
        steps, W_dec, _ = result.snapshots(**where_of(index))
        for step, got in zip(steps, W_dec, strict=True):
            expected = seen[step][index[2]].W_dec[index[1], index[3]]
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=f"{step}")
        moved = np.abs(np.diff(W_dec, axis=0)).max((1, 2))
        assert moved.min() > 0.01, "a snapshot of another step must not pass for this one"


def test_the_last_snapshot_is_the_final_dictionary(taking):
    _, result = taking
    for index in CELLS:
        where = where_of(index)
        np.testing.assert_array_equal(
            result.snapshots(**where).W_dec[-1], result.dictionary(**where).W_dec
        )


def test_latents_alive_are_those_that_fire_on_the_evaluation_batches_of_that_step(taking, stepwise):
    _, result = taking
    without, seen = stepwise
    counts = set()
    for index in CELLS:
        _, seed, ratio, l1, *_ = index
        steps, _, alive = result.snapshots(**where_of(index))
        for step, got in zip(steps, alive, strict=True):
            keys = jax.random.split(
                jax.random.fold_in(stream(SWEEP.seeds[seed], "evaluation"), step),
                TAKING.eval_batches,
            )
            drawn = [jax.random.randint(key, (TAKING.batch_size,), 0, len(ROWS)) for key in keys]
            x = ROWS[np.concatenate(drawn)].astype(np.float64)
            W_enc, b_enc = (a[seed, l1] for a in seen[step][ratio][:2])
            highest = np.maximum(x @ W_enc + b_enc, 0).max(0)
            assert np.abs(highest - THRESHOLD).min() > 1e-4, "rounding decides nothing here"
            np.testing.assert_array_equal(got, highest > THRESHOLD)
            if step:
                assert (~got).sum() == without.history["dead_latents"][step - 1][index]
            counts.add((~got).sum() / len(got))
    assert min(counts) < max(counts)


def test_latents_alive_and_dead_latents_of_one_run_agree(taking):
    _, result = taking
    for index in CELLS:
        steps, _, alive = result.snapshots(**where_of(index))
        dead = (~alive).sum(1)[np.isin(steps, result.steps)]
        np.testing.assert_array_equal(dead, [a[index] for a in result.history["dead_latents"]])


def test_a_cell_alone_has_the_snapshots_that_it_has_in_a_sweep(taking):
    _, result = taking
    # An even number of steps this time.
    alone = train(
        Sweep(l1=0.01, ratio=2, seeds=0, lr=0.05),
        ROWS,
        replace(TAKING, snapshot_every=2),
        progress=False,
    ).snapshots()
    np.testing.assert_array_equal(alone.steps, range(0, 13, 2))
    shared = result.snapshots(seed=0, ratio=2, l1=0.01)
    for name in ("W_dec", "alive"):
        a, b = getattr(alone, name)[[0, 3, 6]], getattr(shared, name)[[0, 2, 4]]
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_snapshots_come_back_from_the_workdir(taking):
    path, result = taking
    again = load(path)
    assert len(list((path / "snapshots").iterdir())) == len(CELLS)
    for index in CELLS:
        jax.tree.map(
            np.testing.assert_array_equal,
            again.snapshots(**where_of(index)),
            result.snapshots(**where_of(index)),
        )


def test_a_run_without_snapshots_says_so(stepwise, tmp_path):
    without, _ = stepwise
    assert without.run["settings"]["snapshot_every"] == 0
    with pytest.raises(ValueError, match="snapshot_every: was 0 in this run"):
        without.snapshots(seed=0, ratio=2, l1=0.01)
    RunLog(tmp_path / "bare", without.run, None).finish(without)
    assert not (tmp_path / "bare" / "snapshots").exists()
    with pytest.raises(ValueError, match="snapshot_every: was 0 in this run"):
        load(tmp_path / "bare").snapshots(seed=0, ratio=2, l1=0.01)


def test_snapshots_of_a_run_that_did_not_end_are_absent_with_a_reason(taking, tmp_path):
    _, result = taking
    log = RunLog(tmp_path / "cut", result.run, None)
    measured = {name: a[0] for name, a in result.history.items()}
    log.evaluation(6, result.coords, result.d_sae, measured)
    with pytest.raises(FileNotFoundError, match="snapshots are written when a run ends"):
        load(tmp_path / "cut").snapshots(seed=0, ratio=2, l1=0.01)


def test_snapshots_ask_for_the_axis_left_open(taking):
    path, result = taking
    for each in (result, load(path)):
        with pytest.raises(
            ValueError, match=r"l1: not given, and the sweep has several: 0\.3, 0\.01"
        ):
            each.snapshots(seed=0, ratio=2)
