"""A text as a language model reads it, with an SAE in it or single latents taken out."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from saejax.core.linalg import unit_rows
from saejax.lm.loss import next_token_losses, token_losses
from saejax.lm.model import GPT, stream, unembed
from saejax.sae.params import Params
from saejax.sae.relu import decode, encode

Windows = Integer[Array, "windows context_and_next"]
Activations = Float[Array, "windows context d"]
PerWindow = Float[Array, " windows"]


class Reading(NamedTuple):
    """A text as a model reads it."""

    windows: Windows  # successive tokens
    x: Activations  # at a hook point, at every position but the last
    losses: Float[Array, "windows context"]  # of the token behind each position, in nats


@partial(jax.jit, static_argnames=("hook", "batch_size"))
def read(model: GPT, windows: Windows, hook: str, batch_size: int = 32) -> Reading:
    """Activations at a hook point and losses, `batch_size` windows at a time."""

    def one(window: Integer[Array, " context_and_next"]) -> tuple[Array, Array]:
        behind, activations = stream(model, window[:-1], (hook,))
        return activations[hook], next_token_losses(model, behind, window[1:])

    return Reading(windows, *jax.lax.map(one, windows, batch_size=batch_size))


@partial(jax.jit, static_argnames=("hook", "batch_size"))
def replaced_losses(
    model: GPT, reading: Reading, hook: str, x: Activations, batch_size: int = 32
) -> PerWindow:
    """Mean loss in nats of each window with activations x at the hook point.

    A function of arrays, so that ablations and SAEs of all sizes share one compiled program.
    """

    def one(part: tuple[Array, Array]) -> Array:
        window, x = part
        return token_losses(model, window, {hook: x}).mean()

    return jax.lax.map(one, (reading.windows, x), batch_size=batch_size)


class Ablations(NamedTuple):
    """Losses in nats of each window that a reconstruction's losses are compared with.

    Attributes:
        clean: of the model as it is.
        zero: with the activation replaced by zeros.
        mean: with the activation replaced by its mean over the text.
    """

    clean: PerWindow
    zero: PerWindow
    mean: PerWindow


def ablations(
    model: GPT, reading: Reading, hook: str, batch_size: int = 32, first: int = 0
) -> Ablations:
    """The losses of the model as it is, and with one activation ablated.

    Positions before `first` keep their activation, and are left out of the mean.
    """
    mean = reading.x[:, first:].mean((0, 1))
    losses = (
        replaced_losses(model, reading, hook, _from(first, reading.x, x), batch_size)
        for x in (jnp.zeros_like(mean), mean)
    )
    return Ablations(reading.losses.mean(1), *losses)


def _from(first: int, x: Activations, other: Float[Array, "... d"]) -> Activations:
    """Other activations from a position on; before it those of x."""
    return jnp.where(jnp.arange(x.shape[1])[:, None] < first, x, other)


@partial(jax.jit, static_argnames=("batch_size", "first"))
def _autoencode(
    params: Params, x: Activations, batch_size: int, first: int
) -> tuple[Activations, Float[Array, " d_sae"]]:
    def one(x: Float[Array, "context d"]) -> tuple[Array, Array]:
        h = encode(params, x)
        return decode(params, h), (h[first:] > 0).mean(0)

    x_hat, fires = jax.lax.map(one, x, batch_size=batch_size)
    return x_hat, fires.mean(0)


def reconstructed(
    model: GPT, reading: Reading, hook: str, params: Params, batch_size: int = 32, first: int = 0
) -> tuple[PerWindow, Float[Array, " d_sae"]]:
    """Losses with an SAE's reconstruction in the activation's place, and how often latents fire.

    Args (others as of `read`):
        params: one SAE whose encoder sees `x - b_dec`, as those of a `Result` do.
        batch_size: windows side by side; changes memory and speed only.
        first: positions before it keep their activation, and are left out of the share: those that
            the SAE was not trained on.

    Returns:
        Mean loss of each window in nats, and the share of all positions at which each latent is
        above 0.
    """
    x_hat, frequency = _autoencode(params, reading.x, batch_size, first)
    x_hat = _from(first, reading.x, x_hat)
    return replaced_losses(model, reading, hook, x_hat, batch_size), frequency


class Effects(NamedTuple):
    """What ablating single latents does to the model's predictions; NaN where a latent never fires.

    Attributes:
        effect: expected rise of the loss, in nats per firing.
        control: the same with a random direction in place of the latent's.
        other_control: the same with another random direction.
        firings: number of firings that were ablated.
    """

    effect: Float[Array, " latents"]
    control: Float[Array, " latents"]
    other_control: Float[Array, " latents"]
    firings: Int[Array, " latents"]


@partial(jax.jit, static_argnames=("hook", "n_windows"))
def latent_effects(
    model: GPT, reading: Reading, hook: str, latents: Params, key: PRNGKeyArray, n_windows: int
) -> Effects:
    """Expected rise of the loss when a latent is taken out of the activation, one latent at a time.

    At every position of a window the activation x becomes `x - h_j w_j`, with h_j the latent's
    activation and w_j its row of W_dec; what the autoencoder does not reconstruct stays. That
    changes the prediction p of the next token to p_j, here and at later positions. If the next
    tokens were drawn from p itself, the loss would rise by the Kullback-Leibler divergence, and

        effect_j = sum over windows and positions of KL(p, p_j) / number of firings of j.

    The rise of the loss on the tokens of the text has about this expectation where the model
    predicts well. But of a single latent it has either sign, and its error was five to ten times
    the effect where both were measured (experiments/bimodality/README.md).

    The controls take `h_j |w_j| r` out instead, r random unit vectors: directions that mean
    nothing, with the same activations at the same places.

    Windows are drawn anew for every latent from those in which it fires, so that rare latents are
    measured as well as frequent ones.

    Args (others as of `read`):
        latents: an SAE reduced to the latents to be ablated: columns of W_enc, rows of W_dec.
        key: of the windows and the random directions.
        n_windows: how many windows each latent is ablated in, at most.
    """
    of_windows, *of_directions = jax.random.split(key, 3)
    n = latents.W_dec.shape[0]
    h = jax.lax.map(lambda x: encode(latents, x), reading.x, batch_size=32)
    firings = (h > 0).sum(1)
    order = jax.random.uniform(of_windows, firings.T.shape) + (firings > 0).T
    _, chosen = jax.lax.top_k(order, min(n_windows, firings.shape[0]))
    norms = jnp.linalg.norm(latents.W_dec, axis=1, keepdims=True)
    random = (unit_rows(jax.random.normal(k, latents.W_dec.shape)) * norms for k in of_directions)
    # The first direction takes nothing out: its prediction is what the others are compared with.
    directions = jnp.stack([jnp.zeros_like(latents.W_dec), latents.W_dec, *random], axis=1)

    def of_window(w: Int[Array, ""], latent: Int[Array, ""]) -> Float[Array, " 3"]:
        window, x = reading.windows[w], reading.x[w]

        def prediction(direction: Float[Array, " d"]) -> Float[Array, "context vocab"]:
            changed = x - h[w, :, latent, None] * direction
            behind, _ = stream(model, window[:-1], replace={hook: changed})
            return jax.nn.log_softmax(unembed(model, behind))

        clean, *others = jax.vmap(prediction)(directions[latent])
        change = jnp.stack(others) - clean
        # KL = sum p (e^d - 1 - d), d the change of log p: the sum of p (e^d - 1) is 0, and without
        # it the rounding of d, shared by all tokens, would outweigh a small divergence.
        return (jnp.exp(clean) * (jnp.expm1(change) - change)).sum((1, 2))

    def of_latent(latent: Int[Array, ""]) -> tuple[Array, Array]:
        its_windows = chosen[latent]
        count = firings[its_windows, latent]
        rises = jax.vmap(of_window, in_axes=(0, None))(its_windows, latent)
        # Where it does not fire nothing but rounding was changed.
        return jnp.where(count[:, None] > 0, rises, 0.0).sum(0), count.sum()

    rises, count = jax.lax.map(of_latent, jnp.arange(n))
    per_firing = jnp.where(count[:, None] == 0, jnp.nan, rises / jnp.maximum(count, 1)[:, None])
    effect, control, other_control = per_firing.T
    return Effects(effect, control, other_control, count)
