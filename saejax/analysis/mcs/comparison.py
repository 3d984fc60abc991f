"""The text's comparison: do learned MCS below a cutoff look like those of random dictionaries?"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float64, PRNGKeyArray

from saejax.analysis.mcs.dictionaries import random_mcs
from saejax.analysis.mcs.distance import EMD, emd, emd_intervals
from saejax.analysis.mcs.law import MaxCosine
from saejax.core import stats
from saejax.core.checks import check_number, check_whole
from saejax.core.stats import LEVEL, N_BOOT, Interval


class RandomComparison(NamedTuple):
    """Distances between learned and random MCS below a cutoff.

    Attributes:
        labels: of the samples: "learned", "rand 1" and so on, "alt params".
        samples: MCS below the cutoff, in that order.
        emd: distances between them, with intervals.
        learned_random: mean distance of the learned sample from the random ones.
        random_random: mean distance between two random samples; NaN where there is one only.
        random_alt: mean distance of the random samples from the one with other parameters.
        learned_alt: distance of the learned sample from that one.
        ratio: learned_random / random_random.
        expected_if_random: mean of learned_random for samples from the analytic law with as many
            values below the cutoff as the learned one.
        p_value: share of those at least as far from the random samples as the learned one is.
    """

    labels: tuple[str, ...]
    samples: tuple[Float64[np.ndarray, " _"], ...]
    emd: EMD
    learned_random: Interval
    random_random: Interval
    random_alt: Interval
    learned_alt: Interval
    ratio: Interval
    expected_if_random: float
    p_value: float


def compare_with_random(
    learned: Float[np.ndarray, " n"],
    M: int,
    K: int,
    key: PRNGKeyArray,
    cutoff: float = 0.5,
    n_random: int = 4,
    n_boot: int = N_BOOT,
    n_null: int = 199,
    level: float = LEVEL,
) -> RandomComparison:
    """The text's figures 6 to 8 for one size, and what they say in numbers.

    Beside the learned MCS stand `n_random` sets of n random vectors against M random vectors in K
    dimensions, and one set, "alt params", against 2 M. All are cut below the cutoff, and then
    compared by their earth mover's distances (`saejax.analysis.mcs.emd_intervals`, whose docstring
    says how far to trust intervals of small distances).

    The cutoff takes the high MCS of the learned set and next to nothing of the random ones. The
    smaller sample is the noisier one, and its distances come out larger even if its law is that of
    the others, for which the text does not account. `expected_if_random` does: samples of its size
    after the cut are drawn from `MaxCosine(M, K, cutoff)`, and

        p_value = (1 + number of them whose mean distance from the random sets is at least as large)
                  / (1 + n_null).

    A small p-value says that the low MCS are not just those of random vectors; for how large the
    difference is, compare learned_random with random_alt. Random dictionaries in place of learned
    ones (M 8192, K 128) had p-values spread from 0.02 to 0.99 with median 0.47, for n 1024 and 4096
    alike.

    Args (others as in `saejax.analysis.mcs`):
        learned: MCS of all n latents of the smaller dictionary, before the cutoff.
        M: size of the larger dictionary.
        K: d_in of both.
        cutoff: MCS below it are kept; at least one learned and one random MCS must be.
        n_random: number of random sets; the text has 4.
        n_null: number of null samples.

    Source: "[Research Update] Sparse Autoencoder features are bimodal", figures 4 to 8.
    """
    learned = stats.as_sample("learned", learned, -1.0, 1.0)
    check_whole("K", K, "2 or more", lambda v: v >= 2)
    for name, size in (("M", M), ("n_random", n_random), ("n_null", n_null)):
        check_whole(name, size, "1 or more", lambda v: v >= 1)
    check_number("cutoff", cutoff, "above -1, up to 1", lambda v: -1 < v <= 1)
    stats.check_bootstrap(n_boot, level)
    low = learned[learned < cutoff]
    if not len(low):
        raise ValueError(
            f"learned: got none of {len(learned)} below the cutoff {cutoff}, allowed: one or more"
        )
    of_random, of_alt, of_boot, of_null = jax.random.split(key, 4)
    drawn = [random_mcs(k, len(learned), M, K) for k in jax.random.split(of_random, n_random)]
    drawn.append(random_mcs(of_alt, len(learned), 2 * M, K))
    samples = [low, *(x[x < cutoff] for x in (each.astype(np.float64) for each in drawn))]
    for x in samples:
        if not len(x):
            raise ValueError(
                f"cutoff: got {cutoff}, allowed: above the least MCS of {len(learned)} random "
                f"vectors against up to {2 * M} in {K} dimensions"
            )
    distances = emd_intervals(samples, of_boot, n_boot, level)
    numbers = _summary(distances.distance)
    low_ends, high_ends = stats.percentiles(_summary(distances.replicates), level)
    ends = zip(numbers, low_ends, high_ends, strict=True)
    intervals = [Interval(float(value), float(a), float(b)) for value, a, b in ends]
    null = _null(MaxCosine(M, K, cutoff), len(low), samples[1:-1], n_null, of_null)
    return RandomComparison(
        ("learned", *(f"rand {i + 1}" for i in range(n_random)), "alt params"),
        tuple(samples),
        distances,
        *intervals,
        expected_if_random=float(null.mean()),
        p_value=float((1 + np.sum(null >= numbers[0])) / (1 + n_null)),
    )


def _summary(distance: np.ndarray) -> np.ndarray:
    """The five numbers of `RandomComparison`, from distances [..., samples, samples]."""
    random = slice(1, -1)
    n = distance.shape[-1] - 2
    learned_random = distance[..., 0, random].mean(-1)
    # The diagonal is 0; of one random set there is no pair, 0 / 0.
    with np.errstate(invalid="ignore"):
        random_random = distance[..., random, random].sum((-1, -2)) / np.float64(n * (n - 1))
        ratio = learned_random / random_random
    random_alt, learned_alt = distance[..., random, -1].mean(-1), distance[..., 0, -1]
    return np.stack([learned_random, random_random, random_alt, learned_alt, ratio], axis=-1)


def _null(
    law: MaxCosine, n: int, random: list[np.ndarray], n_null: int, key: PRNGKeyArray
) -> np.ndarray:
    """Mean distances from the random samples, of samples of size n from the law."""
    rng = stats.generator(key)
    draws = (law.ppf(rng.random(n)) for _ in range(n_null))
    return np.array([emd([draw, *random])[0, 1:].mean() for draw in draws])
