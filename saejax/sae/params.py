"""The weights of one SAE, how they start, and what is fixed about it.

Everything in this room is written for a single SAE and a batch of inputs; callers map it over
cells. A ReLU SAE computes

    h     = relu((x - b_dec) @ W_enc + b_enc)
    x_hat = h @ W_dec + b_dec

(with `apply_b_dec_to_input` off, b_dec stays out of the first line) and is trained for

    objective = mse + l1 * sparsity
    mse       = mean over batch and d_in of (x_hat - x)^2
    sparsity  = mean over batch of sum_j h_j           (l1_reduction "sum")
              = mean over batch of sum_j h_j / d_sae   (l1_reduction "mean")

Coefficients of other libraries: one that sums the squared error over d_in and the activations over
d_sae (SAELens, dictionary_learning) has the same minimum at `l1 * d_in` of reduction "sum", and at
`l1 * d_in / d_sae` of reduction "mean".
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from saejax.core.checks import check_choice
from saejax.core.linalg import unit_rows

L1Reduction = Literal["mean", "sum"]
Init = Literal["orthogonal", "linear", "tied"]

Scalar = Float[Array, ""]
Inputs = Float[Array, "batch d_in"]
Latents = Float[Array, "batch d_sae"]
PerLatent = Float[Array, " d_sae"]
Mask = Bool[Array, " d_sae"]
Center = Float[Array, " d_in"]


@dataclass(frozen=True)
class SAEConfig:
    """What is fixed about an SAE before its sizes and swept numbers are known.

    Args:
        l1_reduction: "mean" divides the activation sum by d_sae (toy recipe), "sum" does not
            (language-model recipes).
        use_b_dec: subtract a learned bias from the input and add it back to the output.
        unit_norm: project the rows of W_dec to norm 1 after every update.
        init: recipe of the initial weights, see `init`.
        apply_b_dec_to_input: whether the encoder sees `x - b_dec` or, as a plain stack of two
            linear layers does, x itself. The two describe the same functions, but Adam finds
            different ones. Without b_dec it changes nothing.

    Raises:
        ValueError: for an unknown `l1_reduction` or `init`.
    """

    l1_reduction: L1Reduction = "mean"
    use_b_dec: bool = False
    unit_norm: bool = True
    init: Init = "orthogonal"
    apply_b_dec_to_input: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("l1_reduction", L1Reduction), ("init", Init)):
            allowed = get_args(choices)
            check_choice(name, getattr(self, name), ", ".join(allowed), allowed)


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
    key: PRNGKeyArray, d_in: int, d_sae: int, config: SAEConfig, center: Center | None = None
) -> Params:
    """Initial weights; the same key and sizes give the same ones.

    - "orthogonal": W_dec (semi-)orthogonal with rows then scaled to norm 1, b_dec 0; W_enc and
      b_enc uniform in +-1/sqrt(d_in).
    - "linear": W_dec and b_dec uniform in +-1/sqrt(d_sae), as torch.nn.Linear starts; with
      `unit_norm` rows then scaled to norm 1; W_enc and b_enc as above.
    - "tied": rows of W_dec uniform on the unit sphere, W_enc the transpose of W_dec, b_enc 0, b_dec
      `center`: for activations of language models, which are far from the origin.

    Args:
        key: randomness.
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
    W_enc, b_enc = uniform(k_enc, (d_in, d_sae), d_in), uniform(k_bias, (d_sae,), d_in)
    return project(Params(W_enc, b_enc, W_dec, b_dec if config.use_b_dec else None), config)


def project(params: Params, config: SAEConfig) -> Params:
    """Weights with the rows of W_dec back at norm 1, or unchanged where `unit_norm` is off."""
    return params._replace(W_dec=unit_rows(params.W_dec)) if config.unit_norm else params


def standard(params: Params, config: SAEConfig) -> Params:
    """The same SAE written for an encoder that sees `x - b_dec`, whichever it was trained with.

    With `apply_b_dec_to_input` off, `b_enc + b_dec @ W_enc` takes the place of b_enc, and b_mag of
    a gated SAE moves likewise with its own weights `W_enc exp(r_mag)`.
    """
    if params.b_dec is None or config.apply_b_dec_to_input:
        return params
    shift = jnp.einsum("...i,...ij->...j", params.b_dec, params.W_enc, precision="highest")
    b_mag = params.b_mag
    if b_mag is not None:
        assert params.r_mag is not None
        b_mag = b_mag + shift * jnp.exp(params.r_mag)
    return params._replace(b_enc=params.b_enc + shift, b_mag=b_mag)
