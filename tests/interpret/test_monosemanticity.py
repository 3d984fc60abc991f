"""Which latents are judged, rates, agreement: closed forms, SciPy, scikit-learn, the delta
method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from saejax.interpret.evidence import Label
from saejax.interpret.monosemanticity import agreement, chosen, over_seeds, rate, selectivity

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def labels(polysemantic, name="a"):
    return [Label(None if bad else "a theme", name) for bad in polysemantic]


# --- selectivity and the choice ------------------------------------------------------------------


def test_selectivity_is_the_mean_over_the_log_of_the_firings_plus_one():
    got = selectivity(np.array([2.0, 3.0, 1.0]), np.array([1, 9, 99]))
    np.testing.assert_allclose(got, [2 / np.log(2), 3 / np.log(10), 1 / np.log(100)], rtol=1e-15)


def test_a_latent_that_never_fires_has_no_selectivity():
    got = selectivity(np.array([0.0, 1.0], np.float32), np.array([0, 1]))
    assert np.isnan(got[0])
    assert got[1] == 1 / np.log(2)


def test_top_and_bottom_are_the_ends_of_those_that_fire_often_enough():
    s = np.array([5.0, 9.0, 1.0, 7.0, 3.0, 8.0, np.nan])
    got = chosen(s, np.array([10, 9, 11, 10, 99, 10, 0]), n=2)
    assert got.top.tolist() == [5, 3]
    assert got.bottom.tolist() == [2, 4]
    assert got.latents.tolist() == [5, 3, 4, 2]


def test_ten_firings_are_enough_and_nine_are_not():
    s = np.arange(3.0)
    assert chosen(s, np.array([9, 10, 11])).latents.tolist() == [2, 1]
    assert chosen(s, np.array([9, 10, 11]), least=9).latents.tolist() == [2, 1, 0]
    assert chosen(s, np.array([1, 2, 3])).latents.tolist() == []


def test_equal_selectivities_are_ordered_by_number():
    got = chosen(np.arange(99) % 3 * 1.0, np.full(99, 20), n=34)
    assert got.latents[:34].tolist() == [*range(2, 99, 3), 1]
    assert got.bottom.tolist() == [*range(96, -1, -3), 97]


@quick
@given(
    firings=st.lists(st.integers(0, 20), min_size=1, max_size=40),
    n=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_no_latent_is_chosen_twice_and_none_is_missed(firings, n, seed):
    firings = np.array(firings)
    s = np.random.default_rng(seed).integers(0, 5, len(firings)).astype(float)
    top, bottom = chosen(s, firings, n)
    both = [*top.tolist(), *bottom.tolist()]
    eligible = np.flatnonzero(firings >= 10)
    assert len(set(both)) == len(both) == min(2 * n, len(eligible))
    assert set(both) <= set(eligible.tolist())
    left = np.setdiff1d(eligible, both)
    if len(left):
        assert s[top].min() >= s[left].max()
        assert s[bottom].max() <= s[left].min()
    assert len(top) - len(bottom) in (0, 1)


def test_a_selectivity_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="selectivity: got nan at 1, which fires 12 times"):
        chosen(np.array([1.0, np.nan]), np.array([10, 12]))


# --- rates ---------------------------------------------------------------------------------------


def test_the_rate_is_the_share_with_a_theme_and_has_the_wilson_interval():
    got = rate(labels([True] * 9 + [False] * 41))
    p, n, z = 41 / 50, 50, stats.norm.ppf(0.975)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = (p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_no_labels_have_no_rate():
    assert np.isnan(rate([])).all()


def test_the_interval_over_seeds_is_that_of_the_t_test():
    x = np.array([0.8, 0.86, 0.78, 0.9])
    got = over_seeds(x)
    end = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    np.testing.assert_allclose(got, (x.mean(), end.low, end.high), rtol=1e-12)


def test_one_seed_has_a_rate_and_no_interval():
    value, low, high = over_seeds(np.array([0.8]))
    assert value == 0.8
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("x", [[], [0.5, np.nan], [1.2]])
def test_what_is_no_rate_is_refused(x):
    with pytest.raises(ValueError, match="rates: got"):
        over_seeds(np.array(x, float))


# --- agreement -----------------------------------------------------------------------------------


def pair(n, seed, noise=0.3):
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.35
    return a, np.where(rng.random(n) < noise, ~a, a)


@pytest.mark.parametrize("seed", range(6))
def test_kappa_is_scikit_learns(seed):
    a, b = pair(50, seed, noise=0.1 * seed)
    got = agreement(labels(a), labels(b, "b"))
    np.testing.assert_allclose(got.kappa.value, cohen_kappa_score(a, b), rtol=1e-10)
    assert got.same.value == pytest.approx(np.mean(a == b))
    assert got.n == 50


@pytest.mark.parametrize("seed", range(4))
def test_the_standard_error_of_kappa_is_that_of_the_delta_method(seed):
    a, b = pair(80, seed)
    p = np.array([np.mean((a == i) & (b == j)) for i in (0, 1) for j in (0, 1)])

    def kappa(p):
        p = p.reshape(2, 2)
        chance = p.sum(1) @ p.sum(0)
        return (jnp.trace(p) - chance) / (1 - chance)

    slope = np.array(jax.grad(kappa)(jnp.array(p)), np.float64)
    se = np.sqrt(slope @ (np.diag(p) - np.outer(p, p)) @ slope / 80)
    got = agreement(labels(a), labels(b)).kappa
    z = stats.norm.ppf(0.975)
    np.testing.assert_allclose(
        [got.low, got.high], [got.value - z * se, got.value + z * se], rtol=1e-5
    )


def test_the_interval_of_kappa_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    # Both right nine times of ten, of which a third is polysemantic.
    chance = (1 / 3 * 0.9 + 2 / 3 * 0.1) ** 2 + (2 / 3 * 0.9 + 1 / 3 * 0.1) ** 2
    truth = (0.82 - chance) / (1 - chance)
    hits = 0
    for _ in range(300):
        t = rng.random(200) < 1 / 3
        a, b = (t ^ (rng.random(200) < 0.1) for _ in range(2))
        got = agreement(labels(a), labels(b)).kappa
        hits += got.low <= truth <= got.high
    assert stats.binomtest(hits, 300, 0.95).pvalue > 0.001


def test_two_labellers_span_a_range_of_rates():
    got = agreement(labels([True, True, False, False]), labels([True, False, False, False]))
    assert got.span == (0.5, 0.75)
    assert got.first == rate(labels([True, True, False, False]))
    assert got.second.value == 0.75
    assert agreement(labels([False, True]), labels([True, True])).span == (0.0, 0.5)


def test_labellers_who_say_the_same_of_every_latent_have_no_kappa():
    got = agreement(labels([False] * 7), labels([False] * 7))
    assert np.isnan(got.kappa).all()
    assert got.same.value == 1


def test_perfect_agreement_is_kappa_one_and_chance_is_zero():
    a = [True, False, True, False]
    assert agreement(labels(a), labels(a)).kappa.value == pytest.approx(1)
    assert agreement(labels(a), labels([True, True, False, False])).kappa.value == pytest.approx(0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], []), ([True], [True, False])])
def test_labels_that_do_not_pair_up_are_refused(a, b):
    with pytest.raises(ValueError, match=r"second: got \d labels, allowed: as many as first"):
        agreement(labels(a), labels(b))
