"""The language model's loss, and how much of it a reconstruction of an activation preserves."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

from saejax.lm.model import GPT, Replacement, activations, stream, unembed


def token_losses(
    model: GPT,
    windows: Integer[Array, "*batch context_and_next"],
    replace: Mapping[str, Replacement] | None = None,
) -> Float[Array, "*batch context"]:
    """Loss `-ln p(token | those before it in the window)` in nats of every token but the first.

    Args:
        model: the weights.
        windows: successive tokens, at most context + 1.
        replace: as in `forward`.

    Raises:
        ValueError: as `forward`.
    """
    x, _ = stream(model, windows[..., :-1], replace=replace)
    return next_token_losses(model, x, windows[..., 1:])


def next_token_losses(
    model: GPT, x: Float[Array, "*batch context d_model"], tokens: Integer[Array, "*batch context"]
) -> Float[Array, "*batch context"]:
    """Loss in nats of the token that follows each position.

    Args:
        model: the weights.
        x: residual stream behind the last block.
        tokens: which token does follow.
    """
    return optax.softmax_cross_entropy_with_integer_labels(unembed(model, x), tokens.astype(jnp.int32))


def loss_with_replacement(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    replace: Mapping[str, Replacement] | None = None,
    batch_size: int = 32,
) -> Float[Array, ""]:
    """Mean of `token_losses` over all tokens of the windows, in nats.

    Args:
        model: the weights.
        windows: successive tokens, at most context + 1.
        replace: as in `forward`; functions get one window's activations [context, d]. None for the
            loss of the model as it is.
        batch_size: windows side by side; changes memory and speed, the result only by rounding.

    Raises:
        ValueError: as `forward`.
    """
    losses = jax.lax.map(
        lambda window: token_losses(model, window, replace).mean(), windows, batch_size=batch_size
    )
    return losses.mean()


def mean_activation(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    hook: str,
    batch_size: int = 32,
) -> Float[Array, " d"]:
    """Mean over all positions but the last of every window of the activation at a hook point.

    Arguments and errors as in `loss_with_replacement`.
    """

    def one(window: Integer[Array, " context_and_next"]) -> Float[Array, " d"]:
        return activations(model, window[:-1], (hook,))[hook].mean(0)

    return jax.lax.map(one, windows, batch_size=batch_size).mean(0)


class Ablations(NamedTuple):
    """Losses in nats that a replaced activation's loss is compared with.

    Attributes:
        clean: of the model as it is.
        zero: with the activation replaced by zeros.
        mean: with the activation replaced by its mean over the data.
    """

    clean: Float[Array, ""]
    zero: Float[Array, ""]
    mean: Float[Array, ""]


def ablations(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    hook: str,
    mean: Float[Array, " d"],
    batch_size: int = 32,
) -> Ablations:
    """The losses of the model as it is, and with one activation ablated.

    Args:
        model: the weights.
        windows: successive tokens, at most context + 1.
        hook: which activation, see `hook_names`.
        mean: of that activation, see `mean_activation`.
        batch_size: as in `loss_with_replacement`.

    Raises:
        ValueError: as `forward`.
    """
    losses = (
        loss_with_replacement(model, windows, replace, batch_size)
        for replace in ({}, {hook: jnp.zeros_like(mean)}, {hook: mean})
    )
    return Ablations(*losses)


class Recovered(NamedTuple):
    """How much of the loss a reconstruction preserves; 1 is all of it, 0 what the ablation does.

    Attributes:
        loss: with the reconstruction in the activation's place, in nats.
        against_zero: `(zero - loss) / (zero - clean)`.
        against_mean: `(mean - loss) / (mean - clean)`.
    """

    loss: Float[Array, ""]
    against_zero: Float[Array, ""]
    against_mean: Float[Array, ""]


def loss_recovered(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    hook: str,
    reconstruct: Callable[[Float[Array, "rows d"]], Float[Array, "rows d"]],
    ablated: Ablations,
    batch_size: int = 32,
) -> Recovered:
    """Loss recovered when the reconstruction replaces the activation at a hook point.

    Where an ablation costs nothing there is nothing to recover and the share is NaN; a reconstruction
    worse than the ablation has a share below 0. Pure: map it over the weights that `reconstruct`
    closes over to measure many autoencoders.

    Args:
        model: the weights.
        windows: those that `ablated` was measured on.
        hook: which activation, likewise.
        reconstruct: from activations to their reconstructions, such as `decode(encode(x))`.
        ablated: of `ablations`.
        batch_size: as in `loss_with_replacement`.

    Raises:
        ValueError: as `forward`.

    Source: "Towards monosemanticity" (Bricken et al., 2023), loss recovered against zero ablation.
    """
    loss = loss_with_replacement(model, windows, {hook: reconstruct}, batch_size)

    def share(base: Float[Array, ""]) -> Float[Array, ""]:
        cost = base - ablated.clean
        return jnp.where(cost == 0, jnp.nan, (base - loss) / jnp.where(cost == 0, 1.0, cost))

    return Recovered(loss, share(ablated.zero), share(ablated.mean))
