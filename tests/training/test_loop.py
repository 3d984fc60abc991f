"""Whole runs at tiny size against runs of one cell, plain Python loops and NumPy."""

import io
import json
import re
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax import Resample, SAEConfig, Settings, Sweep, Synthetic, encode, load, train
from saejax.analysis import baseline_fits
from saejax.core.keys import STREAMS
from saejax.data.source import FullBatch
from saejax.data.synthetic import recipe
from saejax.results.axes import ABSENT, AXES
from saejax.sae import params
from saejax.sae.params import Params
from saejax.sae.registry import ReLU
from saejax.training.cells import Cells, hypers, init_cells, public
from saejax.training.evaluate import to_next_larger
from saejax.training.plan import Group
from saejax.training.state import State
from saejax.training.step import step_group

D_IN, N_FEATURES, BATCH, EVAL_BATCHES, THRESHOLD = 6, 8, 16, 2, 0.7
SPEC = Synthetic("uncorrelated", d_in=D_IN, n_features=N_FEATURES, avg_active=2.0)
COPULA = replace(SPEC, kind="copula", copula_rank=2)
SETTINGS = Settings(
    steps=8,
    batch_size=BATCH,
    eval_every=4,
    eval_batches=EVAL_BATCHES,
    resample=Resample(every=4, window=2),
    track_threshold=THRESHOLD,
)
PLAIN = replace(SETTINGS, resample=Resample())
EVERY_WAY = replace(SETTINGS, resample=Resample(every=4, window=2, ghost_after=2))


def quiet(*args, **kwargs):
    return train(*args, **kwargs, progress=False)


def key_of(seed, stream, *numbers):
    key = jax.random.fold_in(jax.random.key(np.uint32(seed)), STREAMS.index(stream))
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def cells_of(result):
    """Position and coordinates of every cell."""
    for index in np.ndindex(*(len(v) for v in result.coords.values())):
        yield index, {k: v[i] for (k, v), i in zip(result.coords.items(), index, strict=True)}


def same_bits(a, b):
    return all(
        np.asarray(u).tobytes() == np.asarray(v).tobytes()
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def assert_close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


# ---------------------------------------------------------------------------------------- a sweep


@pytest.fixture(scope="module")
def big():
    sweep = Sweep(
        l1=(0.3, 0.01), ratio=(2, 0.5), seeds=(3, 0), lr=(1e-3, 0.1), resample=("off", "on")
    )
    return quiet(sweep, {"uncorrelated": SPEC, "copula": COPULA}, SETTINGS)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        (SPEC, {"seed": 3, "ratio": 0.5, "l1": 0.01, "lr": 1e-3, "resample": "off"}),
        (COPULA, {"seed": 0, "ratio": 2.0, "l1": 0.3, "lr": 0.1, "resample": "on"}),
    ],
    ids=["plain", "resampled"],
)
def test_a_cell_alone_is_the_same_cell_in_a_sweep(big, spec, where):
    settings = SETTINGS if where["resample"] == "on" else PLAIN
    sweep = Sweep(**{"seeds" if k == "seed" else k: v for k, v in where.items()})
    alone = quiet(sweep, spec, settings)
    chosen = big.select(dataset=spec.kind, **where)
    at = np.ix_(*chosen)
    assert alone.coords["dataset"] == (spec.kind,)
    assert_close(alone.dictionary(), big.dictionary(dataset=spec.kind, **where))
    for name, values in alone.history.items():
        np.testing.assert_allclose(
            values, [a[at] for a in big.history[name]], rtol=1e-4, atol=1e-5, err_msg=name
        )
    for name in set(alone.final) - {"mmcs_to_next_larger"}:
        np.testing.assert_allclose(alone.final[name], big.final[name][at], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.best_cosine, [a[at] for a in big.best_cosine], atol=1e-5)
    np.testing.assert_array_equal(alone.best_index, [a[at] for a in big.best_index])
    np.testing.assert_allclose(alone.features, big.features[np.ix_(*chosen[:2])], rtol=1e-6)


def test_anthropic_and_ghost_are_the_same_alone_and_beside_the_others():
    fixed = {"l1": 2.0, "ratio": 2, "lr": 0.1}  # so large a penalty silences latents at once
    # That off and on are the same alone is seen above, at other settings.
    rules = {"anthropic": SETTINGS.resample, "ghost": Resample(ghost_after=2)}
    ways = ReLU.revivals
    beside = quiet(Sweep(**fixed, resample=ways), SPEC, EVERY_WAY)
    found = [beside.dictionary(resample=way) for way in ways]
    for way, rule in rules.items():
        alone = quiet(Sweep(**fixed, resample=way), SPEC, replace(SETTINGS, resample=rule))
        assert_close(alone.dictionary(), found[ways.index(way)])
    for i, j in combinations(range(4), 2):
        assert np.abs(found[i].W_enc - found[j].W_enc).max() > 0.01, (ways[i], ways[j])


@pytest.fixture(scope="module")
def mixed_architectures():
    """ReLUs, TopKs and JumpReLUs of two widths, each at two values of its own axis."""
    sweep = Sweep(
        architecture=("relu", "topk", "jumprelu"),
        lr=0.02,
        ratio=(2, 1),
        l1={"relu": (0.01, 0.3), "jumprelu": (0.001, 0.02)},
        k=(2, 3),
    )
    return quiet(sweep, SPEC, replace(PLAIN, snapshot_every=4))


@pytest.mark.parametrize(
    ("name", "axis", "values"),
    [("relu", "l1", (0.01, 0.3)), ("topk", "k", (2, 3)), ("jumprelu", "l1", (0.001, 0.02))],
)
def test_an_architecture_alone_is_the_same_beside_others(mixed_architectures, name, axis, values):
    beside, own = mixed_architectures, {axis: values}
    sweep = Sweep(architecture=name, lr=0.02, ratio=(2, 1), **own)
    alone = quiet(sweep, SPEC, replace(PLAIN, snapshot_every=4))
    at = np.ix_(*beside.select(architecture=name))
    assert set(alone.history) == set(beside.history)
    for metric in alone.history:
        want = [a[at] for a in beside.history[metric]]
        np.testing.assert_allclose(
            alone.history[metric], want, rtol=1e-4, atol=1e-5, err_msg=metric
        )
    for metric, got in alone.final.items():
        np.testing.assert_allclose(
            got, beside.final[metric][at], rtol=1e-4, atol=1e-5, err_msg=metric
        )
    np.testing.assert_array_equal(alone.best_index, [a[at] for a in beside.best_index])
    for ratio in (2, 1):
        for value in values:
            where = {"ratio": ratio, axis: value}
            assert_close(alone.dictionary(**where), beside.dictionary(architecture=name, **where))
            ours, theirs = (r.snapshots(architecture=name, **where) for r in (alone, beside))
            assert_close(ours.W_dec, theirs.W_dec)
            np.testing.assert_array_equal(ours.alive, theirs.alive)


def test_what_is_no_cell_has_no_numbers(mixed_architectures):
    result = mixed_architectures
    shape = (1, 1, 2, 5, 1, 1, 3, 3)
    absent = np.ones(shape, bool)
    for own in ({"architecture": name} for name in ("relu", "topk", "jumprelu")):
        absent[np.ix_(*result.select(**own))] = False
    assert (~absent).sum() == len(result.cells()) == result.run["n_cells"] == 3 * 2 * 2
    for values in (*result.history.values(), *(a[None] for a in result.final.values())):
        assert values.shape[1:] == shape
        assert np.isnan(values[:, absent]).all() or (values[:, absent] == ABSENT).all()
    assert (result.final["frozen_at"][~absent] == -1).all()
    assert np.isfinite(result.final["mse"][~absent]).all()
    assert (result.best_index[:, absent] == -1).all()
    assert (result.best_index[:, ~absent] >= 0).all()
    with pytest.raises(
        ValueError, match=r"got architecture=topk, l1=0\.3, .* allowed: coordinates"
    ):
        result.dictionary(architecture="topk", l1=0.3, ratio=2, k=2)


def test_history_and_final_have_the_axes_of_the_sweep(big):
    shape = (2, 2, 2, 2, 2, 2, 1, 1)
    assert tuple(big.coords) == AXES
    assert big.d_sae == (16, 4)
    np.testing.assert_array_equal(big.steps, [4, 8])
    assert {a.shape for a in big.history.values()} == {(2, *shape)}
    assert {a.shape for a in big.final.values()} == {shape}
    assert big.best_index.shape == big.best_cosine.shape == (2, *shape, N_FEATURES)
    assert big.features.shape == (2, 2, N_FEATURES, D_IN)
    for _, where in cells_of(big):
        params = big.dictionary(**where)
        d_sae = int(where["ratio"] * N_FEATURES)
        assert (params.W_enc.shape, params.W_dec.shape) == ((D_IN, d_sae), (d_sae, D_IN))
        np.testing.assert_allclose(np.linalg.norm(params.W_dec, axis=1), 1, rtol=1e-5)


def evaluation_batches(spec, seed, step):
    truth = recipe.truth(spec, key_of(seed, "truth"))
    keys = jax.random.split(key_of(seed, "evaluation", step), EVAL_BATCHES)
    x = [recipe.sample(spec, truth, key, BATCH) for key in keys]
    return np.concatenate(x).astype(np.float64), np.asarray(truth.F, np.float64)


def best_cosines(a, b):
    a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    return (a @ b.T).max(1)


def test_final_metrics_follow_from_the_dictionaries(big):
    data = {
        (s.kind, seed): evaluation_batches(s, seed, 8) for s in (SPEC, COPULA) for seed in (3, 0)
    }
    for index, where in cells_of(big):
        x, F = data[where["dataset"], where["seed"]]
        W_enc, b_enc, W_dec = (a.astype(np.float64) for a in big.dictionary(**where)[:3])
        h = np.maximum(x @ W_enc + b_enc, 0)
        squares = ((h @ W_dec - x) ** 2).sum()
        best = best_cosines(F, W_dec)
        expected = {
            "mse": squares / x.size,
            "l1_loss": where["l1"] * h.mean(),
            "l0": (h > 0).sum(1).mean(),
            "fvu": squares / ((x - x.mean(0)) ** 2).sum(),
            "dead_latents": (h.max(0) <= 0).sum(),
            "mmcs_true_to_dict": best.mean(),
            "mmcs_dict_to_true": best_cosines(W_dec, F).mean(),
            "represented": (best >= THRESHOLD).sum(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(
                big.final[name][index], value, rtol=1e-4, atol=1e-6, err_msg=f"{name} of {where}"
            )
        np.testing.assert_allclose(big.best_cosine[-1][index], best, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            big.features[index[:2]], F, rtol=1e-5, atol=1e-6, err_msg=str(where)
        )


def test_widths_are_compared_with_the_next_larger(big):
    got = big.final["mmcs_to_next_larger"]
    assert np.isnan(got[:, :, 0]).all()
    for index, where in cells_of(big):
        if where["ratio"] == 0.5:
            own, larger = (big.dictionary(**where | {"ratio": r}).W_dec for r in (0.5, 2))
            np.testing.assert_allclose(got[index], best_cosines(own, larger).mean(), rtol=1e-5)


def test_a_next_larger_dictionary_that_froze_is_not_compared_with():
    rng = np.random.default_rng(0)
    widths = {"wide": 4, "narrow": 2, "middle": 3}
    frozen_at = {name: np.full((2, 2), -1) for name in widths}
    frozen_at["narrow"][0, 0] = frozen_at["middle"][0, 1] = frozen_at["wide"][1, 0] = 7
    rows = {name: rng.normal(size=(2, 2, n, D_IN)).astype(np.float32) for name, n in widths.items()}
    groups = tuple(
        Cells(
            public(Params(*(jnp.zeros(0),) * 2, jnp.array(rows[name]))),  # pyright: ignore
            None,  # pyright: ignore
            jnp.array(frozen_at[name]),
            None,
        )
        for name in widths
    )
    kinds = tuple(Group(ReLU(), 0, d_sae, 1) for d_sae in widths.values())
    (got,) = map(np.asarray, to_next_larger(groups, kinds))
    assert np.isnan(got[:, 0]).all()
    for i, own, larger in ((1, "narrow", "middle"), (2, "middle", "wide")):
        np.testing.assert_array_equal(np.isnan(got[:, i]), frozen_at[larger] >= 0)
        for at in zip(*np.nonzero(frozen_at[larger] < 0), strict=True):
            expected = best_cosines(rows[own][at], rows[larger][at]).mean()
            np.testing.assert_allclose(got[:, i][at], expected, rtol=1e-5)


def test_seeds_have_the_same_features_in_studies_of_other_methods(big):
    for index, seed in enumerate((3, 0)):
        for dataset, spec in enumerate((SPEC, COPULA)):
            F = baseline_fits.truth_of(spec, seed).F
            np.testing.assert_allclose(big.features[dataset, index], F, rtol=1e-6, atol=1e-7)


def test_features_learned_and_unlearned_add_up(big):
    now = big.best_cosine >= THRESHOLD
    was = np.concatenate([np.zeros_like(now[:1]), now[:-1]])
    np.testing.assert_array_equal(big.history["learned"], (~was & now).sum(-1))
    np.testing.assert_array_equal(big.history["unlearned"], (was & ~now).sum(-1))
    for name in ("learned", "unlearned"):
        np.testing.assert_array_equal(big.final[name], big.history[name].sum(0))
        assert big.final[name].any()
    np.testing.assert_array_equal(
        big.final["learned"] - big.final["unlearned"], big.final["represented"]
    )


# ---------------------------------------------------------------------------------------- loops

SMALL = Sweep(l1=(0.01, 0.1), ratio=1, seeds=(0, 1), lr=0.05, resample=("off", "on"))
REVIVING = replace(SETTINGS, resample=Resample(every=3, window=1))


@pytest.fixture(scope="module")
def even():
    return quiet(SMALL, SPEC, REVIVING)


@pytest.fixture(scope="module")
def states_of_a_loop():
    """The group's weights after every step, each step dispatched by itself."""
    seeds, d_sae = SMALL.seeds, N_FEATURES
    truths = [recipe.truth(SPEC, key_of(seed, "truth")) for seed in seeds]
    hyper = hypers(SMALL.parts[0])
    cells = init_cells(jnp.array(seeds, jnp.uint32), 1, len(hyper.l1), D_IN, d_sae, REVIVING)
    step = jax.jit(partial(step_group, settings=REVIVING, cell_batch=8))
    sample = jax.jit(lambda truth, key: recipe.sample(SPEC, truth, key, BATCH))
    states = [cells]
    for i in range(REVIVING.steps):
        pairs = zip(truths, seeds, strict=True)
        x = jnp.stack([sample(truth, key_of(seed, "batches", i)) for truth, seed in pairs])
        keys = jnp.stack([key_of(seed, "resample", d_sae, i) for seed in seeds])
        cells = step(cells, cells, hyper, x, keys, jnp.int32(i))
        states.append(cells)
    return states


def assert_is_state(result, cells):
    params = public(cells.params)
    for (_, seed, _, *hyper), where in cells_of(result):
        at = seed, int(np.ravel_multi_index(hyper, (2, 1, 2, 1, 1)))
        assert_close(result.dictionary(**where), jax.tree.map(lambda a, at=at: a[at], params))


def test_even_chunks_equal_a_loop_of_single_steps(even, states_of_a_loop):
    assert_is_state(even, states_of_a_loop[8])


@pytest.mark.parametrize(("steps", "eval_every"), [(5, 5), (7, 1)])
def test_odd_chunks_equal_a_loop_of_single_steps(states_of_a_loop, steps, eval_every):
    odd = quiet(SMALL, SPEC, replace(REVIVING, steps=steps, eval_every=eval_every))
    assert_is_state(odd, states_of_a_loop[steps])


def test_nothing_is_revived_after_the_last_step(states_of_a_loop):
    bias = REVIVING.resample.bias
    assert (states_of_a_loop[6].params.b_enc == bias).any()
    last = quiet(SMALL, SPEC, replace(REVIVING, steps=6, eval_every=6))
    for index, _ in cells_of(last):
        assert not (last.load_params(index).b_enc == bias).any()


def everything(result):
    names = [n for n in result.history if not n.endswith("_change")]
    dictionaries = [result.load_params(index) for index, _ in cells_of(result)]
    return dictionaries, {n: result.history[n] for n in names}, result.best_cosine


@pytest.mark.parametrize("cell_batch", [3, 8])
def test_cell_batch_changes_nothing(even, cell_batch):
    other = quiet(SMALL, SPEC, replace(REVIVING, cell_batch=cell_batch))
    assert (even.run["cell_batch"], other.run["cell_batch"]) == ([1], [cell_batch])
    assert_close(everything(even), everything(other))


def test_a_repeated_run_is_bit_identical_and_one_cell_at_a_time_is_the_default_on_a_cpu(even):
    again = quiet(SMALL, SPEC, replace(REVIVING, cell_batch=1))
    assert same_bits(everything(even), everything(again))
    assert same_bits(even.final, again.final)
    assert same_bits(even.best_index, again.best_index)


def test_training_in_bfloat16_stays_close_to_float32(even):
    rough = quiet(SMALL, SPEC, replace(REVIVING, matmul_precision="bf16"))
    assert not same_bits(everything(even)[0], everything(rough)[0])
    off = {"resample": "off"}
    at = np.ix_(*even.select(**off))
    np.testing.assert_allclose(rough.final["mse"][at], even.final["mse"][at], rtol=0.1)
    np.testing.assert_allclose(rough.best_cosine[-1][at], even.best_cosine[-1][at], atol=0.1)
    for _, where in cells_of(even):
        if where["resample"] == "off":
            gap = np.abs(rough.dictionary(**where).W_dec - even.dictionary(**where).W_dec)
            assert np.median(gap) < 0.01
    assert (rough.history["mse"][1] < rough.history["mse"][0])[at].all()


# ---------------------------------------------------------------------------------------- data

ROWS = np.random.default_rng(5).normal(size=(40, D_IN))
TWO_L1 = Sweep(l1=(0.01, 0.1), ratio=(1, 0.5))


def batch_of(key):
    return jax.random.normal(key, (BATCH, D_IN)) ** 3


@pytest.fixture(scope="module")
def recorded():
    """A run on a function, and every batch that it asked for."""
    seen = []

    def function(key):
        x = batch_of(key)
        jax.debug.callback(lambda a: seen.append(np.array(a)), x)
        return x

    text = io.StringIO()
    with redirect_stderr(text):
        result = quiet(TWO_L1, function, PLAIN)
    jax.effects_barrier()
    return result, seen, text.getvalue()


def test_every_batch_is_fresh_and_follows_from_seed_and_step(recorded):
    _, seen, _ = recorded
    keys = [key_of(0, "batches", step) for step in range(8)]
    for done in (4, 8):
        keys += list(jax.random.split(key_of(0, "evaluation", done), EVAL_BATCHES))
    expected = np.stack([batch_of(key) for key in keys])
    assert len(seen) == len(keys)
    gaps = np.abs(np.stack(seen)[:, None] - expected).max((2, 3))
    np.testing.assert_array_equal((gaps < 1e-4).sum(0), 1)
    np.testing.assert_array_equal((gaps < 1e-4).sum(1), 1)


@pytest.fixture(scope="module")
def mixed():
    return quiet(TWO_L1, {"function": batch_of, "rows": ROWS}, PLAIN)


def test_a_function_alone_is_the_function_in_a_dict(recorded, mixed):
    alone, _, _ = recorded
    assert alone.coords["dataset"] == ("data",)
    assert alone.d_sae == (D_IN, D_IN // 2)
    for _, where in cells_of(alone):
        where.pop("dataset")
        assert_close(alone.dictionary(**where), mixed.dictionary(dataset="function", **where))


def test_rows_of_an_array_are_drawn_from_it(mixed):
    keys = jax.random.split(key_of(0, "evaluation", 8), EVAL_BATCHES)
    drawn = [jax.random.randint(key, (BATCH,), 0, len(ROWS)) for key in keys]
    x = ROWS[np.concatenate(drawn)]
    for index, where in cells_of(mixed):
        if where["dataset"] == "rows":
            W_enc, b_enc, W_dec = mixed.dictionary(**where)[:3]
            x_hat = np.maximum(x @ W_enc + b_enc, 0) @ W_dec
            np.testing.assert_allclose(
                mixed.final["mse"][index], ((x_hat - x) ** 2).mean(), rtol=1e-4
            )


def test_without_true_features_their_recovery_is_not_measured(mixed):
    assert mixed.coords["dataset"] == ("function", "rows")
    assert (mixed.features, mixed.best_index, mixed.best_cosine) == (None, None, None)
    assert not {"mmcs_true_to_dict", "represented", "learned"} & (
        set(mixed.final) | set(mixed.history)
    )
    assert np.isfinite(mixed.final["mmcs_to_next_larger"][:, :, 1]).all()
    assert np.isnan(mixed.final["mmcs_to_next_larger"][:, :, 0]).all()


# ---------------------------------------------------------------------------------------- full
# batches

TABLE = np.random.default_rng(8).normal(size=(7, 3)).astype(np.float32)
TWO_LAYERS = SAEConfig(use_b_dec=True, unit_norm=False, init="linear", apply_b_dec_to_input=False)
RATE, PENALTIES, SEED = 0.02, (0.3, 0.03), 2


@pytest.fixture(scope="module")
def full():
    sweep = Sweep(l1=PENALTIES, ratio=5 / 3, seeds=SEED, lr=RATE)
    settings = Settings(steps=8, batch_size=7, eval_every=4, eval_batches=1, sae=TWO_LAYERS)
    return quiet(sweep, {"table": FullBatch(jnp.array(TABLE))}, settings)


def two_linear_layers(l1, steps):
    """Linear, ReLU, Linear, trained by Adam on MSE + l1 * mean activation, in float64.

    Yields the weights (W_enc, b_enc, W_dec, b_dec), activations and the two terms before each step
    and after the last.
    """
    x = TABLE.astype(np.float64)
    start = params.init(key_of(SEED, "init", 5), 3, 5, TWO_LAYERS)[:4]
    weights = [np.float64(a) for a in start]
    m, v = ([np.zeros_like(a) for a in weights] for _ in range(2))
    for t in range(1, steps + 2):
        W_enc, b_enc, W_dec, b_dec = weights
        h = np.maximum(x @ W_enc + b_enc, 0)
        error = h @ W_dec + b_dec - x
        yield weights, h, (error**2).mean(), l1 * h.mean()
        d_x_hat = 2 * error / error.size
        d_pre = (d_x_hat @ W_dec.T + l1 / h.size) * (h > 0)
        gradients = [x.T @ d_pre, d_pre.sum(0), h.T @ d_x_hat, d_x_hat.sum(0)]
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
        v = [0.999 * a + 0.001 * g**2 for a, g in zip(v, gradients, strict=True)]
        moments = zip(weights, m, v, strict=True)
        weights = [
            w - RATE * (a / (1 - 0.9**t)) / (np.sqrt(b / (1 - 0.999**t)) + 1e-8)
            for w, a, b in moments
        ]


@pytest.mark.parametrize("penalty", [0, 1])
def test_full_batches_train_two_linear_layers_as_by_hand(full, penalty):
    l1 = PENALTIES[penalty]
    states = list(two_linear_layers(l1, 8))
    (W_enc, b_enc, W_dec, b_dec), h, _, _ = states[-1]
    assert np.abs(W_dec - states[0][0][2]).max() > 0.1
    assert 0.1 < (h > 0).mean() < 0.9
    params = full.dictionary(l1=l1)
    expected = Params(*(np.asarray(a) for a in (W_enc, b_enc + b_dec @ W_enc, W_dec, b_dec)))  # pyright: ignore
    assert_close(params, expected)
    assert np.abs(b_dec @ W_enc).max() > 0.05, "the two forms of b_enc must differ"
    assert_close(encode(jax.tree.map(jnp.array, params), jnp.array(TABLE)), h)
    for evaluation, (_, _, mse, l1_loss) in enumerate(states[4::4]):
        assert_close(full.history["mse"][evaluation].squeeze()[penalty], mse)
        assert_close(full.history["l1_loss"][evaluation].squeeze()[penalty], l1_loss)


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

    def compile_chunk(plan, state):
        def chunk(*args):
            if int(args[-1]) >= at:
                meanwhile()
                raise error
            shape = (plan.n_source, len(plan.d_sae), *plan.n_hypers)
            return *args[:3], ({"mse": jnp.ones(shape), "frozen_at": jnp.full(shape, -1)},), None

        return chunk

    module = sys.modules["saejax.training.loop"]
    monkeypatch.setattr(module, "start", lambda plan: State(*(None,) * 3, {}, None, None))  # pyright: ignore
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
    monkeypatch.setattr("saejax.core.files.append_rows", half)
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
