"""What is measured about an SAE: pure functions of arrays, one cell each; callers map over cells.

Products here are always float32, whatever the training used.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saejax.devices import over
from saejax.precision import matmul
from saejax.sae import Params, SAEConfig, decode, encode, sparsity_scale, unit_rows

# Every scalar that an evaluation reports, and whether a larger value is better.
LARGER_IS_BETTER: dict[str, bool] = {
    "mmcs_true_to_dict": True,
    "mmcs_dict_to_true": True,
    "mse": False,
    "l1_loss": False,
    "l0": False,
    "fvu": False,
    "dead_latents": False,
    "mmcs_to_next_larger": True,
    "represented": True,
    "learned": True,
    "unlearned": False,
}


def cosines(G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]) -> Float[Array, "n_g n_d"]:
    """Cosine of every row of G with every row of D; a zero row has cosine 0 with everything."""
    return matmul(unit_rows(G), unit_rows(D).T)


def best_match(
    G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]
) -> tuple[Int[Array, " n_g"], Float[Array, " n_g"]]:
    """For each row of G, the index of its closest row of D and their cosine.

    The cosine vector is the MCS (maximum cosine similarity) of G against D.
    """
    cos = cosines(G, D)
    return jnp.argmax(cos, axis=-1).astype(jnp.int32), cos.max(-1)


def mmcs(G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]) -> Float[Array, ""]:
    """Mean maximum cosine similarity, `mean over g in G of max over d in D of cos(g, d)`.

    Not symmetric: with G the true features it asks how many were found, with G the dictionary how
    many latents are true features. Rows of G are taken in blocks, so that two wide dictionaries
    never need their full cosine matrix at once.

    Source: Sharkey, Braun and Millidge (2022).
    """
    D = unit_rows(D)
    return jax.lax.map(lambda g: matmul(D, g[:, None]).max(), unit_rows(G), batch_size=1024).mean()


def reconstruction(
    params: Params,
    batches: Float[Array, "n_batches batch d_in"],
    l1: Float[Array, ""] | float,
    config: SAEConfig,
    dead_threshold: float = 0.0,
    axis: str | None = None,
) -> dict[str, Float[Array, ""]]:
    """How well and how sparsely an SAE reconstructs the evaluation batches.

    mse      mean over samples and d_in of (x_hat - x)^2
    l1_loss  l1 * sparsity, so that mse + l1_loss is the training objective
    l0       mean number of active latents (h > 0) of a sample
    fvu      sum (x_hat - x)^2 / sum (x - mean x)^2, fraction of variance unexplained; not finite
             for data that are constant
    dead_latents  number of latents whose activation never exceeds `dead_threshold`

    Args:
        params: one SAE.
        batches: evaluation samples; batches only bound the memory, results are over all of them.
        l1: the cell's coefficient.
        config: says how the sparsity is reduced.
        dead_threshold: in units of activation.
        axis: of the devices over which the samples are divided, None where one has them all.
    """
    d_in, d_sae = params.W_enc.shape
    n_samples = over(axis, jax.lax.psum, batches.shape[0] * batches.shape[1])

    def add(total: tuple, x: Float[Array, "batch d_in"]) -> tuple[tuple, None]:
        squared_error, h_sum, active, highest = total
        h = encode(params, x, config)
        squared_error += jnp.sum((decode(params, h) - x) ** 2)
        h_sum += h.sum()
        active += jnp.sum(h > 0, dtype=jnp.float32)
        return (squared_error, h_sum, active, jnp.maximum(highest, h.max(0))), None

    zero = jnp.zeros(())
    total = (zero, zero, zero, jnp.zeros(d_sae))
    (squared_error, h_sum, active, highest), _ = jax.lax.scan(add, total, batches)
    mean = over(axis, jax.lax.pmean, batches.mean((0, 1)))
    sums = squared_error, h_sum, active, jnp.sum((batches - mean) ** 2)
    squared_error, h_sum, active, variance = over(axis, jax.lax.psum, sums)
    highest = over(axis, jax.lax.pmax, highest)
    sparsity = h_sum / n_samples * sparsity_scale(config, d_sae)
    return {
        "mse": squared_error / (n_samples * d_in),
        "l1_loss": l1 * sparsity,
        "l0": active / n_samples,
        "fvu": squared_error / variance,
        "dead_latents": jnp.sum(highest <= dead_threshold, dtype=jnp.float32),
    }


def alive(
    params: Params,
    batches: Float[Array, "n_batches batch d_in"],
    config: SAEConfig,
    dead_threshold: float = 0.0,
    axis: str | None = None,
) -> Bool[Array, " d_sae"]:
    """Which latents exceed `dead_threshold` on the evaluation batches: those that are not dead.

    Arguments as in `reconstruction`, whose `dead_latents` counts the others.
    """

    def add(highest: Float[Array, " d_sae"], x: Float[Array, "batch d_in"]) -> tuple[Any, None]:
        return jnp.maximum(highest, encode(params, x, config).max(0)), None

    highest, _ = jax.lax.scan(add, jnp.zeros(params.b_enc.shape), batches)
    return over(axis, jax.lax.pmax, highest) > dead_threshold


def recovery(
    params: Params, F: Float[Array, "n_features d_in"]
) -> tuple[dict[str, Float[Array, ""]], Int[Array, " n_features"], Float[Array, " n_features"]]:
    """How well a dictionary recovers the true features.

    Returns:
        `mmcs_true_to_dict` and `mmcs_dict_to_true`, then for each true feature the index of its
        best latent and their cosine (its representedness).
    """
    cos = cosines(F, params.W_dec)
    best = cos.max(-1)
    scalars = {"mmcs_true_to_dict": best.mean(), "mmcs_dict_to_true": cos.max(0).mean()}
    return scalars, jnp.argmax(cos, axis=-1).astype(jnp.int32), best
