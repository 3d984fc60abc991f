"""Ghost gradients: a gradient for latents that the ReLU gives none.

    pre    = (x - b_dec) @ W_enc + b_enc,  r = x - x_hat
    g_b    = sum over dead j of exp(pre_bj) W_dec[j]
    s_b    = |r_b| / (2 |g_b|)
    ghost  = mean over batch and d_in of (s_b g_b - r_b)^2
    loss  += (mse / ghost) ghost

Dead latents alone, with the exponential in the ReLU's place, reconstruct what the SAE leaves over,
at half its norm; the last factor makes the term as large as the reconstruction's. s_b and that
factor are constants of the gradient, as the source has it, and so is r, as in SAELens: the gradient
goes to W_enc, b_enc and W_dec of dead latents alone. (SAELens rescales every element of the error
for itself and dictionary_learning takes the roots of mse and ghost. The source asks for neither.)

Its authors saw a large improvement on models of one layer and little difference on larger ones
(Circuits Updates, February 2024).

Source: Jermyn and Templeton, "Ghost Grads: An improvement on resampling", Anthropic's Circuits
Updates, January 2024.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saejax.core.precision import Precision, matmul
from saejax.sae.params import Inputs, Latents, Mask, Params, SAEConfig, Scalar
from saejax.sae.relu import decode

# Norm of a sample's ghosts, the loudest of them scaled to 1, below which they cancel one another
# and their direction is rounding.
NO_DIRECTION = 1e-6


def ghost_gradient(
    params: Params, dead: Mask, x: Inputs, config: SAEConfig, precision: Precision = "highest"
) -> Params:
    """The gradient that the ghost term adds; 0 for live latents and for b_dec."""
    shifted = x
    if params.b_dec is not None and config.apply_b_dec_to_input:
        shifted = x - params.b_dec

    def preactivation(W_enc: Array, b_enc: Array) -> Latents:
        return matmul(shifted, W_enc, precision) + b_enc

    h = jax.nn.relu(preactivation(params.W_enc, params.b_enc))
    residual = x - decode(params, h, precision)
    residual_norm = jnp.linalg.norm(residual, axis=-1, keepdims=True)
    smallest = jnp.finfo(residual.dtype).tiny

    def term(W_enc: Array, b_enc: Array, W_dec: Array) -> Scalar:
        pre = preactivation(W_enc, b_enc)
        # What all ghosts of a sample are multiplied by cancels in s_b. With the loudest of them at
        # 1, no exponential overflows where a latent fires after all, and none vanishes far below 0.
        lowest = jnp.finfo(pre.dtype).min
        loudest = jax.lax.stop_gradient(pre).max(-1, keepdims=True, where=dead, initial=lowest)
        activations = jnp.exp(jnp.where(dead, pre - loudest, -jnp.inf))
        ghost = matmul(activations, W_dec, precision)
        norm = jnp.linalg.norm(jax.lax.stop_gradient(ghost), axis=-1, keepdims=True)
        scale = residual_norm / (2 * jnp.maximum(norm, NO_DIRECTION))
        ghost_mse = jnp.mean((ghost * scale - residual) ** 2)
        factor = jnp.mean(residual**2) / jnp.maximum(jax.lax.stop_gradient(ghost_mse), smallest)
        return factor * ghost_mse

    W_enc, b_enc, W_dec = jax.grad(term, argnums=(0, 1, 2))(*params[:3])
    return Params(
        W_enc, b_enc, W_dec, None if params.b_dec is None else jnp.zeros_like(params.b_dec)
    )
