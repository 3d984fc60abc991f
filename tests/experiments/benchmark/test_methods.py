"""The benchmark: all its methods compute the same, on the same task."""

from importlib import import_module
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.experiments.benchmark import coefficients, ours, turns
from saejax.experiments.benchmark import compare as benchmark_compare
from saejax.experiments.benchmark.problem import Shape, judge, make_problem, parse, penalties
from saejax.sae import relu
from saejax.sae.params import STANDARD, Params
from saejax.training.sweep import Sweep

TINY = Shape(d_in=6, d_sae=10, batch=16, cells=3)
STEPS = 12


def installed(*peers):
    """The peers whose packages are here, each skipped with a reason where they are not."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                any(
                    find_spec(package) is None for package in benchmark_compare.PEERS[name].packages
                ),
                reason=f"needs {', '.join(benchmark_compare.PEERS[name].packages.values())}",
            ),
        )
        for name in peers
    ]


def prepared(name, problem):
    peer = benchmark_compare.PEERS[name]
    return getattr(import_module(f"saejax.experiments.benchmark.{peer.module}"), peer.function)(
        problem
    )


@pytest.fixture(scope="module")
def problem():
    return make_problem(TINY, STEPS)


@pytest.fixture(scope="module")
def trained(problem):
    """This library's dictionaries, from the second of two runs."""
    run = ours.prepare(problem)
    run()
    return run()()


# ------------------------------------------------------------------------------- tasks and turns


def test_a_shape_is_four_whole_numbers():
    assert parse("shapes", "256x2048x1024x6") == Shape(256, 2048, 1024, 6)
    assert parse("shapes", "256x2048x1024x6").flops == 10 * 256 * 2048 * 1024 * 6
    for text in ("256x2048x1024", "256x2048x1024x0", "axbxcxd", "2x2x2x-1", "", "2x2x2x2049"):
        with pytest.raises(ValueError, match=f"^growth: got '{text}', allowed: "):
            parse("growth", text)


def test_penalties_are_an_axis_that_a_sweep_takes():
    for cells in (1, 2, 6, 2048):
        assert len(Sweep(l1=penalties(cells)).l1) == cells
    assert penalties(2) == pytest.approx((0.01, 10**-0.75))


def test_a_task_is_the_same_whenever_it_is_drawn_and_has_no_batch_twice(problem):
    again = make_problem(TINY, STEPS)
    jax.tree.map(np.testing.assert_array_equal, again.weights, problem.weights)
    np.testing.assert_array_equal(again.batches, problem.batches)
    batches = np.concatenate([problem.batches, problem.held_out])
    assert batches.shape == (STEPS + 4, 16, 6)
    assert len({batch.tobytes() for batch in batches}) == len(batches)


def test_everybody_has_a_turn_and_the_first_ones_are_apart(monkeypatch):
    calls = []
    clock = iter(range(1000))
    monkeypatch.setattr(turns.time, "perf_counter", lambda: float(next(clock)) ** 2)
    monkeypatch.setattr(turns.time, "sleep", lambda _: None)
    runs = {name: lambda name=name: calls.append(name) or len(calls) for name in ("a", "b")}
    timed = turns.take_turns(runs, 2)
    assert calls == ["a", "b"] * 3
    assert [timed["a"].first, *timed["a"].seconds] == [1.0, 9.0, 17.0]
    assert [timed["b"].first, *timed["b"].seconds] == [5.0, 13.0, 21.0]
    assert timed["b"].results == [4, 6]


def test_the_rate_of_the_product_counts_two_flop_for_each_multiplication(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(turns.time, "perf_counter", lambda: float(next(clock)))
    assert turns.product(8, repeats=3)() == 2 * 8**3


def test_the_number_of_steps_is_even_and_bounded():
    assert ours.steps_for(flops=1e9, rate=1e11, seconds=1.0) == 60
    assert ours.steps_for(flops=1e9, rate=1e11, seconds=1e-9) == 4
    assert ours.steps_for(flops=1e12, rate=1e11, seconds=1.0, least=10) == 10
    assert ours.steps_for(flops=1.0, rate=1e11, seconds=1.0) == 1000


# -------------------------------------------------------------------------- the same computation


def recipe_by_hand(problem, l1):
    """Adam on the objective and the projection, in float64, as one would write them for
    autodiff."""

    def loss(weights, x):
        W_enc, b_enc, W_dec = weights
        h = jnp.maximum(x @ W_enc + b_enc, 0)
        return ((h @ W_dec - x) ** 2).mean() + l1 * h.mean()

    gradient = jax.jit(jax.grad(loss))
    weights = [np.float64(a) for a in problem.weights[:3]]
    m, v = ([np.zeros_like(a) for a in weights] for _ in range(2))
    for t, x in enumerate(problem.batches, start=1):
        given = [jnp.asarray(a, jnp.float32) for a in weights]
        for i, g in enumerate(map(np.float64, gradient(given, x))):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            weights[i] -= 1e-3 * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
        weights[2] /= np.linalg.norm(weights[2], axis=1, keepdims=True)
    return weights


def test_this_library_trains_on_the_batches_of_the_task_from_its_weights(problem, trained):
    assert len(trained) == TINY.cells
    for l1, params in zip(problem.l1, trained, strict=True):
        for got, want in zip(params[:3], recipe_by_hand(problem, l1), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-4)
    moved = np.abs(trained[0].W_enc - problem.weights.W_enc).max()
    assert moved > 20 * 2e-4 > 0


@pytest.mark.parametrize("name", installed("torch_loop", "torch_ensemble"))
def test_torch_ends_at_the_same_weights_and_losses(name, problem, trained):
    theirs = prepared(name, problem)()()
    for a, b in zip(trained, theirs, strict=True):
        for got, want in zip(a[:3], b[:3], strict=True):
            np.testing.assert_allclose(got, want, atol=2e-4)
    for mine, other in zip(
        judge(problem, trained).values(), judge(problem, theirs).values(), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-4)


@pytest.mark.parametrize("name", installed("saelens_toy", "saelens_multi"))
def test_saelens_starts_from_the_weights_and_lowers_the_objective(name, problem):
    start = judge(problem, [problem.weights] * TINY.cells)["objective"]
    theirs = prepared(name, problem)()()
    for params in theirs:
        np.testing.assert_allclose(np.linalg.norm(params.W_dec, axis=1), 1, atol=1e-5)
        # Adam moves no weight by more than about its rate in a step.
        assert 1e-3 < np.abs(params.W_enc - problem.weights.W_enc).max() < 5e-2
    assert (judge(problem, theirs)["objective"] < start).all()


def test_saelens_itself_computes_the_converted_objective(problem):
    pytest.importorskip("sae_lens", reason="needs sae-lens")
    import torch
    from sae_lens.saes.sae import TrainStepInput

    from saejax.experiments.benchmark import saelens

    l1, x = problem.l1[-1], problem.batches[0]
    fresh = saelens._fresh(problem, l1, torch.device("cpu"))
    given = {name: one.value for name, one in fresh.get_coefficients().items()}
    theirs = fresh.training_forward_pass(
        TrainStepInput(torch.tensor(x), given, None, 0, False)
    ).loss
    weights = Params(*map(jnp.asarray, problem.weights[:3]))
    mine = relu.objective(weights, jnp.asarray(x), l1, STANDARD)
    assert theirs.item() == pytest.approx(TINY.d_in * float(mine), rel=1e-5)
    trainable = {name for name, value in fresh.named_parameters() if value.requires_grad}
    assert trainable == {"W_enc", "b_enc", "W_dec"}


def test_both_trainers_of_saelens_compute_the_same(problem):
    pytest.importorskip("sae_lens", reason="needs sae-lens")
    toy, multi = (prepared(name, problem)()() for name in ("saelens_toy", "saelens_multi"))
    for a, b in zip(toy, multi, strict=True):
        jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=1e-6), a, b)


def free_rows(rng):
    shapes = (TINY.d_in, TINY.d_sae), (TINY.d_sae,), (TINY.d_sae, TINY.d_in)
    return tuple(jnp.array(rng.normal(size=shape), jnp.float32) for shape in shapes)


def saelens_objective(weights, x, c):
    """As SAELens documents it: sums over d_in and latents, activations weighed with decoder
    norms."""
    W_enc, b_enc, W_dec = weights
    h = jnp.maximum(x @ W_enc + b_enc, 0)
    penalty = (h * jnp.linalg.norm(W_dec, axis=1)).sum(-1)
    return (((h @ W_dec - x) ** 2).sum(-1) + c * penalty).mean()


def test_converted_coefficients_give_saelens_objective_and_gradient():
    rng, l1 = np.random.default_rng(0), 0.3
    weights, x = free_rows(rng), jnp.array(rng.normal(size=(7, TINY.d_in)), jnp.float32)
    c = coefficients.to_saelens(l1, TINY.d_in, TINY.d_sae)

    def in_our_terms(weights):
        params = coefficients.with_unit_rows(*weights)
        return TINY.d_in * relu.objective(params, x, l1, STANDARD)

    theirs, their_gradient = jax.jit(jax.value_and_grad(saelens_objective))(weights, x, c)
    mine, my_gradient = jax.jit(jax.value_and_grad(in_our_terms))(weights)
    assert mine == pytest.approx(float(theirs), rel=1e-5)
    for a, b in zip(my_gradient, their_gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_unit_rows_leave_a_row_of_zeros_alone():
    W_enc, b_enc, W_dec = free_rows(np.random.default_rng(1))
    params = coefficients.with_unit_rows(W_enc, b_enc, W_dec.at[2].set(0))
    norms = np.linalg.norm(params.W_dec, axis=1)
    np.testing.assert_allclose(norms, np.arange(TINY.d_sae) != 2, atol=1e-6)
    assert not params.W_enc[:, 2].any()


def test_the_judge_is_the_objective(problem):
    found = judge(problem, [problem.weights] * TINY.cells)
    x = jnp.asarray(problem.held_out.reshape(-1, TINY.d_in))
    weights = Params(*map(jnp.asarray, problem.weights[:3]))
    for i, l1 in enumerate(problem.l1):
        assert found["objective"][i] == pytest.approx(
            float(relu.objective(weights, x, l1, STANDARD)), rel=1e-5
        )
