"""How often features fire: a Zipf law between a highest and a lowest probability."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.core.checks import ABOVE_0, UP_TO_1, check_number_fields


@dataclass(frozen=True)
class Zipf:
    """Firing probabilities that fall as a power of the rank, fixed at both ends.

    Args:
        exponent: of the power law, above 0.
        p_max: probability of feature 0, the most frequent.
        p_min: probability of the last feature.

    Source: "SynthSAEBench: Evaluating Sparse Autoencoders on Scalable Realistic Synthetic Data"
    (Chanin and Garriga-Alonso, 2026, arXiv 2602.14687), whose values are the defaults.
    """

    exponent: float = 0.5
    p_max: float = 0.4
    p_min: float = 5e-4

    def __post_init__(self) -> None:
        rules = (("exponent", *ABOVE_0), ("p_max", *UP_TO_1), ("p_min", *UP_TO_1))
        check_number_fields(self, rules)
        if self.p_min > self.p_max:
            raise ValueError(f"p_min: got {self.p_min}, allowed: up to p_max={self.p_max}")


def zipf_probabilities(law: Zipf, n_features: int) -> Float[Array, " n_features"]:
    """Probabilities `p_i = p_min + (p_max - p_min) (w_i - w_last) / (w_0 - w_last)`, highest first.

    The weights are `w_i = (i + 1)^-exponent`. They are moved as well as scaled, so that both ends
    are met: the ratios of two probabilities are not those of the pure power law. A lone feature has
    p_max.
    """
    if n_features == 1:
        return jnp.full(1, law.p_max)
    weights = jnp.arange(1, n_features + 1, dtype=jnp.float32) ** -law.exponent
    last = n_features**-law.exponent
    return law.p_min + (law.p_max - law.p_min) * (weights - last) / (1 - last)
