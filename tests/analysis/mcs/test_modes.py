"""Modes and the dip of a sample, against SciPy and definitions."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog

from saejax.analysis import mcs
from saejax.analysis.mcs.dip import _dip
from saejax.analysis.mcs.modes import CELLS, WIDTH, _find, default_bandwidth

KEY = jax.random.key(0)


def dice(seed=0):
    return np.random.default_rng(seed)


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
