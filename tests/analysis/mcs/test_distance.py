"""The earth mover's distance, and learned MCS against random ones."""

import jax
import numpy as np
import pytest
from scipy import stats

from saejax.analysis import mcs
from saejax.analysis.mcs import MaxCosine, random_mcs

KEY = jax.random.key(0)


def dice(seed=0):
    return np.random.default_rng(seed)


# --- earth mover's distance --------------------------------------------------------------------


def test_all_distances_are_scipys():
    rng = dice()
    samples = [rng.normal(i / 3, 1 + i, n) for i, n in enumerate((1, 7, 50, 333))]
    samples += [np.round(samples[2], 1), np.round(samples[3], 1).astype(np.float32)]
    expected = [[stats.wasserstein_distance(a, b) for b in samples] for a in samples]
    np.testing.assert_allclose(mcs.emd(samples), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        mcs.emd_intervals(samples, KEY, 2).distance, expected, rtol=1e-12, atol=1e-13
    )


def test_a_shift_is_its_own_distance():
    x = dice().normal(size=30)
    np.testing.assert_allclose(
        mcs.emd([x, x + 0.25, x[::-1]]), [[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]], atol=1e-14
    )


def test_intervals_of_zeros_against_ones_are_binomial():
    # Against zeros the distance is the share of ones, which a resample draws from a binomial.
    samples = [np.zeros(30), np.repeat([0.0, 1.0], 20), np.ones(10)]
    found = mcs.emd_intervals(samples, KEY, 4000, level=0.9)
    low, high = stats.binom.ppf([0.05, 0.95], 40, 0.5) / 40
    np.testing.assert_allclose([found.low[0, 1], found.high[0, 1]], [low, high], atol=1e-9)
    np.testing.assert_allclose([found.low[1, 2], found.high[1, 2]], [low, high], atol=0.026)
    np.testing.assert_allclose(found.replicates.mean(0)[0, 1], 0.5, atol=0.005)
    np.testing.assert_array_equal(found.low[0, 2], 1)
    np.testing.assert_array_equal(np.diagonal(found.high), 0)


def test_resamples_of_one_law_are_farther_apart_by_the_root_of_two():
    rng = dice()
    samples = [rng.random(400) for _ in range(6)]
    found = mcs.emd_intervals(samples, KEY, 100)
    pairs = np.triu_indices(6, 1)
    ratio = found.replicates.mean(0)[pairs].mean() / found.distance[pairs].mean()
    np.testing.assert_allclose(ratio, np.sqrt(2), rtol=0.15)


def test_intervals_depend_on_the_key_alone():
    samples = [dice(0).random(20), dice(1).random(30)]
    first, again, other = (
        mcs.emd_intervals(samples, jax.random.key(k), 10).replicates for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "samples: got none"),
        ([np.ones(2), np.ones(0)], r"samples\[1\]: got shape \(0,\)"),
        ([np.array([1.0, np.inf])], r"samples\[0\]: got inf at 1"),
    ],
)
def test_distances_of_no_sample_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        mcs.emd(samples)


# --- learned against random --------------------------------------------------------------------

M, K, N = 256, 48, 300


def compare(learned, **options):
    return mcs.compare_with_random(learned, M, K, KEY, n_boot=50, n_null=99, **options)


def test_the_comparison_is_of_samples_below_the_cutoff():
    learned = np.concatenate([random_mcs(jax.random.key(9), N - 100, M, K), np.full(100, 0.9)])
    found = compare(learned)
    assert found.labels == ("learned", "rand 1", "rand 2", "rand 3", "rand 4", "alt params")
    np.testing.assert_array_equal(found.samples[0], learned[learned < 0.5])
    assert all(len(x) <= N and x.max() < 0.5 for x in found.samples)
    d = np.array([[stats.wasserstein_distance(a, b) for b in found.samples] for a in found.samples])
    np.testing.assert_allclose(found.emd.distance, d, atol=1e-12)
    random = [d[i, j] for i in range(1, 5) for j in range(1, i)]
    np.testing.assert_allclose(found.learned_random.value, d[0, 1:5].mean())
    np.testing.assert_allclose(found.random_random.value, np.mean(random))
    np.testing.assert_allclose(found.random_alt.value, d[1:5, 5].mean())
    np.testing.assert_allclose(found.learned_alt.value, d[0, 5])
    np.testing.assert_allclose(found.ratio.value, d[0, 1:5].mean() / np.mean(random))
    assert found.ratio.low < found.ratio.high


def test_random_mcs_pass_for_random_and_others_do_not():
    same = compare(random_mcs(jax.random.key(9), N, M, K))
    assert same.p_value > 0.05
    assert same.random_alt.value > 2 * same.learned_random.value
    np.testing.assert_allclose(same.expected_if_random, same.random_random.value, rtol=0.5)
    other = compare(random_mcs(jax.random.key(9), N, 2 * M, K))
    assert other.p_value == 0.01
    assert other.learned_alt.value < other.learned_random.value


def test_few_learned_mcs_are_expected_to_be_farther_off():
    found = compare(np.append(random_mcs(jax.random.key(9), 20, M, K), np.full(N - 20, 0.9)))
    assert found.expected_if_random > 1.5 * found.random_random.value
    assert found.p_value > 0.05


def test_alt_params_are_twice_as_many_vectors():
    found = compare(random_mcs(jax.random.key(9), N, M, K), cutoff=0.9)
    assert stats.kstest(found.samples[-1], MaxCosine(2 * M, K, 0.9).cdf).pvalue > 0.01
    assert stats.kstest(found.samples[1], MaxCosine(M, K, 0.9).cdf).pvalue > 0.01


def test_one_random_set_has_no_distance_from_its_like():
    found = compare(random_mcs(jax.random.key(9), N, M, K), n_random=1)
    assert found.labels == ("learned", "rand 1", "alt params")
    assert np.isnan(found.random_random).all()
    assert np.isnan(found.ratio).all()
    assert found.learned_random.value > 0


def test_a_comparison_without_low_mcs_is_refused():
    with pytest.raises(ValueError, match=r"learned: got none of 5 below the cutoff 0\.5, allowed"):
        compare(np.full(5, 0.9))
    with pytest.raises(
        ValueError, match=r"cutoff: got 0.1, allowed: above the least MCS of 300 random"
    ):
        compare(np.full(N, 0.05), cutoff=0.1)
    with pytest.raises(ValueError, match="n_random: got 0, allowed: 1 or more"):
        compare(np.full(5, 0.05), n_random=0)
