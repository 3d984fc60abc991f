"""The objective of SAELens in the terms of this library, and its dictionaries likewise.

SAELens minimises, with free rows of W_dec,

    mean over batch of [ sum_i (x_hat_i - x_i)^2 + c sum_j h_j |W_dec_j| ]

Scaling row j of W_dec to norm 1 and latent j by its former norm changes neither x_hat nor the
penalty. What is left is d_in times `mse + l1 * sparsity` at `l1 = c d_sae / d_in` (reduction
"mean").
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.sae.params import Params


def to_saelens(l1: float, d_in: int, d_sae: int) -> float:
    """SAELens's coefficient `c = l1 d_in / d_sae` for one of reduction "mean"."""
    return l1 * d_in / d_sae


def with_unit_rows(
    W_enc: Float[Array, "d_in d_sae"],
    b_enc: Float[Array, " d_sae"],
    W_dec: Float[Array, "d_sae d_in"],
) -> Params:
    """The same function with rows of W_dec of norm 1: activations take over the norms.

    A row of zeros stays one, and its latent becomes silent.
    """
    norms = jnp.linalg.norm(W_dec, axis=1)
    rows = W_dec / jnp.where(norms > 0, norms, 1.0)[:, None]
    return Params(W_enc * norms, b_enc * norms, rows)
