"""The ReLU's encoder, decoder and objective, with the gradient of the objective written out."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.core.precision import Precision, matmul
from saejax.sae.params import STANDARD, Inputs, Latents, Params, PerLatent, SAEConfig, Scalar

# Chooses among activations: (h [batch, d_sae], k) -> h with some of them 0.
Keep = Callable[[Array, Any], Array]


def preactivation(
    params: Params, x: Inputs, config: SAEConfig = STANDARD, precision: Precision = "highest"
) -> Latents:
    """`(x - b_dec) @ W_enc + b_enc`, what every encoder starts from.

    b_dec is folded into the bias, `x @ W_enc + (b_enc - b_dec @ W_enc)`: cells that share a batch
    then share the left operand as well. `config` says whether the encoder sees `x - b_dec`; the
    default is right for every dictionary that a `Result` hands out.
    """
    bias = params.b_enc
    if params.b_dec is not None and config.apply_b_dec_to_input:
        bias = bias - matmul(params.b_dec[None], params.W_enc, precision)[0]
    return matmul(x, params.W_enc, precision) + bias


def encode(
    params: Params, x: Inputs, config: SAEConfig = STANDARD, precision: Precision = "highest"
) -> Latents:
    """Activations `h = relu((x - b_dec) @ W_enc + b_enc)` of one SAE, see `preactivation`."""
    return jax.nn.relu(preactivation(params, x, config, precision))


def decode(params: Params, h: Latents, precision: Precision = "highest") -> Inputs:
    """Reconstructions `x_hat = h @ W_dec + b_dec`."""
    x_hat = matmul(h, params.W_dec, precision)
    return x_hat if params.b_dec is None else x_hat + params.b_dec


def objective(
    params: Params,
    x: Inputs,
    l1: Scalar | float,
    config: SAEConfig,
    precision: Precision = "highest",
) -> Scalar:
    """Training objective `mse + l1 * sparsity` (`saejax.sae.params`) of one SAE on one batch."""
    mse, sparsity = mse_and_sparsity(config, precision, params, x)
    return mse + l1 * sparsity


def sparsity_scale(config: SAEConfig, d_sae: int) -> float:
    """What `l1_reduction` multiplies a sample's sum of activations by: 1 / d_sae or 1."""
    return 1.0 / d_sae if config.l1_reduction == "mean" else 1.0


class Terms(NamedTuple):
    """What the loss of a batch is made of; no gradient goes through the last two."""

    mse: Scalar  # mean over batch and d_in of (x_hat - x)^2
    sparsity: Scalar  # batch mean of the sum of activations, reduced as `l1_reduction` says
    highest: PerLatent  # each latent's largest activation
    least: Scalar  # the smallest activation above 0, infinite where there is none


def mse_and_sparsity(
    config: SAEConfig, precision: Precision, params: Params, x: Inputs
) -> tuple[Scalar, Scalar]:
    """The two terms of the objective, with their gradient written out (`kept_terms`)."""
    terms: Any = kept_terms(config, precision, None, params, x, None)  # pyright: ignore
    return terms.mse, terms.sparsity


def smallest(h: Latents) -> Scalar:
    """The smallest activation above 0 in a batch, infinite where there is none."""
    return jnp.where(h > 0, h, jnp.inf).min()


def _forward(
    config: SAEConfig, precision: Precision, keep: Keep | None, params: Params, x: Array, k: Any
) -> tuple[Terms, tuple]:
    h = encode(params, x, config, precision)
    if keep is not None:
        h = keep(h, k)
    error = decode(params, h, precision) - x
    sparsity = h.sum() * (sparsity_scale(config, h.shape[-1]) / x.shape[0])
    least = smallest(h)
    return Terms(jnp.mean(error**2), sparsity, h.max(0), least), (params, x, k, h, error)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def kept_terms(
    config: SAEConfig,
    precision: Precision,
    keep: Keep | None,
    params: Params,
    x: Inputs,
    k: Scalar | None,
) -> Terms:
    """The terms of an objective, with their gradient written out.

    Autodiff gives the same numbers; the written form needs five matrix products and no
    rematerialised masks, which is what makes a mapped step reach most of the machine's rate.

    `keep` reads k, sets some activations of a ReLU to 0 and leaves the others as they are; None
    keeps all. No gradient goes through the choice.
    """
    return _forward(config, precision, keep, params, x, k)[0]


def _gram(
    a: Float[Array, "batch n"], b: Float[Array, "batch m"], precision: Precision
) -> Float[Array, "n m"]:
    """`a.T @ b` with `a.T` written out to memory first.

    A CPU product that reads an operand transposed runs at half to three quarters of the plain
    rate, and the compiler folds every transposition it sees into the product. The barriers keep
    this one, of the narrow operand, apart (experiments/docs/pages/notes/speed.md).
    """
    barrier = jax.lax.optimization_barrier
    return barrier(matmul(barrier(barrier(a).T), b, precision))


def _backward(
    config: SAEConfig, precision: Precision, keep: Keep | None, residuals: tuple, cotangents: Terms
) -> tuple[Params, Inputs, Any]:
    params, x, k, h, error = residuals
    d_mse, d_sparsity, *_ = cotangents
    batch, d_in = x.shape
    # d_x_hat = scale * error. Scaled before the products, the compiler would multiply inside the
    # transposition in `_gram`, which then takes up to eight times as long.
    scale = 2.0 * d_mse / (batch * d_in)
    d_h = scale * matmul(error, params.W_dec.T, precision)
    d_h = d_h + d_sparsity * (sparsity_scale(config, h.shape[-1]) / batch)
    d_pre = jnp.where(h > 0, d_h, 0.0)
    d_W_enc = _gram(x, d_pre, precision)
    d_b_enc = d_pre.sum(0)
    d_b_dec = None
    if params.b_dec is not None:
        d_b_dec = scale * error.sum(0)
        if config.apply_b_dec_to_input:
            d_W_enc = d_W_enc - jnp.outer(params.b_dec, d_b_enc)
            d_b_dec = d_b_dec - matmul(params.W_enc, d_b_enc[:, None], precision)[:, 0]
    d_W_dec = scale * _gram(error, h, precision).T
    zeros = jax.tree.map(jnp.zeros_like, params)
    grads = zeros._replace(W_enc=d_W_enc, b_enc=d_b_enc, W_dec=d_W_dec, b_dec=d_b_dec)
    # The cotangent of x is a sixth product; the compiler drops it where nobody asks for it.
    d_k = None if k is None else jnp.zeros_like(k)
    return grads, matmul(d_pre, params.W_enc.T, precision) - scale * error, d_k


kept_terms.defvjp(_forward, _backward)
