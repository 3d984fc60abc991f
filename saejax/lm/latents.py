"""Single latents of an autoencoder in a language model: how often they fire, what they are worth."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from saejax.lm.loss import token_losses
from saejax.lm.model import GPT, activations
from saejax.sae import Params, encode, unit_rows


class Reading(NamedTuple):
    """A text as a model reads it.

    Attributes:
        windows: successive tokens.
        x: the activation at a hook point, at every position but the last.
        losses: loss of the token behind each of these positions, in nats.
    """

    windows: Integer[Array, "windows context_and_next"]
    x: Float[Array, "windows context d"]
    losses: Float[Array, "windows context"]


@partial(jax.jit, static_argnames=("hook", "batch_size"))
def read(
    model: GPT, windows: Integer[Array, "windows context_and_next"], hook: str, batch_size: int = 32
) -> Reading:
    """Activations at a hook point and losses, `batch_size` windows at a time.

    Raises:
        ValueError: as `saejax.lm.model.forward`.
    """

    def one(window: Integer[Array, " context_and_next"]) -> tuple[Array, Array]:
        return activations(model, window[:-1], (hook,))[hook], token_losses(model, window)

    return Reading(windows, *jax.lax.map(one, windows, batch_size=batch_size))


@partial(jax.jit, static_argnames="batch_size")
def firing_frequency(
    params: Params, x: Float[Array, "windows context d"], batch_size: int = 32
) -> Float[Array, " d_sae"]:
    """Share of the positions at which each latent is above 0, `batch_size` windows at a time.

    Args:
        params: one SAE whose encoder sees `x - b_dec`, as those of a `Result` do.
        x: activations.
        batch_size: changes memory and speed only.
    """
    fires = jax.lax.map(lambda x: (encode(params, x) > 0).mean(0), x, batch_size=batch_size)
    return fires.mean(0)


class Effects(NamedTuple):
    """What ablating single latents costs; NaN where a latent never fires.

    Attributes:
        effect: rise of the loss, in nats per firing.
        control: the same with a random direction in place of the latent's.
        firings: how many firings were ablated.
    """

    effect: Float[Array, " latents"]
    control: Float[Array, " latents"]
    firings: Int[Array, " latents"]


@partial(jax.jit, static_argnames=("hook", "n_windows"))
def latent_effects(
    model: GPT, reading: Reading, hook: str, latents: Params, key: PRNGKeyArray, n_windows: int
) -> Effects:
    """Rise of the loss when a latent is taken out of the activation, one latent after another.

    At every position of a window the activation x becomes `x - h_j w_j`, with h_j the latent's
    activation and w_j its row of W_dec; what the autoencoder does not reconstruct stays. The losses of
    all tokens of the window then rise, later tokens' among them, and

        effect_j = sum over windows and tokens of (loss without j - loss) / number of firings of j.

    The control takes `h_j |w_j| r_j` out instead, r_j a random unit vector: a direction that means
    nothing, with the same activations at the same places.

    Windows are drawn anew for every latent from those in which it fires, so that rare latents are
    measured as well as frequent ones.

    Args:
        model: the weights.
        reading: of the text, see `read`.
        hook: where the activations are from.
        latents: an SAE reduced to the latents to be ablated: columns of W_enc, rows of W_dec.
        key: of the windows and the random directions.
        n_windows: how many windows each latent is ablated in, at most.

    Raises:
        ValueError: as `saejax.lm.model.forward`.
    """
    of_windows, of_directions = jax.random.split(key)
    n = latents.W_dec.shape[0]
    h = jax.lax.map(lambda x: encode(latents, x), reading.x, batch_size=32)
    firings = (h > 0).sum(1)
    order = jax.random.uniform(of_windows, firings.T.shape) + (firings > 0).T
    _, chosen = jax.lax.top_k(order, min(n_windows, firings.shape[0]))
    norms = jnp.linalg.norm(latents.W_dec, axis=1, keepdims=True)
    random = unit_rows(jax.random.normal(of_directions, latents.W_dec.shape)) * norms

    def of_latent(at: Int[Array, ""]) -> tuple[Array, Array, Array]:
        own = chosen[at]
        count = firings[own, at]

        def of_window(w: Int[Array, ""], direction: Float[Array, " d"]) -> Float[Array, ""]:
            x = reading.x[w] - h[w, :, at, None] * direction
            return (token_losses(model, reading.windows[w], {hook: x}) - reading.losses[w]).sum()

        def total(direction: Float[Array, " d"]) -> Float[Array, ""]:
            rises = jax.vmap(of_window, in_axes=(0, None))(own, direction)
            # Where it does not fire nothing was changed but the rounding.
            return jnp.where(count > 0, rises, 0.0).sum()

        return total(latents.W_dec[at]), total(random[at]), count.sum()

    effect, control, count = jax.lax.map(of_latent, jnp.arange(n))
    never = count == 0
    per = jnp.where(never, 1, count)
    return Effects(
        jnp.where(never, jnp.nan, effect / per), jnp.where(never, jnp.nan, control / per), count
    )
