"""Dead latents: which ones are dead, and the re-initialisation that revives them.

Every `every` steps, dead latents of the cells that ask for it take over the direction of an input
that is badly explained:

    b      drawn with probability p_b
    u      = (x_b - b_dec) / |x_b - b_dec|
    W_enc[:, j] = scale u,  W_dec[j] = u,  b_enc[j] = bias,  Adam moments of latent j = 0

             p_b proportional to         scale                          bias
    "on"         loss_b                  1                              slightly negative
    "anthropic"  loss_b^2                0.2 x mean norm of the live    0
                                         latents' columns of W_enc

    loss_b = mse_b + l1 * penalty_b

penalty_b is `Architecture.penalized` of the sample, reduced as `l1_reduction` says, also where a
user's objective is trained for, which need not be a mean over samples. Auxiliary losses do not
count.

A latent is dead if its activation never exceeded `threshold` in the `window` steps before. Two ways
leave the weights alone and give dead latents a gradient: "ghost" (`saejax.sae.ghost`) and, of
architectures that set the number of active latents, "auxk" (`saejax.sae.topk`).

Samples are drawn without replacement: two latents with the direction of one sample would have the
same weights, moments and gradients for good. Where more latents are dead than samples are at hand
the others wait for the next time.

Sources: "on", the GPT-2 text; "anthropic", "Towards Monosemanticity" (Bricken et al., 2023),
section "Neuron resampling". Drawing without replacement: dictionary_learning (Marks and others,
2024).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from saejax.core.checks import FROM_0, check_number, check_whole
from saejax.core.devices import over
from saejax.core.linalg import unit_rows
from saejax.core.precision import Precision
from saejax.sae.params import Inputs, Mask, Params, PerLatent, SAEConfig, Scalar
from saejax.sae.registry import Architecture, ReLU
from saejax.sae.relu import encode, sparsity_scale

# Values of the axis `resample`. The compiled step reads their indices.
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
        window: training batches of silence before a resampling that make a latent dead; None is 10,
            or `every` where that is less.
        threshold: activation that counts as silence.
        bias: what b_enc of a latent revived by "on" is set to; slightly negative, so that it fires
            only on inputs close to the one it took over.
        ghost_after: training batches of silence after which "ghost" gives a latent gradients; 0
            never does.
        aux_after: likewise for "auxk".
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
        window, last = self.window, every or float("inf")
        if window is not None:
            allowed = f"1 {f'to resample_every={every}' if every else 'or more'} (a whole number)"
            window = check_whole("resample window", window, allowed, lambda v: 1 <= v <= last)
        checked = {
            "every": every,
            "window": window,
            "threshold": check_number("resample threshold", self.threshold, *FROM_0),
            "bias": check_number("resample bias", self.bias, "a finite number"),
            "ghost_after": check_whole("ghost_after", self.ghost_after, often, lambda v: v >= 0),
            "aux_after": check_whole("aux_after", self.aux_after, often, lambda v: v >= 0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def window_steps(self) -> int:
        """Length of the window in steps, `min(10, every)` where none was asked for."""
        return min(10, self.every) if self.window is None else self.window

    @property
    def watches(self) -> bool:
        """Whether it matters how long latents have been silent."""
        return bool(self.every or self.ghost_after or self.aux_after)

    def is_due(self, steps_done: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether latents are revived once this many steps are done."""
        return steps_done % self.every == 0


def observe(
    silent: Int[Array, " d_sae"],
    revival: Int[Array, ""] | int,
    params: Params,
    x: Inputs,
    step: Int[Array, ""],
    config: SAEConfig,
    rule: Resample,
    precision: Precision = "highest",
    axis: str | None = None,
    highest: PerLatent | None = None,
) -> Int[Array, " d_sae"]:
    """Batches since each latent last exceeded the threshold, this one among them.

    With "ghost" and "auxk" all batches count. With "on" and "anthropic" those since the current
    window opened; outside it nothing is computed. With "off" nothing ever is.

    Args:
        silent: the counts before this batch.
        revival: index in `REVIVALS`.
        params: one SAE, before its update on this batch.
        x: the batch, or the part of it that this device of `axis` has.
        step: number of steps done before this one.
        highest: each latent's largest activation in the batch; None: that of a ReLU, computed here
            where it is needed.
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
        here = encode(params, x, config, precision).max(0) if highest is None else highest
        fires = over(axis, jax.lax.pmax, here) > rule.threshold
        return jnp.where(fires, 0, jnp.where(opens, 0, silent) + 1)

    def keep() -> Int[Array, " d_sae"]:
        return silent

    # The outer branch depends on the step alone. The inner one differs from cell to cell; for cells
    # side by side it becomes a selection between two results that are both computed.
    return jax.lax.cond(anybody_looks, lambda: jax.lax.cond(looks, look, keep), keep)


def revive(
    key: PRNGKeyArray,
    params: Params,
    opt_state: optax.ScaleByAdamState,
    dead: Mask,
    x: Inputs,
    l1: Scalar | float,
    config: SAEConfig,
    rule: Resample,
    precision: Precision = "highest",
    revival: Int[Array, ""] | int = ON,
    architecture: Architecture = RELU,
    k: Scalar | float = 0,
) -> tuple[Params, optax.ScaleByAdamState]:
    """Weights and moments after the dead latents were re-initialised; the others are untouched.

    Samples equal to b_dec have no direction and are never drawn. Where too few samples may be
    drawn, the first of the dead latents are revived. `revival` is `ON` or `ANTHROPIC`.
    """
    anthropic = jnp.asarray(revival) == ANTHROPIC
    centred = x if params.b_dec is None else x - params.b_dec
    has_direction = jnp.linalg.norm(centred, axis=-1) > 0
    h = architecture.encode(params, x, k, config, precision)
    mse = jnp.mean((architecture.decode(params, h, precision) - x) ** 2, axis=-1)
    penalty = sparsity_scale(config, h.shape[-1]) * architecture.penalized(params, x, h, config)
    loss = mse + l1 * penalty
    # Twice the logarithm, because float32 could not hold the square of a large loss.
    weights = jnp.log(jnp.where(has_direction, loss, 0.0)) * jnp.where(anthropic, 2.0, 1.0)
    # A batch explained perfectly leaves no weight anywhere: then all directions are equally good.
    even = jnp.where(has_direction, 0.0, -jnp.inf)
    weights = jnp.where(jnp.isfinite(weights).any(), weights, even)
    # The largest of log p + Gumbel noise is a draw with probability p; the next, one from the rest.
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
        """Moments with those of weights of dead latents set to 0."""
        others = ("W_dec", "b_dec", "threshold")
        by_latent = {
            name: jnp.where(dead, 0.0, a)
            for name, a in moments._asdict().items()
            if a is not None and name not in others
        }
        return moments._replace(W_dec=jnp.where(dead[:, None], 0.0, moments.W_dec), **by_latent)

    return new, opt_state._replace(mu=forget(opt_state.mu), nu=forget(opt_state.nu))
