"""MCS against loops, its law against closed forms and samples, its statistics against SciPy."""

import tracemalloc
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.optimize import linprog

from saejax.analysis import mcs
from saejax.analysis.mcs import MaxCosine, random_mcs
from saejax.analysis.mcs.dip import _dip
from saejax.analysis.mcs.modes import CELLS, WIDTH, _find, default_bandwidth
from saejax.core.linalg import cosines
from saejax.core.stats import bootstrapped
from saejax.metrics import measures

KEY = jax.random.key(0)


def dice(seed=0):
    return np.random.default_rng(seed)


def rows(*shape, seed=0):
    return dice(seed).normal(size=shape).astype(np.float32)


def table(G, D):
    """All cosines in float64."""
    G, D = (a / np.linalg.norm(a, axis=1)[:, None] for a in (np.float64(G), np.float64(D)))
    return G @ D.T


# --- MCS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 1030])
def test_mcs_in_blocks_is_the_largest_of_all_cosines(n):
    G, D = rows(n, 4), 5 * rows(7, 4, seed=1)
    found = mcs.mcs(G, D)
    np.testing.assert_allclose(found, table(G, D).max(1), atol=1e-6)
    mmcs = jax.jit(measures.mmcs)(jnp.array(G), jnp.array(D))
    np.testing.assert_allclose(found.mean(), mmcs, atol=1e-6)


def test_mcs_stays_within_one_and_a_row_of_zeros_has_none():
    G = rows(500, 128)
    best = cosines(jnp.array(G), jnp.array(G)).max(-1)
    assert float(best.max()) > 1, "rounding must matter"
    assert mcs.mcs(G, G).max() == 1
    assert (mcs.mcs(np.zeros((2, 128), np.float32), G) == 0).all()


def test_two_wide_dictionaries_never_need_all_their_cosines_at_once():
    G, D = rows(4096, 16), rows(8192, 16, seed=1)
    tracemalloc.start()
    mcs.mcs(G, D)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # all would be 134 MB


def test_a_run_has_every_larger_dictionary_and_every_other_seed():
    dictionaries = [rows(3, n, 4, seed=n) for n in (2, 3, 6)]
    run = mcs.mcs_of_run(dictionaries)
    assert list(run.to_larger) == [(2, 3), (2, 6), (3, 6)]
    sized = {D.shape[1]: D for D in dictionaries}
    for (n, m), found in run.to_larger.items():
        expected = [table(sized[n][s], sized[m][s]).max(1) for s in range(3)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for n, found in run.to_other_seeds.items():
        D = sized[n]
        others = [[table(D[s], D[o]).max(1) for o in range(3) if o != s] for s in range(3)]
        np.testing.assert_allclose(found, others, atol=1e-6)


def test_a_run_of_one_seed_has_no_other():
    run = mcs.mcs_of_run([rows(1, 2, 4), rows(1, 3, 4)])
    assert run.to_larger[2, 3].shape == (1, 2)
    assert run.to_other_seeds[3].shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("dictionaries", "allowed"),
    [
        ([], "got none"),
        ([rows(1, 3, 4), rows(1, 3, 4)], r"got sizes \[3, 3\], allowed: rising"),
        ([rows(1, 3, 4), rows(2, 5, 4)], "same seeds and d_in"),
        ([rows(1, 3, 4), rows(1, 5, 3)], "same seeds and d_in"),
        ([rows(2, 3, 4) * [[[1]], [[np.nan]]]], "got 12 .* d_sae 3, seed number 1"),
    ],
)
def test_a_run_that_does_not_fit_together_is_refused(dictionaries, allowed):
    with pytest.raises(ValueError, match=f"dictionaries: {allowed}|dictionaries: .*{allowed}"):
        mcs.mcs_of_run(dictionaries)


# --- the law -----------------------------------------------------------------------------------

SIZES = [(1, 5), (7, 4), (100, 16), (8192, 128), (100, 2), (65536, 4), (65536, 1024)]


def test_in_three_dimensions_a_cosine_is_uniform():
    t = np.linspace(-0.999, 1, 50)
    for M in (1, 2, 65536):
        law = MaxCosine(M, 3)
        np.testing.assert_allclose(law.cdf(t), ((1 + t) / 2) ** M, rtol=1e-9)
        np.testing.assert_allclose(law.pdf(t), M / 2 * ((1 + t) / 2) ** (M - 1), rtol=1e-9)
        np.testing.assert_allclose(law.mean(), (M - 1) / (M + 1), atol=1e-9)


def test_in_two_dimensions_an_angle_is_uniform():
    t = np.linspace(-0.999, 0.999, 50)
    np.testing.assert_allclose(MaxCosine(5, 2).cdf(t), (1 - np.arccos(t) / np.pi) ** 5, rtol=1e-9)
    angle = np.array([1e-4, 1e-3, 0.1, 2.0])
    expected = 65536 * np.log1p(-angle / np.pi)
    np.testing.assert_allclose(MaxCosine(65536, 2).logcdf(np.cos(angle)), expected, rtol=1e-7)


def test_the_law_keeps_its_digits_where_one_cosine_is_almost_surely_below():
    # F rounds to 1 here, its M-th power does not.
    area = integrate.quad(lambda s: (1 - s * s) ** 30, -1, 1)[0]
    above = integrate.quad(lambda s: (1 - s * s) ** 30 / area, 0.9, 1, epsabs=0, epsrel=1e-10)[0]
    assert 1 - above == 1
    np.testing.assert_allclose(MaxCosine(65536, 63).logcdf(0.9), -65536 * above, rtol=1e-8)


@pytest.mark.parametrize("below", [1.0, 0.5])
@pytest.mark.parametrize(("M", "K"), SIZES)
def test_the_density_is_the_derivative_and_has_mass_one(M, K, below):
    law = MaxCosine(M, K, below)
    t = law.ppf(np.linspace(0.05, 0.95, 9))
    np.testing.assert_allclose(law.cdf(t), np.linspace(0.05, 0.95, 9), rtol=1e-7)
    step = 1e-4 * np.min(np.diff(t))
    slope = (law.cdf(t + step) - law.cdf(t - step)) / (2 * step)
    np.testing.assert_allclose(law.pdf(t), slope, rtol=1e-5)
    edges = law.ppf(np.linspace(0.001, 0.999, 12))
    pieces = [integrate.quad(law.pdf, a, b)[0] for a, b in pairwise(edges)]
    np.testing.assert_allclose(sum(pieces), 0.998, rtol=1e-7)


@pytest.mark.parametrize(("M", "K"), [*SIZES, (65536, 2)])
def test_mean_and_mode_are_those_of_the_density(M, K):
    law = MaxCosine(M, K)
    q = (np.arange(100_000) + 0.5) / 100_000
    t = law.ppf(q)
    np.testing.assert_allclose(law.mean(), t.mean(), atol=1e-5)
    if K > 3:
        fine = np.linspace(t[0], t[-1], 20_001)
        best = fine[law.logpdf(fine).argmax()]
        np.testing.assert_allclose(law.mode(), best, atol=fine[1] - fine[0])
    else:
        assert law.mode() == 1


def test_one_cosine_is_integrated_from_its_density_by_hand():
    K, t = 17, np.linspace(-0.99, 0.9, 7)
    area = integrate.quad(lambda s: (1 - s * s) ** 7, -1, 1)[0]
    F = [integrate.quad(lambda s: (1 - s * s) ** 7 / area, -1, x, epsabs=0)[0] for x in t]
    F = np.array(F)
    np.testing.assert_allclose(MaxCosine(1, K).cdf(t), F, rtol=1e-8)
    np.testing.assert_allclose(MaxCosine(30, K).cdf(t), F**30, rtol=1e-6)


def test_the_footnotes_draws_follow_the_law():
    rng, M, K = dice(), 40, 12
    x, y = rng.normal(size=(3000, M)), rng.chisquare(K - 1, size=(3000, M))
    largest = (x / np.sqrt(x**2 + y)).max(1)
    assert stats.kstest(largest, MaxCosine(M, K).cdf).pvalue > 0.05
    assert stats.kstest(largest, MaxCosine(M + 8, K).cdf).pvalue < 1e-6
    cut = largest[largest < 0.6]
    assert stats.kstest(cut, MaxCosine(M, K, 0.6).cdf).pvalue > 0.05
    assert stats.kstest(cut, MaxCosine(M, K).cdf).pvalue < 1e-6


def test_random_dictionaries_follow_the_law():
    found = np.float64(random_mcs(KEY, 2000, 1024, 32))
    assert stats.kstest(found, MaxCosine(1024, 32).cdf).pvalue > 0.05
    assert stats.kstest(found, MaxCosine(2048, 32).cdf).pvalue < 1e-6
    np.testing.assert_array_equal(found, random_mcs(KEY, 2000, 1024, 32))
    assert (found != random_mcs(jax.random.key(1), 2000, 1024, 32)).any()


def test_the_texts_sizes_put_the_random_peak_near_three_tenths():
    assert 0.31 < MaxCosine(8192, 128).mode() < 0.33


def test_the_law_ends_where_its_support_does():
    law = MaxCosine(10, 8, 0.5)
    np.testing.assert_array_equal(law.cdf(np.array([-2.0, -1.0, 0.5, 0.9])), [0, 0, 1, 1])
    np.testing.assert_array_equal(law.pdf(np.array([-1.0, 0.51, 2.0])), 0)
    np.testing.assert_array_equal(law.ppf(np.array([0.0, 1.0])), [-1, 0.5])
    assert MaxCosine(10, 8, 0.1).mode() == 0.1
    assert MaxCosine(10, 3, 0.1).mode() == 0.1
    assert MaxCosine(1, 9).mode() == pytest.approx(0, abs=1e-12)
    assert np.isnan(MaxCosine(1, 3).mode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "M: got 0"),
        ((5, 1), "K: got 1"),
        ((5, 8, -1.0), "below: got -1.0"),
        ((5, 8, 1.5), "below: got 1.5"),
        ((5, 1024, -0.99), "below: got -0.99"),
    ],
)
def test_a_law_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"{message}, allowed"):
        MaxCosine(*arguments)
    with pytest.raises(ValueError, match=r"q: got values from 0\.5 to 2\.0, allowed: from 0 to 1"):
        MaxCosine(5, 8).ppf(np.array([0.5, 2.0]))


# --- modes -------------------------------------------------------------------------------------


def planted(*peaks, seed=0):
    """Normal peaks (place, spread, number), inside the bounds."""
    rng = dice(seed)
    return np.clip(np.concatenate([rng.normal(m, s, n) for m, s, n in peaks]), -1, 1)


def test_the_density_is_scipys_with_mirror_images():
    x = planted((0.3, 0.1, 60), (0.95, 0.05, 40))
    found = mcs.find_modes(x, KEY, n_boot=1, bandwidth=0.05)
    mirrored = np.concatenate([x, 2 - x, -2 - x])
    kernel = stats.gaussian_kde(mirrored, bw_method=0.05 / mirrored.std(ddof=1))
    np.testing.assert_allclose(found.density, 3 * kernel(found.x), atol=2e-3)
    np.testing.assert_allclose(found.density.sum() * WIDTH, 1, rtol=1e-6)


def test_two_planted_peaks_are_found_where_they_are():
    found = mcs.find_modes(planted((0.3, 0.03, 600), (0.9, 0.04, 400)), KEY, n_boot=200)
    assert len(found.place) == 2
    assert (found.low <= [0.3, 0.9]).all()
    assert (found.high >= [0.3, 0.9]).all()
    assert (found.high - found.low < 0.05).all()
    np.testing.assert_allclose(found.share, [0.6, 0.4], atol=0.002)
    np.testing.assert_allclose(found.excess, [0.6, 0.4], atol=0.01)
    np.testing.assert_allclose(found.height, stats.norm.pdf(0) * np.array([20, 10]), rtol=0.15)
    np.testing.assert_array_equal(found.support, 1)
    assert found.agreement == 1
    assert 0.4 < found.valley[0] < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_one_planted_peak_is_one(seed):
    found = mcs.find_modes(planted((0.3, 0.03, 500), seed=seed), KEY, n_boot=50)
    assert len(found.place) == 1
    assert found.low[0] <= 0.31
    assert found.high[0] >= 0.29
    assert len(found.valley) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_uniform_sample_has_no_more_than_one_broad_mode(seed):
    found = mcs.find_modes(dice(seed).uniform(-0.5, 0.5, 2000), KEY, n_boot=100)
    assert len(found.place) == 1
    assert found.high[0] - found.low[0] > 0.15
    assert found.height[0] < 1.3


def test_a_low_and_wide_mode_beside_a_high_and_narrow_one_counts():
    x = planted((0.3, 0.01, 900), (0.75, 0.08, 100))
    found = mcs.find_modes(x, KEY, n_boot=50)
    assert found.height[-1] < 0.1 * found.height[0], "a threshold of height would miss it"
    np.testing.assert_allclose(found.share, [0.9, 0.1], atol=0.002)
    assert len(mcs.find_modes(x, KEY, min_excess=0.11, n_boot=50).place) == 1


def test_a_peak_that_rises_to_the_bound_is_at_the_bound():
    x = 1 - np.abs(dice().normal(0, 0.02, 500))
    found = mcs.find_modes(x, KEY, n_boot=50)
    assert found.place[0] > 0.99
    np.testing.assert_allclose(found.height, 2 * 50 * stats.norm.pdf(0), rtol=0.3)


def test_excess_is_what_lies_above_the_saddle():
    x = (np.arange(CELLS) + 0.5) * WIDTH - 1
    density = 0.7 * stats.norm.pdf(x, 0, 0.1) + 0.3 * stats.norm.pdf(x, 0.3, 0.08)
    at, excess = _find(density, 0.001)
    between = slice(at[0], at[1])
    saddle = density[between].min()
    hill = (x > x[between][density[between].argmin()]) & (density > saddle)
    np.testing.assert_allclose(x[at], [0, 0.3], atol=0.01)
    np.testing.assert_allclose(excess, [1, (density[hill] - saddle).sum() * WIDTH], atol=1e-6)


def test_the_bandwidth_follows_the_narrow_half():
    x = np.array([0.0, 0.1, 0.2, 0.9, 0.95])
    expected = 0.9 * 0.2 / 1.349 * 5**-0.2
    np.testing.assert_allclose(default_bandwidth(x), expected, rtol=1e-12)
    normal = 0.1 * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    np.testing.assert_allclose(default_bandwidth(normal), 0.09 * 2000**-0.2, rtol=0.01)
    assert default_bandwidth(np.full(5, 0.3)) == WIDTH


def test_equal_values_are_one_mode():
    found = mcs.find_modes(np.full(5, 0.3), KEY, n_boot=5)
    np.testing.assert_allclose(found.place, [0.3], atol=WIDTH)


def test_modes_depend_on_the_key_alone():
    x = planted((0.3, 0.1, 100))
    first, again, other = (mcs.find_modes(x, jax.random.key(k), n_boot=20) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.low, again.low)
    assert first.low[0] != other.low[0]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ([], {}, r"sample: got shape \(0,\)"),
        ([0.1, np.nan], {}, "sample: got nan at 1"),
        ([0.1, 1.5], {}, "sample: got 1.5 at 1, allowed: finite numbers from -1 to 1"),
        ([0.1], {"min_excess": 0.0}, "min_excess: got 0.0"),
        ([0.1], {"bandwidth": 1e-5}, "bandwidth: got 1e-05"),
        ([0.1], {"n_boot": 0}, "n_boot: got 0"),
        ([0.1], {"level": 1.0}, "level: got 1.0"),
    ],
)
def test_modes_of_what_is_no_sample_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        mcs.find_modes(np.array(x, float), KEY, **options)


# --- dip ---------------------------------------------------------------------------------------


def dip_by_definition(sample):
    """Smallest distance to a distribution convex up to a value and concave from it on, as a
    program."""
    x, counts = np.unique(sample, return_counts=True)
    upper = np.cumsum(counts) / len(sample)
    lower, m, best = upper - counts / len(sample), len(x), 1.0
    slope = np.zeros((m - 1, m))
    for i in range(m - 1):
        slope[i, [i, i + 1]] = np.array([-1, 1]) / (x[i + 1] - x[i])
    for mode in range(m):
        # Variables: the value from the left up to the mode, from the right from it on, the
        # distance.
        left, right = np.eye(m, 2 * m + 1), np.eye(m, 2 * m + 1, m)
        far = np.zeros(2 * m + 1)
        far[-1] = 1
        smaller, bounds = [left[mode] - right[mode]], [0.0]
        for i in range(m):
            sides = [(left[i], lower[i])] * (i <= mode) + [(left[i], upper[i])] * (i < mode)
            sides += [(right[i], upper[i])] * (i >= mode) + [(right[i], lower[i])] * (i > mode)
            for g, f in sides:
                smaller += [g - far, -g - far]
                bounds += [f, -f]
        for i in range(m - 1):
            if i < mode:
                smaller.append(-slope[i] @ left if i == 0 else (slope[i - 1] - slope[i]) @ left)
                bounds.append(0.0)
            else:
                smaller.append(
                    -slope[i] @ right if i == m - 2 else (slope[i + 1] - slope[i]) @ right
                )
                bounds.append(0.0)
        found = linprog(far, A_ub=np.array(smaller), b_ub=bounds, bounds=(0, 1))
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize("decimals", [1, 9])
def test_the_dip_is_the_distance_from_the_nearest_unimodal_distribution(decimals):
    rng = dice()
    for _ in range(20):
        x = np.round(rng.random(int(rng.integers(4, 12))), decimals)
        np.testing.assert_allclose(_dip(x), dip_by_definition(x), atol=1e-7)


def test_the_dip_of_even_steps_and_of_two_points_is_known():
    np.testing.assert_allclose(_dip(np.arange(10.0)), 1 / 20)
    np.testing.assert_allclose(_dip(np.repeat([0.0, 1.0], 8)), 1 / 4)
    # Both hulls are straight and parallel, and one value of the three holds as many as another.
    x = np.repeat([0.4, 0.6, 0.7, 0.8, 0.9, 1.0], [3, 2, 1, 1, 3, 1])
    np.testing.assert_allclose(_dip(x), 3 / 22)
    x = planted((0.3, 0.1, 50), (0.8, 0.1, 30))
    np.testing.assert_allclose(_dip(7 - 3 * x), _dip(x), rtol=1e-9)


def test_the_dip_test_tells_two_peaks_from_one():
    two = mcs.dip_test(planted((0.3, 0.1, 200), (0.8, 0.1, 200)), KEY, 99)
    one = mcs.dip_test(planted((0.3, 0.1, 400)), KEY, 99)
    assert two.p_value == 0.01
    assert one.p_value > 0.3


def test_p_values_of_uniform_samples_are_uniform():
    p = [mcs.dip_test(dice(s).random(40), jax.random.key(s), 39).p_value for s in range(60)]
    assert stats.kstest(p, "uniform").pvalue > 0.05


def test_a_sample_of_one_value_has_no_dip():
    with pytest.raises(ValueError, match=r"sample: got 3 times 0.5, allowed: two different"):
        mcs.dip_test(np.full(3, 0.5), KEY)
    with pytest.raises(ValueError, match="n_null: got 0"):
        mcs.dip_test(np.arange(3.0), KEY, 0)


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


# --- shares and correlations -------------------------------------------------------------------


def test_shares_of_high_mcs_by_hand():
    scores = np.array([[0.5, 0.49, 0.9, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    found = mcs.split(scores)
    np.testing.assert_array_equal(found.high, [2, 0])
    np.testing.assert_array_equal(found.low, [2, 4])
    np.testing.assert_array_equal(found.high_share, [0.5, 0])
    z, n = stats.norm.ppf(0.975), 4
    for p, low, high in zip([0.5, 0], found.high_share_from, found.high_share_to, strict=True):
        half = z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
        ends = (p + z**2 / 2 / n + half * np.array([-1, 1])) / (1 + z**2 / n)
        np.testing.assert_allclose([low, high], ends, atol=1e-12)


def test_shares_of_what_is_not_finite_are_refused():
    with pytest.raises(
        ValueError, match=r"mcs: got shape \(2,\) with 1 entries that are not finite"
    ):
        mcs.split(np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match=r"mcs: got shape \(0,\)"):
        mcs.split(np.zeros(0))
    with pytest.raises(ValueError, match=r"cutoff: got 2\.0"):
        mcs.split(np.zeros(1), 2.0)


def test_correlations_are_scipys_with_ties():
    x = np.round(dice().normal(size=80), 1)
    y = np.round(x + dice(1).normal(size=80), 1)
    found = mcs.correlation(x, y, KEY, 2000)
    np.testing.assert_allclose(found.pearson.value, stats.pearsonr(x, y).statistic, rtol=1e-12)
    np.testing.assert_allclose(found.spearman.value, stats.spearmanr(x, y).statistic, rtol=1e-12)
    assert found.n == 80
    for interval, statistic in ((found.pearson, stats.pearsonr), (found.spearman, stats.spearmanr)):
        theirs = stats.bootstrap(
            (x, y),
            lambda a, b, s=statistic: s(a, b).statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=500,
            random_state=0,
        ).confidence_interval
        np.testing.assert_allclose(interval[1:], theirs, atol=0.04)


def test_a_flat_line_has_no_correlation(unchecked):
    found = mcs.correlation(np.full(9, 0.1), np.arange(9.0), KEY, 10)
    assert np.isnan([*found.pearson, *found.spearman]).all()
    with pytest.raises(ValueError, match="y: got 2 values, allowed: 3, as x has"):
        mcs.correlation(np.zeros(3), np.zeros(2), KEY)


def test_flat_resamples_are_left_out_of_an_interval():
    found = mcs.correlation(np.arange(3.0), np.array([0.0, 1, 2]), KEY, 500)
    np.testing.assert_allclose(found.pearson, 1, atol=1e-12)


def test_the_median_of_resamples_is_known_for_zeros_and_ones():
    # Of five draws the median is 1 where three or more are.
    x = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    tail = stats.binom.sf(2, 5, 0.4)
    for level, low, high in ((1 - 2.2 * tail, 0, 0), (1 - 1.8 * tail, 0, 1)):
        assert bootstrapped(np.median, (x,), KEY, 20_000, level) == (0, low, high)


# --- dead, noise or real -----------------------------------------------------------------------

COLUMNS = {
    #                low: dead, dead, noise, real, real but rare, idle   high: dead, real, idle
    "mcs": np.array([0.1, 0.2, 0.3, 0.4, 0.45, 0.49, 0.5, 0.9, 0.95]),
    "frequency": np.array([0.0, 0.3, 0.01, 0.2, 0.05, 0.1, 0.0, 0.6, 0.4]),
    "dead": np.array([True, True, False, False, False, False, True, False, False]),
    "effect": np.array([0.0, 9.0, -5.0, 2.0, 1.0, 0.5, 0.0, 3.0, 0.9]),
}


def explain(**changed):
    settings = {"key": KEY, "rare_below": 0.1, "effect_from": 1.0, "n_boot": 200}
    return mcs.explain(**{**COLUMNS, **settings, **changed})


def test_every_latent_is_of_one_class():
    found = explain()
    assert found.low.counts == {"dead": 2, "noise": 1, "real": 2, "idle": 1}
    assert found.high.counts == {"dead": 1, "noise": 0, "real": 1, "idle": 1}
    assert (found.low.n, found.low.n_measured, found.high.n) == (6, 6, 3)
    wilson = stats.binomtest(2, 6).proportion_ci(method="wilson")
    np.testing.assert_allclose(found.low.dead, (1 / 3, wilson.low, wilson.high))
    np.testing.assert_allclose(found.low.shares["real"], found.low.dead)
    assert found.supported is None


def test_medians_are_of_the_live():
    found = explain()
    np.testing.assert_allclose(found.low.frequency.value, np.median([0.01, 0.2, 0.05, 0.1]))
    np.testing.assert_allclose(found.low.effect.value, np.median([-5, 2, 1, 0.5]))
    np.testing.assert_allclose(found.high.effect.value, np.median([3, 0.9]))
    assert found.low.effect.low == -5
    assert found.low.effect.high == 2


def test_correlations_are_of_all_and_of_the_live():
    found, live = explain().correlations, ~COLUMNS["dead"]
    for name in ("frequency", "dead", "effect"):
        expected = stats.spearmanr(COLUMNS["mcs"], COLUMNS[name]).statistic
        np.testing.assert_allclose(found[name].value, expected, rtol=1e-12)
    for name in ("frequency", "effect"):
        expected = stats.spearmanr(COLUMNS["mcs"][live], COLUMNS[name][live]).statistic
        np.testing.assert_allclose(found[f"{name} of the live"].value, expected, rtol=1e-12)


def test_latents_that_were_not_ablated_are_in_no_class():
    effect = COLUMNS["effect"].copy()
    effect[[0, 3]] = np.nan
    found = explain(effect=effect)
    assert found.low.counts == {"dead": 1, "noise": 1, "real": 1, "idle": 1}
    assert (found.low.n, found.low.n_measured) == (6, 4)
    np.testing.assert_allclose(found.low.dead.value, 1 / 3)
    np.testing.assert_allclose(found.low.shares["dead"].value, 1 / 4)
    np.testing.assert_allclose(found.low.effect.value, 0.5)
    assert explain(effect=np.full(9, np.nan)).low.n_measured == 0


def test_a_class_is_supported_by_a_clear_majority():
    n = 40
    many = {
        "mcs": np.full(n, 0.3),
        "frequency": np.full(n, 1e-4),
        "dead": np.zeros(n, bool),
        "effect": np.where(np.arange(n) < 30, 0.0, 5.0),
    }
    assert explain(**many).supported == "noise"
    assert explain(**many, effect_from=6.0, rare_below=1e-5).supported == "idle"
    assert explain(**{**many, "dead": np.arange(n) < 30}).supported == "dead"
    assert explain(**{**many, "effect": 5 - many["effect"]}).supported == "real"
    assert explain(**{**many, "effect": np.where(np.arange(n) < 22, 0.0, 5.0)}).supported is None


def test_one_side_may_be_empty():
    found = explain(cutoff=-1.0)
    assert found.low.n == 0
    assert np.isnan([*found.low.dead, *found.low.effect, *found.low.shares["real"]]).all()
    assert found.supported is None


def test_the_table_shows_both_sides():
    rows_of = {row["measure"]: row for row in explain().table()}
    assert rows_of["latents"]["low_mcs"] == 6
    assert rows_of["share noise of the measured"]["low_mcs"] == pytest.approx(1 / 6)
    assert rows_of["share dead"]["high_mcs_to"] == explain().high.dead.high
    assert len(rows_of) == 9
    assert "share dead of the measured" in rows_of


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frequency": np.full(9, 1.5)}, "frequency: got 1.5 at 0"),
        ({"mcs": np.full(9, 1.5)}, "mcs: got 1.5 at 0"),
        ({"frequency": np.full(8, 0.5)}, r"frequency: got shape \(8,\), allowed: \(9,\)"),
        ({"dead": np.zeros(9)}, "dead: got float64, allowed: bool"),
        ({"effect": np.full(9, np.inf)}, "effect: got 9 infinite"),
        ({"rare_below": 0.0}, "rare_below: got 0.0"),
        ({"effect_from": 0.0}, "effect_from: got 0.0"),
        ({"cutoff": 1.5}, "cutoff: got 1.5"),
    ],
)
def test_latents_that_do_not_fit_together_are_refused(changed, message, unchecked):
    with pytest.raises(ValueError, match=message):
        explain(**changed)
