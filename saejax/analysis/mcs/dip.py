"""Hartigans' dip test: whether a sample has more than one mode."""

from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.optimize import isotonic_regression

from saejax.core.checks import check_whole
from saejax.core.stats import as_sample


class Dip(NamedTuple):
    """Outcome of the dip test.

    Attributes:
        statistic: the dip, from 1 / 2n (for n different values) to 1/4.
        p_value: how probable a dip at least as large is for a sample from the uniform law.
    """

    statistic: float
    p_value: float


def dip_test(sample: Float[np.ndarray, " n"], key: PRNGKeyArray, n_null: int = 999) -> Dip:
    """Hartigans' dip test of unimodality.

    The dip of the empirical distribution F_n is its distance from the nearest unimodal
    distribution,

        dip = min over unimodal G of sup_x |F_n(x) - G(x)|,

    where G is unimodal if it is convex up to some place and concave from there on. It does not
    change when the sample is moved or scaled. A small p-value speaks against one mode; it says
    neither how many there are nor where (see `saejax.analysis.mcs.find_modes`).

    The p-value is that of a Monte Carlo test against the uniform law, the unimodal law with the
    largest dip as n grows: with b of `n_null` uniform samples of the same n whose dip is at least
    as large, p = (1 + b) / (1 + n_null). It cannot be below 1 / (1 + n_null).

    The sample must have two different values or more.

    Source: Hartigan and Hartigan (1985), "The dip test of unimodality".
    """
    check_whole("n_null", n_null, "1 or more", lambda v: v >= 1)
    x = as_sample("sample", sample)
    if x.min() == x.max():
        got = f"got {len(x)} times {x[0]}"
        raise ValueError(f"sample: {got}, allowed: two different values or more")
    dip = _dip(x)
    null = _null(len(x), n_null, tuple(np.asarray(jax.random.key_data(key)).tolist()))
    # Equal dips may differ by rounding.
    return Dip(dip, float((1 + np.sum(null >= dip - 1e-12)) / (1 + n_null)))


@lru_cache(maxsize=64)
def _null(n: int, n_null: int, key: tuple[int, ...]) -> np.ndarray:
    """Dips of uniform samples; kept, because all dictionaries of a size ask for the same."""
    rng = np.random.default_rng(np.array(key, np.uint32))
    return np.array([_dip(rng.random(n)) for _ in range(n_null)])


def _minorant(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greatest convex minorant of the points (x, y) at x, and the indices of its corners.

    Its slopes are the weighted isotonic regression of the slopes between the points.
    """
    step = np.diff(x)
    slopes = isotonic_regression(np.diff(y) / step, weights=step)
    values = np.concatenate([y[:1], y[0] + np.cumsum(slopes.x * step)])
    corners = np.asarray(slopes.blocks)
    # It meets the points at its corners, where the sum above has gathered rounding.
    values[corners] = y[corners]
    return values, corners


def _dip(sample: np.ndarray) -> float:
    """The dip, by the iteration of Hartigan and Hartigan (section 3) over modal intervals."""
    x, counts = np.unique(sample, return_counts=True)
    upper = np.cumsum(counts) / len(sample)
    lower = upper - counts / len(sample)
    first, last, dip = 0, len(x) - 1, 1 / len(sample)
    while first < last:
        part = slice(first, last + 1)
        convex, convex_at = _minorant(x[part], lower[part])
        mirrored, mirrored_at = _minorant(-x[part][::-1], -upper[part][::-1])
        concave, concave_at = -mirrored[::-1], last - first - mirrored_at[::-1]
        # The gap is a concave function with corners there only.
        corners = np.union1d(convex_at, concave_at)
        widest = corners[(concave - convex)[corners].argmax()]
        if concave[widest] - convex[widest] <= dip:
            break
        left = int(convex_at[convex_at <= widest][-1])
        right = int(concave_at[concave_at >= widest][0])
        dip = max(
            dip,
            (upper[part] - convex)[:left].max(initial=0.0),
            (concave - lower[part])[right + 1 :].max(initial=0.0),
        )
        first, last = first + left, first + right
    return float(dip / 2)
