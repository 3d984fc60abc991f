"""High and low MCS: how many latents have which, and how MCS against two dictionaries go
together."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, PRNGKeyArray

from saejax.core.checks import check_number
from saejax.core.stats import (
    LEVEL,
    N_BOOT,
    Interval,
    as_sample,
    bootstrapped,
    check_bootstrap,
    wilson,
)


class Split(NamedTuple):
    """High-MCS and low-MCS latents of dictionaries, shares with Wilson intervals.

    Attributes:
        high: number of latents with MCS from the cutoff on.
        low: number of those below it.
        high_share: of all latents.
        high_share_from: lower end of its interval.
        high_share_to: its upper end. The share of low-MCS latents and the ends of its interval are
            1 minus these.
    """

    high: Int[np.ndarray, "*cells"]
    low: Int[np.ndarray, "*cells"]
    high_share: Float64[np.ndarray, "*cells"]
    high_share_from: Float64[np.ndarray, "*cells"]
    high_share_to: Float64[np.ndarray, "*cells"]


def split(
    mcs: Float[np.ndarray, "*cells d_sae"], cutoff: float = 0.5, level: float = LEVEL
) -> Split:
    """Counts and shares of latents with high and low MCS, for one size and all its cells.

    The interval takes latents as independent draws. It says how well these latents tell the share;
    the spread over seeds says what another training run would give.

    Args:
        mcs: of the latents of each dictionary.
        cutoff: MCS from it on is high, below it low.
        level: of the intervals.

    Raises:
        ValueError: for MCS that are not finite or none, and settings out of range.

    Source: figures 11 and 12 of "[Research Update] Sparse Autoencoder features are bimodal".
    """
    check_number("cutoff", cutoff, "from -1 to 1", lambda v: -1 <= v <= 1)
    check_number("level", level, "above 0, below 1", lambda v: 0 < v < 1)
    if not mcs.size or not np.isfinite(mcs).all():
        raise ValueError(
            f"mcs: got shape {mcs.shape} with {np.sum(~np.isfinite(mcs))} entries that are not "
            "finite, allowed: one or more, all finite"
        )
    n = mcs.shape[-1]
    high = np.asarray((mcs >= cutoff).sum(-1))
    return Split(high, np.asarray(n - high), np.asarray(high / n), *wilson(high, n, level))


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
    """Place of each value among the different values of x, from 0 on: all that ranks depend on."""
    return np.unique(x, return_inverse=True)[1]


def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's rank correlation along the last axis, equal values sharing their mean rank.

    Args:
        x: `places` of a sample, or resamples of them; sorted once, resamples are ranked by
            counting.
        y: the same of another.
        axis: the last.
    """
    return pearson(_mean_ranks(x), _mean_ranks(y), axis)


def _mean_ranks(at: np.ndarray) -> np.ndarray:
    rows = at.reshape(-1, at.shape[-1])
    n = int(at.max()) + 1
    counts = np.bincount(
        (rows + n * np.arange(len(rows))[:, None]).ravel(), minlength=n * len(rows)
    )
    counts = counts.reshape(len(rows), n)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    return np.take_along_axis(ranks, rows, axis=1).reshape(at.shape)


def correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    key: PRNGKeyArray,
    n_boot: int = N_BOOT,
    level: float = LEVEL,
) -> Correlation:
    """Pearson's and Spearman's correlation of two numbers of each latent, with intervals.

        pearson = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2)

    and spearman the same of the ranks. Latents are drawn with replacement, x and y together. Both
    are NaN where x or y is flat.

    Args:
        x: for instance MCS of the latents against one larger dictionary.
        y: against another.
        key: of the resamples.
        n_boot: number of resamples.
        level: of the intervals.

    Raises:
        ValueError: for samples that are not finite vectors of one length, and settings out of
            range.

    Source: figures 9 and 10 of "[Research Update] Sparse Autoencoder features are bimodal".
    """
    check_bootstrap(n_boot, level)
    x, y = as_sample("x", x), as_sample("y", y)
    if len(x) != len(y):
        raise ValueError(f"y: got {len(y)} values, allowed: {len(x)}, as x has")
    of_values = bootstrapped(pearson, (x, y), key, n_boot, level)
    of_ranks = bootstrapped(spearman, (places(x), places(y)), key, n_boot, level)
    return Correlation(of_values, of_ranks, len(x))
