"""Features that need another: a forest in which a child fires only if its parent does.

Features are numbered level by level, parents in order and the children of one parent side by side.
With R roots and B children for each parent, level l is R B^l features in a row, so children and
their parents meet by a reshape and nothing is looked up. Features behind the forest stand alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from saejax.core.checks import check_switch, check_whole_fields

PerFeature = Float[Array, " n_features"]
Codes = Float[Array, "batch n_features"]
# Samples that are gated at once.
BLOCK = 256


@dataclass(frozen=True)
class Hierarchy:
    """Shape of the forest, and what a parent does to its children.

    Args:
        roots: number of trees.
        branching: children of every parent.
        depth: levels below the roots.
        exclusive: of the children of one parent at most one fires in a sample.
        scaled: a child's activation is multiplied by its parent's, divided by the parent's mean.

    Source: SynthSAEBench (arXiv 2602.14687), whose values are the defaults.
    """

    roots: int = 128
    branching: int = 4
    depth: int = 3
    exclusive: bool = True
    scaled: bool = True

    def __post_init__(self) -> None:
        check_whole_fields(self, {"roots": 1, "branching": 1, "depth": 1})
        for name in ("exclusive", "scaled"):
            object.__setattr__(self, name, check_switch(name, getattr(self, name)))

    @property
    def ends(self) -> tuple[int, ...]:
        """Number of features from the roots down to each level; the last is the whole forest's."""
        levels = [self.roots * self.branching**i for i in range(self.depth + 1)]
        return tuple(int(n) for n in np.cumsum(levels))


def proposals(h: Hierarchy, p: PerFeature) -> PerFeature:
    """Probabilities q with which features are proposed, so that about p of them remain.

        q_i = p_i                                               roots, and features that stand alone
        q_i = min(1, p_i / P)                                   children of a parent with p = P
        q_i = min(1, p_i / P (1 + sum_j p_j / P))               the same, exclusive; j: the siblings

    A child that is proposed fires if its parent does; of exclusive siblings that are proposed
    together one is chosen at random. What remains is `rates`: p itself for roots and features that
    stand alone, and without `exclusive` also in trees in which no child is asked to fire more often
    than its parent. For exclusive children it is p approximately. With S the sum, rare ones fire
    1 + S / 2 times as often as asked, because S competitors cost about S / 2. And siblings that are
    asked to fire more often together than their parent cannot: they share what their parent has.

    Source: SynthSAEBench (arXiv 2602.14687).
    """
    parts = [p[: h.roots]]
    for parents, children in _levels(h, p):
        share = children / parents[:, None]
        if h.exclusive:
            share *= 1 + share.sum(1, keepdims=True) - share
        parts.append(jnp.minimum(share, 1.0).ravel())
    return jnp.concatenate([*parts, p[h.ends[-1] :]])


def rates(h: Hierarchy, q: PerFeature) -> PerFeature:
    """Rates at which features fire that are proposed independently with probabilities q.

        r_i = r_parent q_i E[1 / (1 + N_i)],   N_i: how many siblings of i are proposed

    Without `exclusive` the mean is 1. It is the integral over t in [0, 1] of the product over
    siblings j of 1 - q_j + q_j t, a polynomial, which Gauss-Legendre quadrature gives exactly.
    """
    nodes, weights = np.polynomial.legendre.leggauss((h.branching + 1) // 2)
    t = jnp.asarray((nodes + 1) / 2, jnp.float32)
    above = q[: h.roots]
    parts = [above]
    for _, children in _levels(h, q):
        kept = children
        if h.exclusive:
            left = 1 - children[..., None] * (1 - t)
            kept = children * (_others(left) @ jnp.asarray(weights / 2, jnp.float32))
        above = (above[:, None] * kept).ravel()
        parts.append(above)
    return jnp.concatenate([*parts, q[h.ends[-1] :]])


def _others(x: Float[Array, "parents branching nodes"]) -> Float[Array, "parents branching nodes"]:
    """For each sibling the product over all others; no division, because a factor may be 0."""
    one = jnp.ones_like(x[:, :1])
    before = jnp.cumprod(jnp.concatenate([one, x[:, :-1]], 1), 1)
    behind = jnp.cumprod(jnp.concatenate([one, x[:, :0:-1]], 1), 1)[:, ::-1]
    return before * behind


def _levels(h: Hierarchy, x: PerFeature) -> list[tuple[Array, Array]]:
    """Values of parents [parents] and of their children [parents, branching], level by level."""
    return [(x[a:b], x[b:c].reshape(-1, h.branching)) for a, b, c in _bounds(h)]


def _bounds(h: Hierarchy) -> Iterator[tuple[int, int, int]]:
    """For each level below the roots: the index where its parents start, its own start and end."""
    starts = (0, *h.ends)
    return zip(starts, starts[1:], starts[2:], strict=False)


def gate(h: Hierarchy, codes: Codes, mean: PerFeature, key: PRNGKeyArray) -> Codes:
    """Proposed activations without those that the forest does not allow.

    From the roots down: a child whose parent is 0 becomes 0; of exclusive siblings above 0 one
    stays, each with the same probability; with `scaled` it is multiplied by `parent / mean of the
    parent`, where the parent has been scaled already. `mean` is each feature's mean activation
    where it fires; the key decides which siblings stay.
    """
    chance = jax.random.uniform(key, (codes.shape[0], h.ends[-2]))
    # A loop over blocks of samples, or the compiler of a CPU would draw every activation anew where
    # it is read, which took 2.7 times as long.
    one = partial(_gate_sample, h, mean=mean)
    return jax.lax.map(lambda both: one(*both), (codes, chance), batch_size=BLOCK)


def _gate_sample(
    h: Hierarchy, codes: PerFeature, chance: Float[Array, " parents"], mean: PerFeature
) -> PerFeature:
    above = codes[: h.roots]
    parts = [above]
    for a, b, c in _bounds(h):
        children = codes[b:c].reshape(-1, h.branching)
        active = (children > 0) & (above > 0)[:, None]
        if h.exclusive:
            rank = jnp.cumsum(active, 1)
            # Ranks of the active ones count from 1 to n, and chance is below 1.
            active &= rank == 1 + jnp.floor(chance[a:b] * rank[:, -1])[:, None]
        children = jnp.where(active, children, 0.0)
        if h.scaled:
            children *= (above / mean[a:b])[:, None]
        above = children.ravel()
        parts.append(above)
    return jnp.concatenate([*parts, codes[h.ends[-1] :]])
