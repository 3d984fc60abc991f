"""Whole runs at tiny size against runs of one cell, plain Python loops and NumPy."""

from dataclasses import replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.groups import plain_step
from helpers.tiny_runs import (
    BATCH,
    D_IN,
    EVAL_BATCHES,
    EVERY_WAY,
    N_FEATURES,
    PLAIN,
    SETTINGS,
    SPEC,
    THRESHOLD,
    assert_close,
    cells_of,
    key_of,
    quiet,
)

from saejax import Resample, Settings, Sweep
from saejax.analysis import baseline_fits
from saejax.data.synthetic import recipe
from saejax.results.axes import ABSENT, AXES
from saejax.sae.params import Params
from saejax.sae.registry import ReLU
from saejax.training.cells import Cells, hypers, init_cells, transpose_decoder
from saejax.training.evaluate import to_next_larger
from saejax.training.plan import Group, Program

COPULA = replace(SPEC, kind="copula", copula_rank=2)


def same_bits(a, b):
    return all(
        np.asarray(u).tobytes() == np.asarray(v).tobytes()
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


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
            transpose_decoder(Params(*(jnp.zeros(0),) * 2, jnp.array(rows[name]))),  # pyright: ignore
            None,  # pyright: ignore
            jnp.array(frozen_at[name]),
            None,
        )
        for name in widths
    )
    kinds = tuple(Group(ReLU(), 0, d_sae, 1) for d_sae in widths.values())
    program = Program(None, {}, Settings(), kinds, None, {})
    (got,) = map(np.asarray, to_next_larger(program, groups))
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
    step = jax.jit(plain_step(REVIVING, 8))
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
    params = transpose_decoder(cells.params)
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
