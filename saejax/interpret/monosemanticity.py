"""How many latents have one theme: which are judged, the rate, and how far two labellers agree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from scipy import stats

from saejax.core.stats import LEVEL, Interval, as_sample, half_interval, share
from saejax.interpret.evidence import Label


def selectivity(
    mean: Float[np.ndarray, " d_sae"], firings: Int[np.ndarray, " d_sae"]
) -> Float64[np.ndarray, " d_sae"]:
    """Selectivity of every latent: high where it is strong when it fires, and seldom fires.

        selectivity = mean / ln(firings + 1)

    with the mean activation over the tokens at which a latent is above 0 and their number; NaN for
    a latent that never fires.

    Source: "Sparse Autoencoders for Monosemanticity", section Feature Analysis.
    """
    logs = np.log1p(firings.astype(np.float64))
    return np.where(firings > 0, mean / np.where(firings > 0, logs, 1.0), np.nan)


class Chosen(NamedTuple):
    """Latents to be labelled: highest selectivity, highest first, and lowest, lowest first."""

    top: Int64[np.ndarray, " n_top"]
    bottom: Int64[np.ndarray, " n_bottom"]

    @property
    def latents(self) -> Int64[np.ndarray, " n"]:
        """All of them, from the highest selectivity to the lowest."""
        return np.concatenate([self.top, self.bottom[::-1]])


def chosen(
    selectivity: Float[np.ndarray, " d_sae"],
    firings: Int[np.ndarray, " d_sae"],
    n: int = 25,
    least: int = 10,
) -> Chosen:
    """The latents of highest and lowest selectivity among those that fire often enough to judge.

    Where fewer than 2 n do, all of them are chosen, the upper half as top; no latent is chosen
    twice. Equal selectivities are ordered by the number of the latent.

    Args:
        selectivity: of every latent; NaN only where it fires too seldom.
        firings: tokens at which it is above 0.
        n: latents at either end.
        least: firings from which on a latent is judged.

    Raises:
        ValueError: for a selectivity that is not finite where there are enough firings.

    Source: "Sparse Autoencoders for Monosemanticity", section Feature Analysis.
    """
    eligible = np.flatnonzero(firings >= least)
    values = selectivity[eligible]
    if not np.isfinite(values).all():
        latent = int(eligible[~np.isfinite(values)][0])
        raise ValueError(
            f"selectivity: got {selectivity[latent]} at {latent}, which fires {firings[latent]} "
            "times, allowed: a finite number"
        )
    ranked = eligible[np.argsort(-values, kind="stable")].astype(np.int64)
    n_top = min(n, (len(ranked) + 1) // 2)
    n_bottom = min(n, len(ranked) - n_top)
    return Chosen(ranked[:n_top], ranked[len(ranked) - n_bottom :][::-1])


def rate(labels: Sequence[Label]) -> Interval:
    """Monosemanticity rate of one SAE: the share of its labels that are not polysemantic.

    All NaN without labels. The Wilson interval takes the latents as independent draws; what another
    labeller or training run would say is not in it: see `agreement` and `over_seeds`.

    Source: "Sparse Autoencoders for Monosemanticity", section Monosemanticity Rate; Wilson (1927).
    """
    return share(sum(not label.polysemantic for label in labels), len(labels), LEVEL)


def over_seeds(rates: Float[np.ndarray, " n"]) -> Interval:
    """Mean rate of training runs that differ in their seed alone, with its 95 % t interval.

        mean -+ t sd / sqrt(n),    t the quantile 0.975 with n - 1 degrees of freedom

    and sd the standard deviation with n - 1 in its denominator. An end may lie outside of 0 to 1:
    few seeds say little, and a cut interval would hide it. One run has NaN for ends.

    Raises:
        ValueError: for no rates, and one that is not from 0 to 1.

    Source: Student (1908), "The probable error of a mean".
    """
    x = as_sample("rates", rates, 0.0, 1.0)
    value, half = float(x.mean()), half_interval(x)
    return Interval(value, value - half, value + half)


class Agreement(NamedTuple):
    """How far two labellers agree on which latents are polysemantic; intervals are of 95 %.

    Attributes:
        n: latents that both judged.
        first, second: monosemanticity rate by either labeller.
        same: share of latents on which both say the same, with its Wilson interval.
        kappa: Cohen's kappa, agreement beyond chance, with the interval of its large-sample
            standard error, which has no width where the labellers agree on all latents. NaN where
            both say the same of every latent, which leaves chance nothing to explain.
    """

    n: int
    first: Interval
    second: Interval
    same: Interval
    kappa: Interval

    @property
    def span(self) -> tuple[float, float]:
        """The lower and the higher rate: what the choice of the labeller alone changes."""
        return min(self.first.value, self.second.value), max(self.first.value, self.second.value)


def agreement(first: Sequence[Label], second: Sequence[Label]) -> Agreement:
    """Agreement of two labellers on polysemantic or not, latent by latent.

    With p_ij the share of latents that the first puts in class i and the second in class j,

        kappa = (p_o - p_e) / (1 - p_e),   p_o = sum_i p_ii,   p_e = sum_i p_i. p_.i

    and the interval kappa -+ z se with z the normal quantile 0.975. Both have labelled the same
    latents in the same order.

    Raises:
        ValueError: for no labels, or different numbers of them.

    Source: Cohen (1960), "A coefficient of agreement for nominal scales"; the standard error of
        Fleiss, Cohen and Everitt (1969), "Large sample standard errors of kappa and weighted
        kappa".
    """
    if not first or len(first) != len(second):
        raise ValueError(
            f"second: got {len(second)} labels, allowed: as many as first, which has {len(first)}, "
            "and 1 or more"
        )
    n, p = len(first), np.zeros((2, 2))
    pairs = [(a.polysemantic, b.polysemantic) for a, b in zip(first, second, strict=True)]
    for a, b in pairs:
        p[int(a), int(b)] += 1 / n
    same = share(sum(a == b for a, b in pairs), n, LEVEL)
    return Agreement(n, rate(first), rate(second), same, _kappa(p, n))


def _kappa(p: Float[np.ndarray, "2 2"], n: int) -> Interval:
    rows, columns = p.sum(1), p.sum(0)
    observed, chance = float(np.trace(p)), float(rows @ columns)
    # Rounding leaves a little of 1 - chance where both put every latent in the same class.
    if 1 - chance < 1e-12:
        return Interval(np.nan, np.nan, np.nan)
    kappa = (observed - chance) / (1 - chance)
    # p_ij is counted with the share of the second's class i and of the first's class j.
    marginals = columns[:, None] + rows[None, :]
    diagonal = np.diag(p) @ (1 - np.diag(marginals) * (1 - kappa)) ** 2
    others = (1 - kappa) ** 2 * (p * marginals**2 * (1 - np.eye(2))).sum()
    variance = diagonal + others - (kappa - chance * (1 - kappa)) ** 2
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(max(variance, 0.0) / n) / (1 - chance)
    return Interval(kappa, float(kappa - half), float(kappa + half))
