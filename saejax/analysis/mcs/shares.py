"""Shares of high and low MCS, and correlations of MCS against two dictionaries."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, PRNGKeyArray

from saejax.core import stats
from saejax.core.checks import check_number
from saejax.core.stats import LEVEL, N_BOOT, Interval


class Split(NamedTuple):
    """High-MCS and low-MCS latents of dictionaries, shares with Wilson intervals.

    Attributes:
        high: number of latents with MCS from the cutoff on.
        low: number of those below it.
        high_share: share of `high`; that of `low` and its interval are 1 minus these.
        high_share_from: lower end of its interval.
        high_share_to: its upper end.
    """

    high: Int[np.ndarray, "*cells"]
    low: Int[np.ndarray, "*cells"]
    high_share: Float64[np.ndarray, "*cells"]
    high_share_from: Float64[np.ndarray, "*cells"]
    high_share_to: Float64[np.ndarray, "*cells"]


def split(
    mcs: Float[np.ndarray, "*cells d_sae"], cutoff: float = 0.5, level: float = LEVEL
) -> Split:
    """Counts and shares of latents with high MCS, from the cutoff on, and low MCS, below it.

    The interval takes latents as independent draws. It says how well these latents tell the share;
    the spread over seeds says what another training run would give.

    Source: figures 11 and 12 of "[Research Update] Sparse Autoencoder features are bimodal".
    """
    check_number("cutoff", cutoff, "from -1 to 1", lambda v: -1 <= v <= 1)
    check_number("level", level, "above 0, below 1", lambda v: 0 < v < 1)
    bad = np.sum(~np.isfinite(mcs))
    if bad or not mcs.size:
        got = f"got shape {mcs.shape} with {bad} entries that are not finite"
        raise ValueError(f"mcs: {got}, allowed: one or more, all finite")
    n = mcs.shape[-1]
    high = np.asarray((mcs >= cutoff).sum(-1))
    return Split(high, np.asarray(n - high), np.asarray(high / n), *stats.wilson(high, n, level))


class Correlation(NamedTuple):
    """How two numbers of each latent go together, with percentile bootstrap intervals.

    Attributes:
        pearson: correlation of the values.
        spearman: correlation of their ranks.
        n: number of latents.
    """

    pearson: Interval
    spearman: Interval
    n: int


def pearson(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Pearson's correlation along an axis; NaN where x or y is flat."""
    x, y = x - x.mean(axis, keepdims=True), y - y.mean(axis, keepdims=True)
    # A flat line differs from its mean by rounding, which has a correlation too.
    flat = (np.ptp(x, axis) == 0) | (np.ptp(y, axis) == 0)
    norms = np.sqrt((x * x).sum(axis) * (y * y).sum(axis))
    return np.where(flat, np.nan, (x * y).sum(axis) / np.where(flat, 1.0, norms))


def places(x: np.ndarray) -> np.ndarray:
    """Rank of each value among the different values of x, from 0 on: all that ranks depend on."""
    return np.unique(x, return_inverse=True)[1]


def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's rank correlation along the last axis, equal values sharing their mean rank.

    x and y are `places` of samples, or resamples of them: sorted once, resamples are ranked by
    counting.
    """
    return pearson(_mean_ranks(x), _mean_ranks(y), axis)


def _mean_ranks(places: np.ndarray) -> np.ndarray:
    rows = places.reshape(-1, places.shape[-1])
    n = int(places.max()) + 1
    # One count for all rows: each has n places of its own.
    shifted = rows + n * np.arange(len(rows))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=n * len(rows)).reshape(len(rows), n)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    return np.take_along_axis(ranks, rows, axis=1).reshape(places.shape)


def correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    key: PRNGKeyArray,
    n_boot: int = N_BOOT,
    level: float = LEVEL,
) -> Correlation:
    """Pearson's and Spearman's correlation of two numbers of each latent, with intervals.

        pearson = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2)

    and spearman the same of the ranks. x and y are for instance MCS of the latents against two
    larger dictionaries. Latents are drawn with replacement, x and y together. Both are NaN where x
    or y is flat.

    Source: figures 9 and 10 of "[Research Update] Sparse Autoencoder features are bimodal".
    """
    stats.check_bootstrap(n_boot, level)
    x, y = stats.as_sample("x", x), stats.as_sample("y", y)
    if len(x) != len(y):
        raise ValueError(f"y: got {len(y)} values, allowed: {len(x)}, as x has")
    of_values = stats.bootstrapped(pearson, (x, y), key, n_boot, level)
    of_ranks = stats.bootstrapped(spearman, (places(x), places(y)), key, n_boot, level)
    return Correlation(of_values, of_ranks, len(x))
