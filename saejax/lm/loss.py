"""The language model's loss, and the share of it that a reconstruction preserves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from saejax.lm.model import GPT, Replacements, stream, unembed

Losses = Float[np.ndarray, "*n windows"]


def token_losses(
    model: GPT,
    windows: Integer[Array, "*batch context_and_next"],
    replace: Replacements | None = None,
) -> Float[Array, "*batch context"]:
    """Loss `-ln p(token | those before it in the window)` in nats of every token but the first.

    Windows are of at most context + 1 tokens; `replace` is that of `forward`.
    """
    x, _ = stream(model, windows[..., :-1], replace=replace)
    return next_token_losses(model, x, windows[..., 1:])


def next_token_losses(
    model: GPT, x: Float[Array, "*batch context d_model"], tokens: Integer[Array, "*batch context"]
) -> Float[Array, "*batch context"]:
    """Loss in nats of the token behind each position, from the stream x behind the last block."""
    logits = unembed(model, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens.astype(jnp.int32))


def window_losses(
    model: GPT,
    windows: Integer[Array, "windows context_and_next"],
    replace: Replacements | None = None,
    batch_size: int = 32,
) -> Float[Array, " windows"]:
    """Mean of `token_losses` over the tokens of each window, in nats.

    `batch_size` windows are side by side; that changes memory and speed, the result only by
    rounding. Functions in `replace` get one window's activations [context, d].
    """

    def one(window: Integer[Array, " context_and_next"]) -> Float[Array, ""]:
        return token_losses(model, window, replace).mean()

    return jax.lax.map(one, windows, batch_size=batch_size)


def share_recovered(
    clean: Losses, ablated: Losses, replaced: Losses, axis: int = -1
) -> Float[np.ndarray, "*n"]:
    """Share of an ablation's cost that a reconstruction saves,

        (mean ablated - mean replaced) / (mean ablated - mean clean),

    of the losses of the windows (along `axis`) in the model as it is (`clean`), with the activation
    ablated, and with its reconstruction in its place (`replaced`). 1 is the model as it is and 0
    the ablation; below 0 is worse than the ablation. NaN where the ablation costs nothing.

    Source: "Towards monosemanticity" (Bricken et al., 2023), loss recovered against zero ablation.
    """
    cost, kept = ((ablated - other).mean(axis) for other in (clean, replaced))
    return np.where(cost == 0, np.nan, kept / np.where(cost == 0, 1.0, cost))
