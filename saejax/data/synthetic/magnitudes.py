"""How strongly features fire: a rectified normal of each feature's own mean and spread."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, PRNGKeyArray

from saejax.core.checks import ABOVE_0, FROM_0, check_number_fields


@dataclass(frozen=True)
class Magnitudes:
    """Means that go linearly from the first feature to the last, spreads drawn for each feature.

    Args:
        first: mean strength of feature 0.
        last: mean strength of the last feature.
        spread_mean: location of the folded normal that the features' standard deviations come from.
        spread_std: its scale.

    Source: SynthSAEBench (arXiv 2602.14687), whose values are the defaults.
    """

    first: float = 5.0
    last: float = 4.0
    spread_mean: float = 0.5
    spread_std: float = 0.5

    def __post_init__(self) -> None:
        means = [(name, *ABOVE_0) for name in ("first", "last")]
        check_number_fields(self, means + [(n, *FROM_0) for n in ("spread_mean", "spread_std")])


def means(m: Magnitudes, n_features: int) -> Float[Array, " n_features"]:
    """Mean strengths before rectification, evenly spaced from `first` to `last`."""
    return jnp.linspace(m.first, m.last, n_features)


def spreads(m: Magnitudes, n_features: int, key: PRNGKeyArray) -> Float[Array, " n_features"]:
    """Standard deviations `|spread_mean + spread_std e|` with e ~ N(0, 1), one a feature."""
    return jnp.abs(m.spread_mean + m.spread_std * jax.random.normal(key, (n_features,)))


def strengths(
    m: Magnitudes, spread: Float[Array, " n_features"], u: Float[Array, "batch n_features"]
) -> Float[Array, "batch n_features"]:
    """Strengths `relu(mean_i + spread_i Phi^-1(u))`: a rectified normal, for u uniform in [0, 1].

    A strength of 0, rare unless the spread is large, is a feature that does not fire. u of 0 and 1
    would be infinite strengths and are moved in by 2^-24.
    """
    z = ndtri(jnp.clip(u, 2.0**-24, 1 - 2.0**-24))
    return jax.nn.relu(means(m, spread.shape[0]) + spread * z)
