"""How the latents of an SAE tell groups of tokens apart: purity and gap of every latent and group.

With h_tj >= 0 the activation of latent j on token t, and g a group of tokens:

    purity_gj = sum_{t in g} h_tj / sum_t h_tj
    gap_gj    = (min_{t in g} h_tj - max_{t not in g} h_tj) / max_t h_tj

The purity, in [0, 1], is the share of the latent's activation that falls on the group. The gap, in
[-1, 1], is positive exactly where one threshold on the latent accepts all tokens of the group and
no other. Neither changes when a latent is scaled. Purity alone would credit a latent that knows one
token of the group, gap alone one that is only slightly stronger there; a group's own latent has
both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from saejax.core.checks import check_number
from saejax.core.stats import LEVEL, wilson


class Separation(NamedTuple):
    """Purity and gap of each group and latent, NaN for a dead latent, and what follows from them.

    A latent separates a group where the gap is positive, and is the group's own where the purity is
    high as well.
    """

    purity: Float[Array, "*cells groups d_sae"]
    gap: Float[Array, "*cells groups d_sae"]
    separates: Bool[Array, "*cells groups d_sae"]
    own: Bool[Array, "*cells groups d_sae"]


def separation(
    h: Float[Array, "*cells tokens d_sae"],
    member: Bool[np.ndarray, "groups tokens"],
    dead_threshold: float = 0.0,
    own_purity: float = 0.9,
) -> Separation:
    """Purity and gap (equations above) of every latent and group, and what follows from them.

    A latent may be the own one of several groups, where one holds another. Groups are taken one
    after the other, so that memory is that of a few copies of h whatever their number.

    Args:
        h: activations, 0 or more.
        member: whether a token belongs to a group; on the host, because it is checked first.
        dead_threshold: a latent never above it is dead, in units of activation.
        own_purity: purity from which a latent that separates a group is its own.

    Raises:
        ValueError: for a group that is empty or leaves out no token, a `member` that does not fit
            the tokens, and a threshold outside its range.
    """
    if member.ndim != 2 or member.dtype != bool or member.shape[1] != h.shape[-2]:
        raise ValueError(
            f"member: got {member.dtype} of shape {member.shape}, allowed: bool of shape "
            f"[groups, {h.shape[-2]} tokens]"
        )
    for g, n in enumerate(member.sum(1)):
        if not 0 < n < member.shape[1]:
            raise ValueError(
                f"member: got group {g} with {n} of {member.shape[1]} tokens, allowed: at least "
                "one token inside and one outside"
            )
    check_number("dead_threshold", dead_threshold, "0 or more", lambda v: v >= 0)
    check_number("own_purity", own_purity, "above 0, up to 1", lambda v: 0 < v <= 1)
    highest = h.max(-2)
    live = highest > dead_threshold
    scale = jnp.where(live, highest, jnp.nan)

    def one(inside: Bool[Array, " tokens"]) -> Separation:
        column = inside[:, None]
        within = jnp.where(column, h, 0.0).sum(-2)
        elsewhere = jnp.where(column, 0.0, h).sum(-2)
        # A latent that is silent elsewhere has purity 1 without rounding.
        purity = jnp.where(live, within / (within + elsewhere), jnp.nan)
        lowest_within = jnp.where(column, h, jnp.inf).min(-2)
        highest_elsewhere = jnp.where(column, -jnp.inf, h).max(-2)
        # Compared before the division, in which a small difference may vanish.
        separates = live & (lowest_within > highest_elsewhere)
        gap = (lowest_within - highest_elsewhere) / scale
        return Separation(purity, gap, separates, separates & (purity >= own_purity))

    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -2), jax.lax.map(one, jnp.asarray(member)))


def order_latents(
    h: Float[np.ndarray, "*cells tokens d_sae"], dead_threshold: float = 0.0
) -> Int[np.ndarray, "*cells d_sae"]:
    """An order of the latents for a heat map, in which those of alike response stand side by side.

    A latent responds to a token where it reaches half of its largest activation. Live latents are
    sorted by the set of tokens they respond to, read as a word of ones and zeros, ones first: with
    tokens that stand group by group, latents of the first group come first, and those of the whole
    group before those of a part of it. Within one set they are sorted by their mean token position,
    `sum_t t h_tj / sum_t h_tj`, and then by their index. Dead latents, never above
    `dead_threshold`, come last, in the order of their indices.

    Returns:
        Indices of latents: `np.take_along_axis(h, order[..., None, :], -1)` is the heat map.
    """
    check_number("dead_threshold", dead_threshold, "0 or more", lambda v: v >= 0)
    highest = h.max(-2, keepdims=True)
    live = highest > dead_threshold
    share = np.where(live, h, 0.0) / np.where(live, highest, 1.0)
    responds = np.moveaxis(share >= 0.5, -2, 0)
    positions = np.arange(h.shape[-2])[:, None]
    total = np.where(live[..., 0, :], share.sum(-2), 1.0)
    centre = (positions * share).sum(-2) / total
    # lexsort takes its most important key last; False sorts before True. A dead latent responds to
    # no token and a live one to at least one, so that the dead ones come last.
    return np.lexsort((centre, *~responds[::-1]), axis=-1)


class OwnRate(NamedTuple):
    """Share of the seeds in which a group has a latent of its own, and the mean number of these.

    `low` and `high` are the ends of the share's Wilson interval, 95 %.
    """

    share: Float[np.ndarray, "*cells groups"]
    low: Float[np.ndarray, "*cells groups"]
    high: Float[np.ndarray, "*cells groups"]
    mean_latents: Float[np.ndarray, "*cells groups"]


def own_rate(own: Bool[np.ndarray, "seeds *cells groups d_sae"]) -> OwnRate:
    """How often each group gets a latent of its own, from `Separation.own` with the seeds first.

    The interval is Wilson's (`saejax.core.stats.wilson`). Unlike that of the normal approximation
    it stays within [0, 1] and has a width where the share is 0 or 1.
    """
    n = own.shape[0]
    if n < 1:
        raise ValueError("own: got 0 seeds, allowed: 1 or more")
    n_with_own = own.any(-1).sum(0)
    # Of every possible number once: there are more groups and cells than seeds.
    low, high = wilson(np.arange(n + 1), n, LEVEL)
    return OwnRate(n_with_own / n, low[n_with_own], high[n_with_own], own.sum(-1).mean(0))
