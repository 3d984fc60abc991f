"""The language model's loss, and how much of it a reconstruction of an activation preserves."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from saejax.lm.model import GPT, Replacement, stream, unembed


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
    return optax.softmax_cross_entropy_with_integer_labels(
        unembed(model, x), tokens.astype(jnp.int32)
    )


def window_losses(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    replace: Mapping[str, Replacement] | None = None,
    batch_size: int = 32,
) -> Float[Array, " windows"]:
    """Mean of `token_losses` over the tokens of each window, in nats.

    Pure: map it over the weights that a replacement closes over to measure many autoencoders.

    Args:
        model: the weights.
        windows: successive tokens, at most context + 1.
        replace: as in `forward`; functions get one window's activations [context, d]. None for the
            losses of the model as it is.
        batch_size: windows side by side; changes memory and speed, the result only by rounding.

    Raises:
        ValueError: as `forward`.
    """

    def one(window: Integer[Array, " context_and_next"]) -> Float[Array, ""]:
        return token_losses(model, window, replace).mean()

    return jax.lax.map(one, windows, batch_size=batch_size)


def share_recovered(
    clean: Float[np.ndarray, "*n windows"],
    ablated: Float[np.ndarray, "*n windows"],
    replaced: Float[np.ndarray, "*n windows"],
    axis: int = -1,
) -> Float[np.ndarray, "*n"]:
    """Share of an ablation's cost that a reconstruction saves,

        (mean ablated - mean replaced) / (mean ablated - mean clean).

    1 is the model as it is and 0 the ablation; what is worse than the ablation is below 0. NaN
    where the ablation costs nothing.

    Args:
        clean: losses of the windows in the model as it is.
        ablated: with the activation ablated.
        replaced: with its reconstruction in its place.
        axis: of the windows.

    Source: "Towards monosemanticity" (Bricken et al., 2023), loss recovered against zero ablation.
    """
    cost, kept = ((ablated - other).mean(axis) for other in (clean, replaced))
    return np.where(cost == 0, np.nan, kept / np.where(cost == 0, 1.0, cost))
