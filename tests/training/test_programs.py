"""Programs are kept in the process: what was compiled for one run serves the next of its shapes."""

import gc
import weakref
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import saejax
from saejax import ReLU, Resample, SAEConfig, Settings, Sweep, Synthetic, train
from saejax.data.source import ArraySource

SETTINGS = Settings(steps=6, batch_size=8, eval_every=3, eval_batches=2)
DATA = Synthetic("correlated", d_in=4, n_features=8, avg_active=1.5)
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations(monkeypatch):
    """Counts what the compiler is asked for, whether or not its answer lies in a cache on disk."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: seen.append(name))
    yield lambda: sum(name == COMPILED for name in seen)
    jax.monitoring.clear_event_listeners()


def run(data=DATA, l1=(0.01,), seeds=(0,), settings=SETTINGS, metrics=None, **sweep):
    sweep = Sweep(l1=list(l1), ratio=1, seeds=seeds, **sweep)
    return train(sweep, data, settings, progress=False, metrics=metrics)


def rows(seed=0):
    return np.random.default_rng(seed).normal(size=(40, 4)).astype(np.float32)


CASES = {
    "synthetic": {},
    "an array": {"data": rows()},
    "two data sets": {"data": {"a": rows(), "b": rows(1)}},
    "snapshots": {"settings": Settings(steps=6, batch_size=8, eval_every=6, snapshot_every=3)},
    "tied weights": {
        "settings": Settings(
            steps=6, batch_size=8, eval_every=3, sae=SAEConfig(use_b_dec=True, init="tied")
        )
    },
    "revival": {
        "settings": Settings(
            steps=6, batch_size=8, eval_every=3, resample=Resample(every=4, window=2)
        ),
        "resample": "on",
    },
    "another architecture": {"architecture": "topk", "k": [1, 2], "l1": None},
    "a metric": {"metrics": {"largest": lambda seen: jnp.max(seen.h)}},
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_shapes_compile_nothing(case, compilations):
    about = {"l1": (0.01,), **CASES[case]}
    if about["l1"] is None:
        about["l1"] = ()
        sweep = Sweep(architecture="topk", k=[1, 2], ratio=1)
        twice = [lambda: train(sweep, DATA, SETTINGS, progress=False)] * 2
    else:
        twice = [lambda: run(**about)] * 2
    twice[0]()
    before = compilations()
    assert before > 0
    twice[1]()
    assert compilations() == before


def test_other_numbers_of_the_same_shapes_compile_nothing(compilations):
    run(rows())
    before = compilations()
    other = run(rows(seed=5), l1=(0.02,), seeds=(3,), lr=0.003)
    assert compilations() == before
    assert other.coords["seed"] == (3,)


def test_kept_programs_give_what_fresh_ones_give():
    first, again = run(rows(seed=2)), run(rows(seed=2))
    jax.clear_caches()
    for name, values in first.final.items():
        np.testing.assert_array_equal(values, again.final[name])


@pytest.mark.parametrize(
    "change",
    [
        {"settings": Settings(steps=6, batch_size=8, eval_every=2, eval_batches=2)},
        {"settings": Settings(steps=6, batch_size=10, eval_every=3, eval_batches=2)},
        {"data": Synthetic("correlated", d_in=4, n_features=8, avg_active=2)},
        {"l1": (0.01, 0.1)},
    ],
    ids=str,
)
def test_what_changes_the_program_is_compiled(change, compilations):
    run()
    before = compilations()
    run(**change)
    assert compilations() > before


def test_a_function_that_reads_something_else_by_now_is_compiled_anew():
    rows_of = {"x": jnp.zeros((8, 4))}

    def batch(key):
        return rows_of["x"] + jax.random.normal(key, (8, 4))

    centred = run(batch).final["mse"]
    rows_of["x"] = jnp.full((8, 4), 100.0)
    far = run(batch).final["mse"]
    assert (far > 100 * centred).all()


def test_a_metric_that_reads_something_else_by_now_is_compiled_anew():
    scale = {"x": 1.0}
    metrics = {"scaled": lambda seen: scale["x"] * jnp.mean(seen.x**2)}
    one = run(rows(), metrics=metrics).final["scaled"]
    scale["x"] = 2.0
    two = run(rows(), metrics=metrics).final["scaled"]
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


def test_an_objective_that_reads_something_else_by_now_is_compiled_anew():
    weight = {"x": 0.0}
    own = ReLU().with_objective(
        "own", lambda params, x, h, x_hat, l1: weight["x"] * jnp.mean((x - x_hat) ** 2)
    )
    settings = Settings(steps=30, batch_size=8, eval_every=30)
    still = run(rows(), architecture=own, settings=settings).final["mse"]
    weight["x"] = 1.0
    moved = run(rows(), architecture=own, settings=settings).final["mse"]
    assert (moved < still).all()


@dataclass(frozen=True)
class Own(ArraySource):
    """A source of the user's own, whose program may change from run to run."""

    def sample(self, shared, arrays, key, batch_size):
        return 10 * super().sample(shared, arrays, key, batch_size)


def test_a_source_of_the_users_own_is_not_taken_for_another():
    plain = run(ArraySource(jnp.asarray(rows()))).final["mse"]
    tenfold = run(Own(jnp.asarray(rows()))).final["mse"]
    assert (tenfold > 20 * plain).all()


@pytest.mark.parametrize("kind", [ArraySource, Own])
def test_no_program_keeps_the_data(kind):
    source = kind(jnp.asarray(rows(seed=7)))
    data = weakref.ref(source.shared)
    run(source)
    del source
    gc.collect()
    assert data() is None


def test_importing_and_asking_for_a_version_compiles_nothing(compilations):
    assert saejax.__version__
    assert compilations() == 0
