"""The peaks of a sample of MCS: how many there are, where, how high, and how sure that is."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, PRNGKeyArray
from scipy import fft, signal

from saejax.core.checks import check_number
from saejax.core.stats import LEVEL, N_BOOT, as_sample, check_bootstrap, generator, percentiles

# Cells over [-1, 1]; a place is known to one cell, 0.0005.
CELLS = 4096
WIDTH = 2 / CELLS
# What a mode has to hold in excess of its surroundings to count, a share of the sample. A second
# mode of that size appeared by chance in about one of 20 uniform samples of 500 to 2000, where
# ripples are largest.
MIN_EXCESS = 0.05


class Modes(NamedTuple):
    """The modes of a sample, from left to right, and the density they were read from.

    Attributes:
        place: where the density is highest.
        low: lower end of the percentile interval of the place.
        high: its upper end.
        height: density there, per unit of cosine.
        excess: share of the sample that would have to go for the mode to vanish.
        share: of the sample between the valleys on both sides.
        support: share of the resamples that have a mode between the same valleys.
        valley: where the density is lowest between neighbouring modes.
        agreement: share of the resamples with just as many modes.
        bandwidth: of the density.
        x: centres of the cells.
        density: at x, per unit of cosine.
    """

    place: Float64[np.ndarray, " modes"]
    low: Float64[np.ndarray, " modes"]
    high: Float64[np.ndarray, " modes"]
    height: Float64[np.ndarray, " modes"]
    excess: Float64[np.ndarray, " modes"]
    share: Float64[np.ndarray, " modes"]
    support: Float64[np.ndarray, " modes"]
    valley: Float64[np.ndarray, " valleys"]
    agreement: float
    bandwidth: float
    x: Float64[np.ndarray, " cells"]
    density: Float64[np.ndarray, " cells"]


def default_bandwidth(sample: Float[np.ndarray, " n"]) -> float:
    """Silverman's rule, `0.9 s n^(-1/5)`, with s the smaller of two estimates of the spread.

    They are the standard deviation and the length of the shortest interval that holds more than
    half of the sample, divided by 1.349, which is 1 for a standard normal. The usual interquartile
    range stretches from peak to peak where there are two and blurs both; the shortest half lies in
    the larger one. Not below the width of a cell.

    Source: Silverman (1986), "Density estimation for statistics and data analysis", equation 3.31;
    Rousseeuw and Leroy (1988), "A robust scale estimator based on the shortest half".
    """
    x = np.sort(as_sample("sample", sample))
    half = len(x) // 2
    shortest = (x[half:] - x[: len(x) - half]).min() / 1.349
    return max(float(0.9 * min(x.std(), shortest) * len(x) ** -0.2), WIDTH)


def _density(counts: np.ndarray, bandwidth: float) -> np.ndarray:
    """Kernel density of counts [..., cells]: a cosine series has its reflections built in."""
    frequency = np.pi / 2 * np.arange(CELLS)
    series = fft.dct(counts, axis=-1) * np.exp(-((frequency * bandwidth) ** 2) / 2)
    density = fft.idct(series, axis=-1) / (counts.sum(-1, keepdims=True) * WIDTH)
    # The rounding of the transform would be a thousand modes where there is nothing.
    return np.where(density > 1e-9 * density.max(-1, keepdims=True), density, 0.0)


def _find(density: np.ndarray, min_excess: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the modes and their excesses."""
    # Outside there is nothing, so a density that rises up to a bound has a mode at it.
    padded = np.concatenate([[0.0], density, [0.0]])
    peaks, _ = signal.find_peaks(padded)
    prominence, *bases = signal.peak_prominences(padded, peaks)
    _, saddle, left, right = signal.peak_widths(padded, peaks, 1.0, (prominence, *bases))
    first, last = np.ceil(left).astype(int), np.floor(right).astype(int)
    below = np.concatenate([[0.0], np.cumsum(padded)])
    excess = (below[last + 1] - below[first] - saddle * (last + 1 - first)) * WIDTH
    kept = excess >= min_excess
    return peaks[kept] - 1, excess[kept]


def find_modes(
    sample: Float[np.ndarray, " n"],
    key: PRNGKeyArray,
    min_excess: float = MIN_EXCESS,
    bandwidth: float | None = None,
    n_boot: int = N_BOOT,
    level: float = LEVEL,
) -> Modes:
    """The modes of a sample of MCS, found from a kernel density by a rule.

    The density is Gaussian with reflection at -1 and 1, on a grid of `CELLS` cells:

        density(x) = 1 / (n h sqrt(2 pi)) sum_i sum_r exp(-(x - r)^2 / 2 h^2),

    r over x_i and its mirror images. A local maximum counts as a mode by its excess mass. Let the
    saddle of a maximum be the level at which the stretch around it where the density is above that
    level first joins a stretch with a higher maximum (0 for the highest of all). Then

        excess = integral over the stretch of (density - saddle) dx,

    the share of the sample that has to go for the maximum to vanish in its surroundings: next to
    nothing for the ripples of a small sample. A mode has `min_excess` or more. Unlike a threshold
    of height this also sees a low and wide mode beside a high and narrow one.

    Intervals come from samples drawn anew from the cells, with the bandwidth kept: in each, the
    place is that of the highest density between the valleys of the sample itself. One broad mode,
    as a uniform sample has, comes with a wide interval.

    Args (others as in `saejax.analysis.mcs`):
        sample: from -1 to 1.
        min_excess: a share of the sample.
        bandwidth: h, in units of the cosine; None for `default_bandwidth`.

    Source: Silverman (1986), section 2.10, for reflection; Muller and Sawitzki (1991), "Excess mass
    estimates and tests for multimodality".
    """
    x = as_sample("sample", sample, -1.0, 1.0)
    check_number("min_excess", min_excess, "above 0, below 1", lambda v: 0 < v < 1)
    check_bootstrap(n_boot, level)
    if bandwidth is None:
        bandwidth = default_bandwidth(x)
    allowed = f"from the width of a cell, {WIDTH:g}, on"
    bandwidth = check_number("bandwidth", bandwidth, allowed, lambda v: v >= WIDTH)
    cell = np.minimum(((x + 1) / WIDTH).astype(int), CELLS - 1)
    counts = np.bincount(cell, minlength=CELLS)
    density = _density(counts, bandwidth)
    peaks, excess = _find(density, min_excess)
    valley = np.array([a + density[a:b].argmin() for a, b in pairwise(peaks)], int)
    edges = np.array([0, *valley, CELLS])
    basins = list(pairwise(edges))

    rng = generator(key)
    places, present, same_number = [], [], []
    # Drawn in portions, a resample is 32 KiB.
    for start in range(0, n_boot, 128):
        drawn = rng.multinomial(len(x), counts / len(x), size=min(128, n_boot - start))
        for replicate in _density(drawn, bandwidth):
            its_peaks, _ = _find(replicate, min_excess)
            places.append([a + replicate[a:b].argmax() for a, b in basins])
            present.append([((its_peaks >= a) & (its_peaks < b)).any() for a, b in basins])
            same_number.append(len(its_peaks) == len(peaks))
    centres = (np.arange(CELLS) + 0.5) * WIDTH - 1
    low, high = percentiles(centres[np.array(places)], level)
    return Modes(
        place=centres[peaks],
        low=low,
        high=high,
        height=density[peaks],
        excess=excess,
        share=np.add.reduceat(counts, edges[:-1]) / len(x),
        support=np.mean(present, axis=0),
        valley=centres[valley],
        agreement=float(np.mean(same_number)),
        bandwidth=bandwidth,
        x=centres,
        density=density,
    )
