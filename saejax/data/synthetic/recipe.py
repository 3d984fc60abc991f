"""Synthetic activations with known features: ground truth and three samplers.

    F       [n_features, d_in]   Gaussian rows scaled to norm 1
    p_i     proportional to decay^i, scaled so that sum_i p_i = avg_active
    codes   [batch, n_features]  strength ~ U[0, 1] where a feature fires, else 0
    x       = codes @ F

The three kinds differ in which features fire together; see `codes`. Further settings replace one
of the lines above: other probabilities (`zipf`), features that need another one (`hierarchy`),
other strengths (`magnitudes`), features that overlap less (`orthogonal`), and a constant added to x
(`bias_norm`). All functions are pure in an explicit key and run inside the compiled training step:
nothing is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from saejax.core import checks
from saejax.core.checks import ABOVE_0, BELOW_1, UP_TO_1
from saejax.core.linalg import unit_rows
from saejax.core.precision import matmul
from saejax.data.synthetic.hierarchy import Codes, Hierarchy, PerFeature, gate, proposals, rates
from saejax.data.synthetic.magnitudes import Magnitudes, means, spreads, strengths
from saejax.data.synthetic.orthogonal import Orthogonal, move_apart
from saejax.data.synthetic.zipf import Zipf, zipf_probabilities

Kind = Literal["uncorrelated", "correlated", "copula"]
KINDS: tuple[str, ...] = get_args(Kind)
PARTS = {"zipf": Zipf, "hierarchy": Hierarchy, "magnitudes": Magnitudes, "orthogonal": Orthogonal}


@dataclass(frozen=True)
class Synthetic:
    """Description of a synthetic data set. Defaults are the published values.

    Args:
        kind: `uncorrelated` fires features independently; `correlated` is the published recipe, in
            which one Gaussian draw per batch decides how likely each feature is in that batch;
            `copula` correlates features within each sample and keeps the firing rates exact.
        d_in: width of the activations.
        n_features: number of ground-truth features.
        avg_active: sum of the firing probabilities: the mean number of active features in a sample,
            except that `correlated` fills empty samples and a `hierarchy` takes some away, see
            `mean_active`. Must stay at its default beside `zipf`, which has a sum of its own.
        feature_decay: ratio of the firing probabilities of successive features, in (0, 1]. Must
            stay at its default beside `zipf`.
        copula_strength: share of each feature's latent variance that is common to others, in
            [0, 1); 0 is the independent case. Only read by `copula`. Factor loadings drawn from
            N(0, scale^2), as SynthSAEBench has them, correspond to `rank * scale^2`: that is their
            mean share, and the root mean square correlation of a pair is then the same,
            `copula_strength / sqrt(copula_rank)`.
        copula_rank: number of common factors. Only read by `copula`.
        zipf: another law of the firing probabilities than `feature_decay`.
        hierarchy: trees in which a child fires only if its parent does.
        magnitudes: strengths that are not uniform in [0, 1].
        orthogonal: features are moved apart first.
        bias_norm: length of a random constant that is added to every sample; None adds none.

    `correlated` is as published and takes no `zipf`, `hierarchy` or `magnitudes`. These and
    `orthogonal` may also be given as mappings of their settings.

    Raises:
        ValueError: naming the argument, when a value is outside its range or does not fit another,
            or when a feature would need a firing probability above 1.

    Source: "Taking features out of superposition with sparse autoencoders" (Sharkey, Braun and
    Millidge, 2022) for the first two kinds; SynthSAEBench (Chanin and Garriga-Alonso, 2026, arXiv
    2602.14687) for what stands beside the kinds.
    """

    kind: Kind = "uncorrelated"
    d_in: int = 256
    n_features: int = 512
    avg_active: float = 5.0
    feature_decay: float = 0.99
    copula_strength: float = 0.5
    copula_rank: int = 8
    zipf: Zipf | None = None
    hierarchy: Hierarchy | None = None
    magnitudes: Magnitudes | None = None
    orthogonal: Orthogonal | None = None
    bias_norm: float | None = None

    def __post_init__(self) -> None:
        checks.check_choice("kind", self.kind, ", ".join(KINDS), KINDS)
        for name in ("d_in", "n_features", "copula_rank"):
            allowed = "1 or more (a whole number)"
            value = checks.check_whole(name, getattr(self, name), allowed, lambda v: v >= 1)
            object.__setattr__(self, name, value)
        numbers = {"feature_decay": UP_TO_1, "copula_strength": BELOW_1, "avg_active": ABOVE_0}
        checks.check_number_fields(self, [(name, *rule) for name, rule in numbers.items()])
        self._check_parts()
        if self.zipf is None:
            self._check_sum()

    def _check_parts(self) -> None:
        for name, part in PARTS.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                value = part(**value)
                object.__setattr__(self, name, value)
            if value is not None and not isinstance(value, part):
                raise ValueError(f"{name}: got {value!r}, allowed: {part.__name__}(...), or None")
            if value is not None and name != "orthogonal" and self.kind == "correlated":
                raise ValueError(f"{name}: got {value!r}, allowed: None with kind 'correlated'")
        if self.bias_norm is not None:
            allowed = "above 0, or None"
            value = checks.check_number("bias_norm", self.bias_norm, allowed, lambda v: v > 0)
            object.__setattr__(self, "bias_norm", value)
        if self.hierarchy is not None and self.hierarchy.ends[-1] > self.n_features:
            raise ValueError(
                f"hierarchy: got {self.hierarchy!r}, which has {self.hierarchy.ends[-1]} features; "
                f"allowed: up to n_features={self.n_features}"
            )
        if self.zipf is not None:
            for name in ("avg_active", "feature_decay"):
                value, default = getattr(self, name), getattr(type(self), name)
                if value != default:
                    raise ValueError(
                        f"{name}: got {value}, allowed: its default {default} beside zipf, which "
                        "fixes the firing probabilities"
                    )

    def _check_sum(self) -> None:
        # decay^i falls with i, so feature 0 is the first to run out of room.
        total = sum(self.feature_decay**i for i in range(self.n_features))
        highest = self.avg_active / total
        if highest > 1:
            raise ValueError(
                f"avg_active: got {self.avg_active}, allowed: up to {total:.4g} with n_features="
                f"{self.n_features} and feature_decay={self.feature_decay}; feature 0 would need a "
                f"firing probability of {highest:.4g}"
            )


class Truth(NamedTuple):
    """What is fixed about a data set once its seed is known."""

    F: Float[Array, "*seeds n_features d_in"]  # ground-truth features, unit rows
    # Firing probabilities, before a batch's draw shifts them; in a hierarchy those of proposals.
    p: Float[Array, "*seeds n_features"]
    # For `correlated`, M with M M^T the covariance of the batch's Gaussian; for `copula`, the
    # unit-norm factor loadings; empty for `uncorrelated`.
    mixing: Float[Array, "*seeds n_features rank"]
    # Standard deviation of each feature's strength, None without `magnitudes`.
    spread: Float[Array, "*seeds n_features"] | None = None
    bias: Float[Array, "*seeds d_in"] | None = None  # added to every sample, with `bias_norm`


def firing_probabilities(spec: Synthetic) -> PerFeature:
    """Probabilities asked for: `p_i = avg_active * decay^i / sum_j decay^j`, or those of `zipf`."""
    if spec.zipf is not None:
        return zipf_probabilities(spec.zipf, spec.n_features)
    weights = spec.feature_decay ** jnp.arange(spec.n_features, dtype=jnp.float32)
    return spec.avg_active * weights / weights.sum()


def firing_rates(spec: Synthetic) -> PerFeature:
    """How often features fire: `firing_probabilities`, less what a hierarchy takes away.

    Exact for `uncorrelated`, and for `copula` without a hierarchy; with one, `copula` is exact for
    roots and features that stand alone, because correlation changes how often a parent and its
    children are proposed together. For `correlated` these are the rates before a batch's draw moves
    them. Strengths that `magnitudes` rectifies to 0 count as firing.
    """
    p = firing_probabilities(spec)
    return p if spec.hierarchy is None else rates(spec.hierarchy, proposals(spec.hierarchy, p))


def mean_active(spec: Synthetic) -> float:
    """Mean number of active features in a sample, the sum of `firing_rates`."""
    return float(firing_rates(spec).sum())


def gaussian_features(spec: Synthetic, key: PRNGKeyArray) -> Float[Array, "n_features d_in"]:
    """The Gaussian vectors that become the features of `truth` once scaled to norm 1."""
    k_features, _ = jax.random.split(key)
    return jax.random.normal(k_features, (spec.n_features, spec.d_in))


def truth(spec: Synthetic, key: PRNGKeyArray) -> Truth:
    """Ground truth of one data set: features, firing probabilities, correlation structure.

    The features depend on the key, n_features and d_in alone, so data sets of different kinds with
    one key share them. For `correlated`, A is symmetric with uniform entries, (U + U^T) / 2; where
    its smallest eigenvalue is negative, 1.001 times its size is added to the diagonal. The square
    root of A is taken from its eigenvectors, because a float32 Cholesky factorisation is unstable
    that close to singular.

    Of all this `orthogonal` costs most, 4 n_features d_in^2 operations for each of its steps.
    """
    _, k_mixing = jax.random.split(key)
    n = spec.n_features
    F = unit_rows(gaussian_features(spec, key))
    if spec.orthogonal is not None:
        F = move_apart(spec.orthogonal, F)
    if spec.kind == "correlated":
        u = jax.random.uniform(k_mixing, (n, n))
        values, vectors = jnp.linalg.eigh((u + u.T) / 2)
        values = values + jnp.where(values[0] < 0, 1.001 * jnp.abs(values[0]), 0.0)
        mixing = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    elif spec.kind == "copula":
        mixing = unit_rows(jax.random.normal(k_mixing, (n, spec.copula_rank)))
    else:
        mixing = jnp.zeros((n, 0))
    p = firing_probabilities(spec)
    if spec.hierarchy is not None:
        p = proposals(spec.hierarchy, p)
    # From 2 on: folding in 0 and 1 may give the two keys of the split again.
    spread = bias = None
    if spec.magnitudes is not None:
        spread = spreads(spec.magnitudes, n, jax.random.fold_in(key, 2))
    if spec.bias_norm is not None:
        direction = jax.random.normal(jax.random.fold_in(key, 3), (1, spec.d_in))
        bias = spec.bias_norm * unit_rows(direction)[0]
    return Truth(F=F, p=p, mixing=mixing, spread=spread, bias=bias)


def _fires(
    spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int
) -> tuple[Bool[Array, "batch n_features"], Codes]:
    """Which features fire, and how strongly: a number uniform in [0, 1] for those that do."""
    shape = (batch_size, spec.n_features)
    k_common, k_own, k_strength = jax.random.split(key, 3)
    if spec.kind == "copula":
        factors = jax.random.normal(k_common, (batch_size, spec.copula_rank))
        own = jax.random.normal(k_own, shape)
        s = spec.copula_strength
        z = s**0.5 * matmul(factors, t.mixing.T) + (1 - s) ** 0.5 * own
        return z < ndtri(t.p), jax.random.uniform(k_strength, shape)
    p = t.p
    if spec.kind == "correlated":
        z = matmul(t.mixing, jax.random.normal(k_common, (spec.n_features, 1)))[:, 0]
        p = norm.cdf(z) * p
        p = spec.avg_active * p / p.sum()
    # A uniform u below p is, divided by p, uniform in [0, 1) again: one draw serves both purposes,
    # and drawing is what a batch costs. Above 1 the division would shrink the strengths.
    p = jnp.minimum(p, 1.0)
    u = jax.random.uniform(k_own, shape)
    return u < p, u / p


def codes(spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int) -> Codes:
    """True feature activations of a batch of samples.

    - `uncorrelated`: independent Bernoulli(p_i).
    - `correlated`: one z ~ N(0, A) for the whole batch; probabilities Phi(z_i) p_i rescaled to the
      sum avg_active (a rare one above 1 always fires); a sample in which nothing fired gets one
      feature at random with strength 1.
    - `copula`: per sample z ~ N(0, s W W^T + (1 - s) I), W the loadings [n_features, rank] of norm
      1 and s `copula_strength`; feature i fires where z_i < Phi^-1(p_i), so its rate is exactly p_i
      and pairs co-fire with the bivariate normal probability of their correlation.

    With a hierarchy these are proposals, of which `saejax.data.synthetic.hierarchy.gate` keeps what
    the forest allows.
    """
    k_fires, k_second = jax.random.split(key)
    active, strength = _fires(spec, t, k_fires, batch_size)
    mean = jnp.full(spec.n_features, 0.5)
    if spec.magnitudes is not None:
        assert t.spread is not None
        strength = strengths(spec.magnitudes, t.spread, strength)
        mean = means(spec.magnitudes, spec.n_features)
    c = jnp.where(active, strength, 0.0)
    if spec.kind == "correlated":
        filler = jax.random.randint(k_second, (batch_size,), 0, spec.n_features)
        c = jnp.where(active.any(-1, keepdims=True), c, jax.nn.one_hot(filler, spec.n_features))
    return c if spec.hierarchy is None else gate(spec.hierarchy, c, mean, k_second)


def sample(
    spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int
) -> Float[Array, "batch d_in"]:
    """A batch of samples `x = codes @ F`, plus the bias where there is one."""
    x = matmul(codes(spec, t, key, batch_size), t.F)
    return x if t.bias is None else x + t.bias
