"""Dead latents: who they are, and the masked re-initialisation that revives them.

Every `every` steps, dead latents of the cells that ask for it take over the direction of an input
that is badly explained:

    b      drawn with probability p_b
    u      = (x_b - b_dec) / |x_b - b_dec|
    W_enc[:, j] = scale u,  W_dec[j] = u,  b_enc[j] = bias,  Adam moments of latent j = 0

             p_b proportional to         scale                          bias
    "on"         loss_b                  1                              slightly negative
    "anthropic"  loss_b^2                0.2 x mean norm of the live    0
                                         latents' columns of W_enc

    loss_b = mse_b + l1 * what the coefficient multiplies for sample b, reduced as `l1_reduction`
    says

What that is an architecture says (`Architecture.penalized`), also where a user's objective is
trained for: an objective of batches has no shares of samples. Auxiliary losses do not count.

A latent is dead if its activation never exceeded `threshold` in the `window` steps before. Two ways
leave the weights alone and give dead latents a gradient: "ghost" (`saejax.sae.ghost`) and, of
architectures that set the number of active latents, "auxk" (`saejax.sae.topk`).

Samples are drawn without replacement. Two latents with the direction of one sample would have the
same weights and moments and so the same gradients for good: one latent twice. Where more latents
are dead than samples are at hand the others wait for the next time.

Sources: "on", the GPT-2 text; "anthropic", "Towards Monosemanticity" (Bricken et al., 2023),
    section
"Neuron resampling". Drawing without replacement: dictionary_learning (Marks and others, 2024).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from saejax.core.checks import check_number, check_whole
from saejax.core.devices import over
from saejax.core.linalg import unit_rows
from saejax.core.precision import Precision
from saejax.sae.params import Params, SAEConfig
from saejax.sae.registry import Architecture, ReLU
from saejax.sae.relu import encode, sparsity_scale

# Values of the axis `resample`. The compiled step reads their places.
REVIVALS = ("off", "on", "anthropic", "ghost", "auxk")
OFF, ON, ANTHROPIC, GHOST, AUXK = range(5)
# Share of the live latents' mean norm that a revived column of W_enc has in Anthropic's recipe.
ANTHROPIC_SCALE = 0.2
RELU = ReLU()


@dataclass(frozen=True)
class Resample:
    """When and how dead latents are revived.

    Args:
        every: steps between two resamplings of "on" and "anthropic"; 0 never resamples.
        window: a latent must have been silent for this many training batches before; None is 10, or
            `every` where that is less.
        threshold: activation that counts as silence.
        bias: what b_enc of a latent revived by "on" is set to; slightly negative, so that it fires
            only on inputs close to the one it took over.
        ghost_after: training batches of silence from which "ghost" gives a latent gradients; 0
            never.
        aux_after: likewise for "auxk".

    Raises:
        ValueError: naming the argument.
    """

    every: int = 0
    window: int | None = None
    threshold: float = 0.0
    bias: float = -0.01
    ghost_after: int = 0
    aux_after: int = 0

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
        own = {
            "every": every,
            "window": window,
            "threshold": check_number(
                "resample threshold", self.threshold, silence, lambda v: v >= 0
            ),
            "bias": check_number("resample bias", self.bias, "a finite number"),
            "ghost_after": check_whole("ghost_after", self.ghost_after, often, lambda v: v >= 0),
            "aux_after": check_whole("aux_after", self.aux_after, often, lambda v: v >= 0),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @property
    def window_steps(self) -> int:
        """Length of the window in steps, `min(10, every)` where none was asked for."""
        return min(10, self.every) if self.window is None else self.window

    @property
    def watches(self) -> bool:
        """Whether anybody needs to know how long latents have been silent."""
        return bool(self.every or self.ghost_after or self.aux_after)

    def is_due(self, steps_done: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether latents are revived once this many steps are done."""
        return steps_done % self.every == 0


def observe(
    silent: Int[Array, " d_sae"],
    revival: Int[Array, ""] | int,
    params: Params,
    x: Float[Array, "batch d_in"],
    step: Int[Array, ""],
    config: SAEConfig,
    rule: Resample,
    precision: Precision = "highest",
    axis: str | None = None,
    highest: Float[Array, " d_sae"] | None = None,
) -> Int[Array, " d_sae"]:
    """Batches since each latent last exceeded the threshold, this one among them.

    With "ghost" and "auxk" all batches count. With "on" and "anthropic" those since the current
    window opened; outside it nothing is computed. With "off" nothing ever is.

    Args:
        silent: the counts before this batch.
        revival: place in `REVIVALS`.
        params: one SAE, before its update on this batch.
        x: the batch.
        step: number of steps done before this one.
        config: of the SAE.
        rule: when and how.
        precision: of the product.
        axis: of the devices over which the batch is divided, None where one has it all.
        highest: each latent's largest activation in the batch; None: that of a ReLU, computed here
            where somebody looks.
    """
    looks = opens = jnp.array(False)
    anybody_looks = jnp.array(bool(rule.ghost_after or rule.aux_after))
    if rule.every:
        into_window = step % rule.every - (rule.every - rule.window_steps)
        resamples = (revival == ON) | (revival == ANTHROPIC)
        looks, opens = resamples & (into_window >= 0), resamples & (into_window == 0)
        anybody_looks = anybody_looks | (into_window >= 0)
    if rule.ghost_after:
        looks = looks | (revival == GHOST)
    if rule.aux_after:
        looks = looks | (revival == AUXK)

    def look() -> Int[Array, " d_sae"]:
        own = encode(params, x, config, precision).max(0) if highest is None else highest
        fires = over(axis, jax.lax.pmax, own) > rule.threshold
        return jnp.where(fires, 0, jnp.where(opens, 0, silent) + 1)

    def keep() -> Int[Array, " d_sae"]:
        return silent

    # Side by side, cells of several ways make a selection of the inner branch, which computes both.
    # The outer one depends on the step alone and stays a branch.
    return jax.lax.cond(anybody_looks, lambda: jax.lax.cond(looks, look, keep), keep)


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
    revival: Int[Array, ""] | int = ON,
    architecture: Architecture = RELU,
    k: Float[Array, ""] | float = 0,
) -> tuple[Params, optax.ScaleByAdamState]:
    """Weights and moments after the dead latents were re-initialised; the others are untouched.

    Args:
        key: which samples are drawn.
        params: one SAE.
        opt_state: its Adam moments, shaped like `params`.
        dead: which latents to revive; where there are more than samples that may be drawn, the
            first.
        x: the batch to draw from. Samples equal to b_dec have no direction and are never drawn.
        l1: the cell's coefficient.
        config: of the SAE.
        rule: where the new bias stands.
        precision: of the products.
        revival: `ON` or `ANTHROPIC`.
        architecture: of the SAE.
        k: the cell's number of active latents, where the architecture reads it.
    """
    anthropic = jnp.asarray(revival) == ANTHROPIC
    centred = x if params.b_dec is None else x - params.b_dec
    has_direction = jnp.linalg.norm(centred, axis=-1) > 0
    h = architecture.encode(params, x, k, config, precision)
    mse = jnp.mean((architecture.decode(params, h, precision) - x) ** 2, axis=-1)
    penalty = sparsity_scale(config, h.shape[-1]) * architecture.penalized(params, x, h, config)
    loss = mse + l1 * penalty
    # Twice the logarithm is the logarithm of the square, which float32 could not hold for large
    # losses.
    weights = jnp.log(jnp.where(has_direction, loss, 0.0)) * jnp.where(anthropic, 2.0, 1.0)
    # A batch explained perfectly leaves no weight anywhere: then all directions are equally good.
    even = jnp.where(has_direction, 0.0, -jnp.inf)
    weights = jnp.where(jnp.isfinite(weights).any(), weights, even)
    # The largest of log p + Gumbel noise is a draw with probability p, the next a draw from the
    # rest.
    order = jnp.argsort(-(weights + jax.random.gumbel(key, weights.shape)))
    rank = jnp.cumsum(dead) - 1
    live = ~dead
    dead = dead & (rank < jnp.isfinite(weights).sum())
    directions = unit_rows(centred[order[jnp.clip(rank, 0, x.shape[0] - 1)]])
    norms = jnp.linalg.norm(params.W_enc, axis=0)
    live_norm = jnp.where(live.any(), (norms * live).sum() / jnp.maximum(live.sum(), 1), 1.0)
    scale = jnp.where(anthropic, ANTHROPIC_SCALE * live_norm, 1.0)
    bias = jnp.where(anthropic, 0.0, rule.bias)
    new = params._replace(
        W_enc=jnp.where(dead, scale * directions.T, params.W_enc),
        b_enc=jnp.where(dead, bias, params.b_enc),
        W_dec=jnp.where(dead[:, None], directions, params.W_dec),
    )
    new = architecture.revive(new, dead, bias)

    def forget(moments: Any) -> Params:
        """Moments of every weight that belongs to a dead latent, 0."""
        by_latent = {
            name: jnp.where(dead, 0.0, a)
            for name, a in moments._asdict().items()
            if a is not None and name not in ("W_dec", "b_dec", "threshold")
        }
        return moments._replace(W_dec=jnp.where(dead[:, None], 0.0, moments.W_dec), **by_latent)

    return new, opt_state._replace(mu=forget(opt_state.mu), nu=forget(opt_state.nu))
