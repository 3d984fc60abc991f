"""What a latent's decoder row does to the logits of the next token: the logit lens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saejax.interpret.dashboard import TokenEffects
from saejax.lm.model import GPT

# Latents whose logits are held and sorted at once: 128 x 50257 numbers are 26 MB.
BLOCK = 128


@partial(jax.jit, static_argnames=("k", "bins"))
def _of_block(
    model: GPT, rows: Float[Array, "block d_model"], k: int, bins: int
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The fields of `TokenEffects`, in their order."""
    scale = model.ln_f.scale
    assert scale is not None
    direction = (rows - rows.mean(-1, keepdims=True)) * scale[...]
    logits = jnp.matmul(direction, model.wte.embedding[...].T, precision="highest")
    logits = logits - logits.mean(-1, keepdims=True)
    order = jnp.argsort(logits, axis=-1)
    values = jnp.take_along_axis(logits, order, axis=-1)
    low, high = values[:, 0], values[:, -1]
    edges = low[:, None] + (high - low)[:, None] * jnp.linspace(0, 1, bins + 1)[1:-1]
    below = jax.vmap(partial(jnp.searchsorted, side="left"))(values, edges)
    n = jnp.full((len(rows), 1), values.shape[1])
    counts = jnp.diff(jnp.concatenate([jnp.zeros_like(n), below, n], axis=1), axis=1)
    ends = order[:, ::-1][:, :k], values[:, ::-1][:, :k], order[:, :k], values[:, :k]
    return *ends, counts, jnp.stack([low, high], axis=1)


def token_effects(
    model: GPT, W_dec: Float[np.ndarray, "d_sae d_model"], k: int = 10, bins: int = 40
) -> TokenEffects:
    """Change of every token's logit for one unit of a latent's activation, up to a factor.

        change = ((w - mean w) * ln_f.scale) @ wte^T
        effect = change - mean over tokens of change

    w is the latent's row of W_dec. Left out is what the blocks behind the hook point do with it,
    and the length that the last LayerNorm divides by, which is that of the whole residual stream.

    Args:
        model: whose residual stream the SAE reads.
        W_dec: its decoder rows.
        k: tokens at either end, at most.
        bins: of the histogram.

    Raises:
        ValueError: for decoder rows of another width than the residual stream.

    Source: "interpreting GPT: the logit lens" (nostalgebraist, 2020), with LayerNorm folded in as
        TransformerLens does.
    """
    d_sae, d = W_dec.shape
    if d != model.config.d_model:
        raise ValueError(
            f"W_dec: got rows of {d} numbers, allowed: the residual stream's {model.config.d_model}"
        )
    blocks = []
    for first in range(0, d_sae, BLOCK):
        part = W_dec[first : first + BLOCK]
        rows = np.zeros((BLOCK, d), np.float32)
        rows[: len(part)] = part
        fields = _of_block(model, jnp.asarray(rows), k, bins)
        blocks.append([np.asarray(field)[: len(part)] for field in fields])
    return TokenEffects(*map(np.concatenate, zip(*blocks, strict=True)))
