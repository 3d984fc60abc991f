"""Earth mover's distance between several samples at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, PRNGKeyArray

from saejax.core.stats import LEVEL, N_BOOT, as_sample, check_bootstrap, generator, percentiles

Samples = Sequence[Float[np.ndarray, " _"]]


class EMD(NamedTuple):
    """Distances between all samples, with intervals.

    Attributes:
        distance: between the samples as they are, in units of the samples.
        low: lower ends of the percentile intervals.
        high: their upper ends.
        replicates: distances between the resamples, for intervals of whatever is made of them.
    """

    distance: Float64[np.ndarray, "samples samples"]
    low: Float64[np.ndarray, "samples samples"]
    high: Float64[np.ndarray, "samples samples"]
    replicates: Float64[np.ndarray, "n_boot samples samples"]


class _Merged(NamedTuple):
    """All samples sorted into one line: its gaps, and the places of each sample's values in it."""

    gaps: Float64[np.ndarray, " n_all_less_1"]
    places: list[Int[np.ndarray, " _"]]


def _merge(samples: Sequence[np.ndarray]) -> _Merged:
    if not samples:
        raise ValueError("samples: got none, allowed: one or more")
    checked = [as_sample(f"samples[{i}]", x) for i, x in enumerate(samples)]
    values = np.concatenate(checked)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(checked)), [len(x) for x in checked])[order]
    places = [np.flatnonzero(owner == i) for i in range(len(checked))]
    return _Merged(np.diff(values[order]), places)


def _distances(merged: _Merged, weights: Sequence[np.ndarray]) -> np.ndarray:
    n, width = len(weights), len(merged.gaps)
    cdf = np.zeros((n, width + 1))
    for line, places, weight in zip(cdf, merged.places, weights, strict=True):
        line[places] = weight
        # Whole numbers add up without rounding.
        np.cumsum(line, out=line)
        line /= len(places)
    out = np.zeros((n, n))
    # A pair at a time stays in the cache. Not a dot product: its threads wait for each other so
    # often that on a busy machine it took a hundred times as long.
    gap = np.empty(width)
    for i in range(n):
        for j in range(i):
            np.abs(np.subtract(cdf[i, :-1], cdf[j, :-1], out=gap), out=gap)
            out[i, j] = out[j, i] = np.multiply(gap, merged.gaps, out=gap).sum()
    return out


def emd(samples: Samples) -> Float64[np.ndarray, "samples samples"]:
    """Earth mover's distance (1-D Wasserstein-1) between every two of several samples.

    With F_i the empirical distribution of sample i, and z the values of all samples together,
    sorted,

        EMD_ij = integral |F_i - F_j| dz = sum_k |F_i(z_k) - F_j(z_k)| (z_(k+1) - z_k),

    in units of the samples; sizes may differ. It is what `scipy.stats.wasserstein_distance` gives
    for each pair, up to rounding, but all samples are sorted once.

    Source: Vallender (1974), "Calculation of the Wasserstein distance between probability
    distributions on the line".
    """
    merged = _merge(samples)
    return _distances(merged, [np.ones(len(places)) for places in merged.places])


def emd_intervals(
    samples: Samples, key: PRNGKeyArray, n_boot: int = N_BOOT, level: float = LEVEL
) -> EMD:
    """`emd` with a percentile bootstrap interval of every entry.

    In a replicate every sample is drawn anew from itself with replacement, all pairs from the same
    draws. A resample counts values of the sample several times, so the one sorted line serves all
    replicates.

    Resampling adds noise, and a distance counts noise as distance. Replicates of a distance about
    as small as the noise lie above it: for two samples of one law and one size about sqrt(2) times
    as high, so that the interval may lie wholly above `distance`. Compare intervals of such pairs
    with each other; that one excludes 0 says nothing.
    """
    check_bootstrap(n_boot, level)
    merged, rng = _merge(samples), generator(key)
    sizes = [len(places) for places in merged.places]

    def resampled() -> np.ndarray:
        counts = [np.bincount(rng.integers(n, size=n), minlength=n) for n in sizes]
        return _distances(merged, counts)

    replicates = np.stack([resampled() for _ in range(n_boot)])
    distance = _distances(merged, [np.ones(n) for n in sizes])
    return EMD(distance, *percentiles(replicates, level), replicates)
