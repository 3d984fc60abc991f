"""How well the firing of latents detects features: pure functions of one SAE, callers map.

A latent's feature is the true one that its decoder row is closest to. Its firing is then a yes or
no about that feature, and counts over samples say how often it is right.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Counts(NamedTuple):
    """In how many samples a latent fires, its feature is active, and both. Exact up to 2^24."""

    both: Float[Array, " d_sae"]
    fires: Float[Array, " d_sae"]
    active: Float[Array, " d_sae"]


def counts(
    h: Float[Array, "batch d_sae"],
    codes: Float[Array, "batch n_features"] | Bool[Array, "batch n_features"],
    feature_of: Int[Array, " d_sae"],
) -> Counts:
    """Counts over a batch; those of several batches add up, `jax.tree.map(jnp.add, ...)`.

    `codes` are the true activations of the same samples, or which are active: above 0, as in h.
    `feature_of` is that of `saejax.metrics.measures.Recovered`.
    """
    # In float32 and not as booleans: half the time on a CPU.
    fires, active = (jnp.where(a > 0, 1.0, 0.0) for a in (h, codes))
    both = (fires * active[:, feature_of]).sum(0)
    return Counts(both, fires.sum(0), active.sum(0)[feature_of])


def scores(c: Counts) -> dict[str, Float[Array, ""]]:
    """Precision, recall and F1 of the latents, each a mean over all d_sae.

        precision = both / fires     recall = both / active     f1 = 2 both / (fires + active)

    f1 of a latent is the harmonic mean of its other two. A quotient of 0 by 0 counts as 0 and none
    is NaN: a dead latent has precision, recall and f1 0 and pulls the means down, and so does one
    whose feature never occurred.

    Source: SynthSAEBench (Chanin and Garriga-Alonso, 2026, arXiv 2602.14687).
    """
    parts = {
        "precision": (c.both, c.fires),
        "recall": (c.both, c.active),
        "f1": (2 * c.both, c.fires + c.active),
    }
    # both is 0 wherever a denominator is.
    return {name: (a / jnp.maximum(b, 1.0)).mean() for name, (a, b) in parts.items()}


def uniqueness(feature_of: Int[Array, " d_sae"], n_features: int) -> Float[Array, ""]:
    """Number of different features that are some latent's best, divided by d_sae.

    1 where no two latents share a feature. Dead latents count like all others. `feature_of` is that
    of `saejax.metrics.measures.Recovered`.

    Source: as `scores`.
    """
    taken = jnp.zeros(n_features).at[feature_of].set(1.0)
    return taken.sum() / feature_of.shape[0]
