"""Statistics: bootstrap intervals, intervals of shares, and checks of samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float64, Int, PRNGKeyArray, Shaped

from saejax.core.checks import check_number, check_whole

LEVEL = 0.95
N_BOOT = 1000


class Interval(NamedTuple):
    """The value of a statistic and the two ends of the interval around it; NaN where undefined."""

    value: float
    low: float
    high: float


def generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's random generator for a JAX key: JAX by itself has no float64 for statistics."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def as_sample(
    name: str, x: np.ndarray, lowest: float = -np.inf, highest: float = np.inf
) -> Float64[np.ndarray, " n"]:
    """A sample in float64.

    Raises:
        ValueError: where it is not a vector, is empty, or has a number that is not finite or out of
            range.
    """
    x = np.asarray(x)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"{name}: got shape {x.shape}, allowed: [n] with n from 1 on")
    x = x.astype(np.float64)
    bad = ~(np.isfinite(x) & (x >= lowest) & (x <= highest))
    if bad.any():
        within = "" if np.isinf(highest) else f" from {lowest:g} to {highest:g}"
        raise ValueError(
            f"{name}: got {x[bad][0]} at {bad.argmax()}, allowed: finite numbers{within}"
        )
    return x


def check_bootstrap(n_boot: int, level: float) -> None:
    """Refuses a number of resamples or a level that makes no interval, by a ValueError."""
    check_whole("n_boot", n_boot, "1 or more", lambda v: v >= 1)
    check_number("level", level, "above 0, below 1", lambda v: 0 < v < 1)


def percentiles(
    replicates: Float[np.ndarray, "n_boot *shape"], level: float
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """The two ends of the percentile interval: quantiles (1 - level) / 2 and (1 + level) / 2.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife".
    """
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


def bootstrapped(
    statistic: Callable[..., np.ndarray],
    columns: tuple[Shaped[np.ndarray, " n"], ...],
    key: PRNGKeyArray,
    n_boot: int,
    level: float,
) -> Interval:
    """A statistic of paired columns with its percentile interval, rows drawn with replacement.

    Args:
        statistic: of the columns, or of resamples stacked as [resamples, n] with `axis=-1`.
        columns: all of one length; with fewer than two rows there is no interval.
        key: of the `n_boot` resamples.
        n_boot: their number.
        level: share of them within the interval.
    """
    n = len(columns[0])
    value = float(statistic(*columns, axis=-1)) if n else np.nan
    if n < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    rng = generator(key)
    # Resamples of many latents would fill the memory if they were drawn all at once.
    at_once = max(1, 2**20 // n)
    replicates = []
    for start in range(0, n_boot, at_once):
        rows = rng.integers(n, size=(min(at_once, n_boot - start), n))
        replicates.append(statistic(*(column[rows] for column in columns), axis=-1))
    # A resample of a small sample may be flat and have no correlation.
    replicates = np.concatenate(replicates)
    low, high = percentiles(replicates[~np.isnan(replicates)], level)
    return Interval(value, float(low), float(high))


def wilson(
    k: Int[np.ndarray, "*cells"], n: int, level: float
) -> tuple[Float[np.ndarray, "*cells"], Float[np.ndarray, "*cells"]]:
    """The two ends of the Wilson interval of k out of n, NaN where n is 0.

    With p = k / n and z the normal quantile of (1 + level) / 2 they are

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if n == 0:
        return np.full(k.shape, np.nan), np.full(k.shape, np.nan)
    from scipy.stats import binomtest  # half a second to import

    ends = [binomtest(int(i), n).proportion_ci(level, "wilson") for i in k.ravel()]
    low, high = np.array([(end.low, end.high) for end in ends]).reshape(-1, 2).T
    return low.reshape(k.shape), high.reshape(k.shape)


def share(k: int, n: int, level: float) -> Interval:
    """k out of n with its Wilson interval, all NaN where n is 0."""
    low, high = wilson(np.array(k), n, level)
    return Interval(k / n if n else np.nan, float(low), float(high))


def half_interval(x: Float[np.ndarray, " n"]) -> float:
    """Half the 95 % interval of a mean: `t(0.975, n - 1) sd / sqrt(n)` with Student's t.

    The standard deviation has the divisor n - 1; NaN for fewer than two values.
    """
    n = len(x)
    if n < 2:
        return np.nan
    from scipy.stats import t as student_t  # half a second to import

    return float(student_t.ppf((1 + LEVEL) / 2, n - 1) * x.std(ddof=1) / np.sqrt(n))


def mean_and_spread(values: np.ndarray) -> tuple[Any, Any]:
    """Mean and standard deviation (divisor n - 1) over the first axis, that of the seeds.

    NaNs are left out; the standard deviation of fewer than two values is NaN.
    """
    values = np.asarray(values, float)
    n = np.isfinite(values).sum(0)
    filled = np.where(np.isfinite(values), values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(n > 0, filled.sum(0) / n, np.nan)
        squares = np.where(np.isfinite(values), (values - mean) ** 2, 0.0).sum(0)
        spread = np.where(n > 1, np.sqrt(squares / (n - 1)), np.nan)
    return (float(mean), float(spread)) if mean.ndim == 0 else (mean, spread)
