"""One sparse autoencoder with a ReLU: initialise, encode, decode, objective, project.

Everything here is written for a single SAE and a batch of inputs; callers map it over cells.

    h     = relu((x - b_dec) @ W_enc + b_enc)
    x_hat = h @ W_dec + b_dec

(with `apply_b_dec_to_input` off, b_dec stays out of the first line)

    objective = mse + l1 * sparsity
    mse       = mean over batch and d_in of (x_hat - x)^2
    sparsity  = mean over batch of sum_j h_j           (l1_reduction "sum")
              = mean over batch of sum_j h_j / d_sae   (l1_reduction "mean")

Coefficients of other libraries: one that sums the squared error over d_in and the activations over
d_sae (SAELens, dictionary_learning) has the same minimum at `l1 * d_in` of reduction "sum", and at
`l1 * d_in / d_sae` of reduction "mean".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from saejax.precision import Precision, matmul

# Chooses among activations: (h [batch, d_sae], k) -> h with some of them 0.
Keep = Callable[[Array, Any], Array]
L1Reduction = Literal["mean", "sum"]
Init = Literal["orthogonal", "linear", "tied"]


@dataclass(frozen=True)
class SAEConfig:
    """What is fixed about an SAE before its sizes and swept numbers are known.

    Args:
        l1_reduction: "mean" divides the activation sum by d_sae (toy recipe), "sum" does not
            (language-model recipes).
        use_b_dec: subtract a learned bias from the input and add it back to the output.
        unit_norm: project the rows of W_dec to norm 1 after every update.
        init: recipe of the initial weights, see `init`.
        apply_b_dec_to_input: whether the encoder sees `x - b_dec` or, as a plain stack of two linear
            layers does, x itself. The two describe the same functions, but Adam finds different
            ones. Without b_dec it says nothing.

    Raises:
        ValueError: for an unknown `l1_reduction` or `init`.
    """

    l1_reduction: L1Reduction = "mean"
    use_b_dec: bool = False
    unit_norm: bool = True
    init: Init = "orthogonal"
    apply_b_dec_to_input: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("l1_reduction", get_args(L1Reduction)), ("init", get_args(Init))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, allowed: {', '.join(allowed)}")


STANDARD = SAEConfig()


class Params(NamedTuple):
    """Weights of one SAE, or of many with leading axes; None where an SAE has no such part.

    Attributes:
        W_enc: encoder; of a gated SAE that of the gate.
        b_enc: its bias, likewise.
        W_dec: decoder; its rows are the dictionary.
        b_dec: bias of the decoder, None where it is off.
        threshold: batchtopk and matryoshka: what an activation must exceed once training is over.
        log_threshold: jumprelu: logarithm of what each latent's activation must exceed.
        r_mag: gated: logarithm of each latent's magnitude weights over its gate's.
        b_mag: gated: bias of the magnitudes.
    """

    W_enc: Float[Array, "*cells d_in d_sae"]
    b_enc: Float[Array, "*cells d_sae"]
    W_dec: Float[Array, "*cells d_sae d_in"]
    b_dec: Float[Array, "*cells d_in"] | None = None
    threshold: Float[Array, "*cells"] | None = None
    log_threshold: Float[Array, "*cells d_sae"] | None = None
    r_mag: Float[Array, "*cells d_sae"] | None = None
    b_mag: Float[Array, "*cells d_sae"] | None = None


def init(
    key: PRNGKeyArray,
    d_in: int,
    d_sae: int,
    config: SAEConfig,
    center: Float[Array, " d_in"] | None = None,
) -> Params:
    """Initial weights.

        "orthogonal"  W_dec (semi-)orthogonal with rows then scaled to norm 1, b_dec 0; W_enc and b_enc
                      uniform in +-1/sqrt(d_in)
        "linear"      W_dec and b_dec uniform in +-1/sqrt(d_sae), as torch.nn.Linear starts; with
                      `unit_norm` rows then scaled to norm 1; W_enc and b_enc as above
        "tied"        rows of W_dec uniform on the unit sphere, W_enc the transpose of W_dec, b_enc 0,
                      b_dec `center`: for activations of language models, which are far from the origin

    Args:
        key: randomness; the same key and sizes give the same weights.
        d_in: input width.
        d_sae: number of latents.
        config: chooses the recipe, and whether there is a b_dec.
        center: mean of the inputs, for "tied" weights with a b_dec; None is the origin.

    Source: of "orthogonal", the replication code that part 1 and 2 of "Towards a Probabilistic
    Disentanglement of Transformer Activations" build on (github.com/HoagyC/sparse_coding).
    """
    k_enc, k_bias, k_dec = jax.random.split(key, 3)

    def uniform(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Array:
        return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)

    if config.init == "tied":
        rows = unit_rows(jax.random.normal(k_dec, (d_sae, d_in)))
        b_dec = jnp.zeros(d_in) if center is None else center
        return Params(rows.T, jnp.zeros(d_sae), rows, b_dec if config.use_b_dec else None)
    if config.init == "orthogonal":
        W_dec = unit_rows(jax.nn.initializers.orthogonal()(k_dec, (d_sae, d_in), jnp.float32))
        b_dec = jnp.zeros(d_in)
    else:
        k_rows, k_shift = jax.random.split(k_dec)
        W_dec = uniform(k_rows, (d_sae, d_in), d_sae)
        b_dec = uniform(k_shift, (d_in,), d_sae)
    params = Params(
        W_enc=uniform(k_enc, (d_in, d_sae), d_in),
        b_enc=uniform(k_bias, (d_sae,), d_in),
        W_dec=W_dec,
        b_dec=b_dec if config.use_b_dec else None,
    )
    return project(params, config)


def unit_rows(rows: Float[Array, "*batch n d"]) -> Float[Array, "*batch n d"]:
    """Rows divided by their Euclidean norm.

    A zero row stays zero instead of becoming NaN, and one below 1e-19, whose square float32 cannot
    hold, stays shorter than 1.
    """
    squares = jnp.sum(rows**2, axis=-1, keepdims=True)
    return rows / jnp.sqrt(jnp.maximum(squares, jnp.finfo(rows.dtype).tiny))


def project(params: Params, config: SAEConfig) -> Params:
    """Weights with the rows of W_dec back at norm 1, or unchanged where `unit_norm` is off."""
    return params._replace(W_dec=unit_rows(params.W_dec)) if config.unit_norm else params


def standard(params: Params, config: SAEConfig) -> Params:
    """The same SAE written for an encoder that sees `x - b_dec`, whichever it was trained with.

    With `apply_b_dec_to_input` off, `b_enc + b_dec @ W_enc` takes the place of b_enc, and b_mag of a
    gated SAE moves likewise with its own weights `W_enc exp(r_mag)`.
    """
    if params.b_dec is None or config.apply_b_dec_to_input:
        return params
    shift = jnp.einsum("...i,...ij->...j", params.b_dec, params.W_enc, precision="highest")
    b_mag = params.b_mag
    if b_mag is not None:
        assert params.r_mag is not None
        b_mag = b_mag + shift * jnp.exp(params.r_mag)
    return params._replace(b_enc=params.b_enc + shift, b_mag=b_mag)


def preactivation(
    params: Params,
    x: Float[Array, "batch d_in"],
    config: SAEConfig = STANDARD,
    precision: Precision = "highest",
) -> Float[Array, "batch d_sae"]:
    """`(x - b_dec) @ W_enc + b_enc`, what every encoder starts from.

    b_dec is folded into the bias, `x @ W_enc + (b_enc - b_dec @ W_enc)`: cells that share a batch
    then share the left operand as well.

    Args:
        params: one SAE.
        x: inputs.
        config: says whether the encoder sees `x - b_dec`; the default is right for every dictionary
            that a `Result` hands out.
        precision: of the product.
    """
    bias = params.b_enc
    if params.b_dec is not None and config.apply_b_dec_to_input:
        bias = bias - matmul(params.b_dec[None], params.W_enc, precision)[0]
    return matmul(x, params.W_enc, precision) + bias


def encode(
    params: Params,
    x: Float[Array, "batch d_in"],
    config: SAEConfig = STANDARD,
    precision: Precision = "highest",
) -> Float[Array, "batch d_sae"]:
    """Activations `h = relu((x - b_dec) @ W_enc + b_enc)`. Arguments as in `preactivation`."""
    return jax.nn.relu(preactivation(params, x, config, precision))


def decode(
    params: Params, h: Float[Array, "batch d_sae"], precision: Precision = "highest"
) -> Float[Array, "batch d_in"]:
    """Reconstructions `x_hat = h @ W_dec + b_dec`."""
    x_hat = matmul(h, params.W_dec, precision)
    return x_hat if params.b_dec is None else x_hat + params.b_dec


def objective(
    params: Params,
    x: Float[Array, "batch d_in"],
    l1: Float[Array, ""] | float,
    config: SAEConfig,
    precision: Precision = "highest",
) -> Float[Array, ""]:
    """Training objective `mse + l1 * sparsity` (module docstring) of one SAE on one batch."""
    mse, sparsity = mse_and_sparsity(config, precision, params, x)
    return mse + l1 * sparsity


def sparsity_scale(config: SAEConfig, d_sae: int) -> float:
    """What the reduction multiplies a sample's sum of activations by: 1 / d_sae or 1."""
    return 1.0 / d_sae if config.l1_reduction == "mean" else 1.0


class Terms(NamedTuple):
    """What a batch comes to.

    Attributes:
        mse: mean over batch and d_in of (x_hat - x)^2.
        sparsity: mean over the batch of the sum of activations, reduced as `l1_reduction` says.
        highest: each latent's largest activation; no gradient goes through it.
        least: the smallest activation above 0, infinite where there is none; likewise.
    """

    mse: Float[Array, ""]
    sparsity: Float[Array, ""]
    highest: Float[Array, " d_sae"]
    least: Float[Array, ""]


def mse_and_sparsity(
    config: SAEConfig, precision: Precision, params: Params, x: Float[Array, "batch d_in"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The two terms of the objective, with their gradient written out (`kept_terms`)."""
    terms: Any = kept_terms(config, precision, None, params, x, None)  # pyright: ignore
    return terms.mse, terms.sparsity


def smallest(h: Float[Array, "batch d_sae"]) -> Float[Array, ""]:
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
    config: SAEConfig, precision: Precision, keep: Keep | None, params: Params,
    x: Float[Array, "batch d_in"], k: Float[Array, ""] | None,
) -> Terms:  # fmt: skip
    """The terms of an objective, with their gradient written out.

    Autodiff gives the same numbers; the written form needs five matrix products and no
    rematerialised masks, which is what makes a mapped step reach most of the machine's rate.

    Args:
        config: of the SAE.
        precision: of the products.
        keep: function of (h, k) that sets some of the activations of a ReLU to 0 and leaves the
            others as they are; None keeps all. Which ones it keeps has no gradient.
        params: one SAE.
        x: the batch.
        k: what `keep` reads, None without it.
    """
    return _forward(config, precision, keep, params, x, k)[0]


def _gram(
    a: Float[Array, "batch n"], b: Float[Array, "batch m"], precision: Precision
) -> Float[Array, "n m"]:
    """`a.T @ b` with `a.T` written out to memory first.

    A CPU product that reads an operand transposed runs at half to three quarters of the plain
    rate, and the compiler folds every transposition it sees into the product. The barriers keep
    this one, of the narrow operand, apart (BUILD_NOTES.md, "Transposed operands").
    """
    barrier = jax.lax.optimization_barrier
    return barrier(matmul(barrier(barrier(a).T), b, precision))


def _backward(
    config: SAEConfig, precision: Precision, keep: Keep | None, residuals: tuple, cotangents: Terms
) -> tuple[Params, Float[Array, "batch d_in"], Any]:
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
    still = jax.tree.map(jnp.zeros_like, params)
    grads = still._replace(W_enc=d_W_enc, b_enc=d_b_enc, W_dec=d_W_dec, b_dec=d_b_dec)
    # The cotangent of x is a sixth product; the compiler drops it where nobody asks for it.
    d_k = None if k is None else jnp.zeros_like(k)
    return grads, matmul(d_pre, params.W_enc.T, precision) - scale * error, d_k


kept_terms.defvjp(_forward, _backward)
