"""Dead latents: who they are, and the masked re-initialisation that revives them.

Every `every` steps, dead latents of the cells that ask for it take over the direction of an input
that is badly explained (the GPT-2 text's recipe, after Anthropic's "Towards Monosemanticity",
2023):

    b      drawn with probability proportional to sample b's share of the objective
    u      = (x_b - b_dec) / |x_b - b_dec|
    W_enc[:, j] = u,  W_dec[j] = u,  b_enc[j] = bias,  Adam moments of latent j = 0

A latent is dead if its activation never exceeded `threshold` in the `window` steps before.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from saejax.checks import check_number, check_whole
from saejax.precision import Precision
from saejax.sae import Params, SAEConfig, encode, sample_objective, unit_rows


@dataclass(frozen=True)
class Resample:
    """When and how dead latents are revived.

    Args:
        every: steps between two resamplings; 0 never resamples.
        window: a latent must have been silent for this many training batches before; None is 10, or
            `every` where that is less.
        threshold: activation that counts as silence.
        bias: what b_enc of a revived latent is set to; slightly negative, so that it fires only on
            inputs close to the one it took over.

    Raises:
        ValueError: naming the argument.
    """

    every: int = 0
    window: int | None = None
    threshold: float = 0.0
    bias: float = -0.01

    def __post_init__(self) -> None:
        often = "0 (never) or more (a whole number)"
        every = check_whole("resample_every", self.every, often, lambda v: v >= 0)
        window = self.window
        if window is not None:
            upto = f"to resample_every={every}" if every else "or more"
            last = every or float("inf")
            window = check_whole(
                "resample window", window, f"1 {upto} (a whole number)", lambda v: 1 <= v <= last
            )
        silence = "0 or more (a number)"
        threshold = check_number("resample threshold", self.threshold, silence, lambda v: v >= 0)
        bias = check_number("resample bias", self.bias, "a finite number")
        for name, value in zip(
            ("every", "window", "threshold", "bias"), (every, window, threshold, bias), strict=True
        ):
            object.__setattr__(self, name, value)

    @property
    def window_steps(self) -> int:
        """Length of the window in steps, `min(10, every)` where none was asked for."""
        return min(10, self.every) if self.window is None else self.window

    def is_due(self, steps_done: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether latents are revived once this many steps are done."""
        return steps_done % self.every == 0


def observe(
    highest: Float[Array, " d_sae"],
    params: Params,
    x: Float[Array, "batch d_in"],
    step: Int[Array, ""],
    config: SAEConfig,
    rule: Resample,
    precision: Precision,
) -> Float[Array, " d_sae"]:
    """Highest activation of each latent since the current window opened.

    Outside the window the value is 0 and nothing is computed.
    """
    into_window = step % rule.every - (rule.every - rule.window_steps)

    def look() -> Float[Array, " d_sae"]:
        before = jnp.where(into_window == 0, 0.0, highest)
        return jnp.maximum(before, encode(params, x, config, precision).max(0))

    return jax.lax.cond(into_window >= 0, look, lambda: jnp.zeros_like(highest))


def revive(
    key: PRNGKeyArray,
    params: Params,
    opt_state: optax.ScaleByAdamState,
    dead: Bool[Array, " d_sae"],
    x: Float[Array, "batch d_in"],
    l1: Float[Array, ""] | float,
    config: SAEConfig,
    rule: Resample,
    precision: Precision = "highest",
) -> tuple[Params, optax.ScaleByAdamState]:
    """Weights and moments after the dead latents were re-initialised; the others are untouched.

    Args:
        key: which samples are drawn.
        params: one SAE.
        opt_state: its Adam moments, shaped like `params`.
        dead: which latents to revive.
        x: the batch to draw from. Samples equal to b_dec have no direction and are never drawn; in a
            batch of such samples alone nothing is revived.
        l1: the cell's coefficient.
        config: of the SAE.
        rule: where the new bias stands.
        precision: of the products.
    """
    centred = x if params.b_dec is None else x - params.b_dec
    has_direction = jnp.linalg.norm(centred, axis=-1) > 0
    loss = sample_objective(params, x, l1, config, precision)
    weights = jnp.where(has_direction, loss, 0.0)
    # A batch explained perfectly leaves no weight anywhere: then all directions are equally good.
    weights = jnp.where(weights.sum() > 0, weights, has_direction.astype(weights.dtype))
    drawn = jax.random.choice(key, x.shape[0], dead.shape, p=weights / weights.sum())
    dead = dead & has_direction.any()
    directions = unit_rows(centred[drawn])
    new = params._replace(
        W_enc=jnp.where(dead, directions.T, params.W_enc),
        b_enc=jnp.where(dead, rule.bias, params.b_enc),
        W_dec=jnp.where(dead[:, None], directions, params.W_dec),
    )

    def forget(moments: Any) -> Params:
        return moments._replace(
            W_enc=jnp.where(dead, 0.0, moments.W_enc),
            b_enc=jnp.where(dead, 0.0, moments.b_enc),
            W_dec=jnp.where(dead[:, None], 0.0, moments.W_dec),
        )

    return new, opt_state._replace(mu=forget(opt_state.mu), nu=forget(opt_state.nu))
