"""Are low-MCS latents dead, noise, or real? The text leaves that open."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from saejax.analysis.mcs.shares import places, spearman
from saejax.core import stats
from saejax.core.checks import check_number
from saejax.core.stats import LEVEL, N_BOOT, Interval
from saejax.core.table import Table

# What a latent can be; the first three are the text's explanations of a low MCS.
CLASSES = ("dead", "noise", "real", "idle")


class Group(NamedTuple):
    """The latents on one side of the cutoff.

    Attributes:
        n: their number.
        dead: share of them that are dead, with its Wilson interval.
        frequency: median firing frequency of the live ones, with its bootstrap interval.
        effect: median effect of the live ones whose effect was measured.
        n_measured: number of those, dead or live, whose effect was measured.
        counts: how many of the measured ones fall into each class.
        shares: the same as shares of the measured ones, with Wilson intervals.
    """

    n: int
    dead: Interval
    frequency: Interval
    effect: Interval
    n_measured: int
    counts: dict[str, int]
    shares: dict[str, Interval]


class Explanation(NamedTuple):
    """Low-MCS and high-MCS latents side by side.

    Attributes:
        low: latents with MCS below the cutoff.
        high: the others.
        correlations: Spearman's rank correlation of MCS with `frequency`, `dead` (1 for dead) and
            `effect`, of all latents, and with the first and last again of the live ones.
        supported: the class that holds most low-MCS latents, if the interval of its share lies
            above 1/2; None where there is no such class.
    """

    low: Group
    high: Group
    correlations: dict[str, Interval]
    supported: str | None

    def table(self) -> Table:
        """A row for each number: its name, then value and interval for low and high MCS."""
        measures = {
            "latents": lambda g: Interval(float(g.n), np.nan, np.nan),
            "share dead": lambda g: g.dead,
            "median frequency of the live": lambda g: g.frequency,
            "median effect of the live": lambda g: g.effect,
            "measured latents": lambda g: Interval(float(g.n_measured), np.nan, np.nan),
            **{
                f"share {name} of the measured": lambda g, name=name: g.shares[name]
                for name in CLASSES
            },
        }
        rows: list[dict[str, Any]] = []
        for measure, of in measures.items():
            row: dict[str, Any] = {"measure": measure}
            for side, group in (("low_mcs", self.low), ("high_mcs", self.high)):
                value, low, high = of(group)
                row |= {side: value, f"{side}_from": low, f"{side}_to": high}
            rows.append(row)
        return Table(rows)


def explain(
    mcs: Float[np.ndarray, " d_sae"],
    frequency: Float[np.ndarray, " d_sae"],
    dead: Bool[np.ndarray, " d_sae"],
    effect: Float[np.ndarray, " d_sae"],
    key: PRNGKeyArray,
    rare_below: float,
    effect_from: float,
    cutoff: float = 0.5,
    n_boot: int = N_BOOT,
    level: float = LEVEL,
) -> Explanation:
    """Crosses MCS with firing frequency, dead latents and the effect of ablating a latent.

    A latent is

    - dead where `dead` says so, whatever else is known of it,
    - real if it is live and its effect is `effect_from` or more: "semantically meaningful, but
      simply not found by the larger dictionary", where its MCS is low,
    - noise if it is live, its effect is smaller, and it fires on less than `rare_below` of samples,
    - idle if it is live, its effect is smaller, and it fires on more: none of the text's
      explanations.

    The effect is what ablating the latent does to the model's loss, such as its rise. It counts
    with its sign: a latent whose ablation lowers the loss is not real.

    Ablating every latent is costly, so `effect` may be NaN where it was not measured. Classes are
    then shares of the measured latents, dead ones among them, so these should be a random choice of
    all latents of the dictionary. Medians, correlations and shares of no latent are NaN.

    Args (others as in `saejax.analysis.mcs`):
        mcs: of every latent against a larger dictionary.
        frequency: share of evaluation samples on which it fires, from 0 to 1.
        dead: whether it is dead.
        effect: in any unit; NaN where it was not measured.
        rare_below: a frequency.
        effect_from: in the unit of `effect`, above 0.
        cutoff: MCS below it is low.

    Source: the three explanations are those of "[Research Update] Sparse Autoencoder features are
    bimodal", section 1; the thresholds are ours.
    """
    mcs = stats.as_sample("mcs", mcs, -1.0, 1.0)
    frequency = stats.as_sample("frequency", frequency, 0.0, 1.0)
    for name, column in (("frequency", frequency), ("dead", dead), ("effect", effect)):
        if column.shape != mcs.shape:
            raise ValueError(f"{name}: got shape {column.shape}, allowed: {mcs.shape}, as mcs has")
    if dead.dtype != bool:
        raise ValueError(f"dead: got {dead.dtype}, allowed: bool")
    if np.isinf(effect).any():
        raise ValueError(f"effect: got {np.isinf(effect).sum()} infinite, allowed: finite or NaN")
    check_number("rare_below", rare_below, "above 0, up to 1", lambda v: 0 < v <= 1)
    check_number("effect_from", effect_from, "above 0", lambda v: v > 0)
    check_number("cutoff", cutoff, "from -1 to 1", lambda v: -1 <= v <= 1)
    stats.check_bootstrap(n_boot, level)

    effect = effect.astype(np.float64)
    measured, real = ~np.isnan(effect), effect >= effect_from
    small, rare = ~dead & ~real, frequency < rare_below
    classes = {"dead": dead, "noise": small & rare, "real": ~dead & real, "idle": small & ~rare}
    keys = iter(jax.random.split(key, 9))

    def group(inside: np.ndarray) -> Group:
        n, n_measured = int(inside.sum()), int((inside & measured).sum())
        live = inside & ~dead
        counts = {name: int((inside & measured & its).sum()) for name, its in classes.items()}

        def median(x: np.ndarray) -> Interval:
            return stats.bootstrapped(np.median, (x,), next(keys), n_boot, level)

        return Group(
            n,
            stats.share(int((inside & dead).sum()), n, level),
            median(frequency[live]),
            median(effect[live & measured]),
            n_measured,
            counts,
            {name: stats.share(k, n_measured, level) for name, k in counts.items()},
        )

    def ranks(y: np.ndarray, among: np.ndarray) -> Interval:
        columns = (places(mcs[among]), places(y[among]))
        return stats.bootstrapped(spearman, columns, next(keys), n_boot, level)

    low, high = group(mcs < cutoff), group(mcs >= cutoff)
    correlations = {
        "frequency": ranks(frequency, np.ones_like(dead)),
        "dead": ranks(dead.astype(np.float64), np.ones_like(dead)),
        "effect": ranks(effect, measured),
        "frequency of the live": ranks(frequency, ~dead),
        "effect of the live": ranks(effect, measured & ~dead),
    }
    supported = [name for name, interval in low.shares.items() if interval.low > 0.5]
    return Explanation(low, high, correlations, supported[0] if supported else None)
