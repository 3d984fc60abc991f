"""Synthetic activations with known features: ground truth and three samplers.

    F       [n_features, d_in]   Gaussian rows scaled to norm 1
    p_i     proportional to decay^i, scaled so that sum_i p_i = avg_active
    codes   [batch, n_features]  strength ~ U[0, 1] where a feature fires, else 0
    x       = codes @ F

Which features fire together is what the three kinds differ in; see `codes`. All functions are pure
in an explicit key and run inside the compiled training step: nothing is stored.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from saejax.checks import check_number, check_whole
from saejax.precision import matmul
from saejax.sae import unit_rows

Kind = Literal["uncorrelated", "correlated", "copula"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Synthetic:
    """Description of a synthetic data set. Defaults are the published values.

    Args:
        kind: `uncorrelated` fires features independently; `correlated` is the published recipe, in
            which one Gaussian draw per batch decides how likely each feature is in that batch;
            `copula` correlates features within each sample and keeps the firing rates exact.
        d_in: width of the activations.
        n_features: number of ground-truth features.
        avg_active: mean number of active features in a sample.
        feature_decay: ratio of the firing probabilities of successive features, in (0, 1].
        copula_strength: share of each feature's latent variance that is common to others, in
            [0, 1); 0 is the independent case. Only read by `copula`.
        copula_rank: number of common factors. Only read by `copula`.

    Raises:
        ValueError: naming the argument, when a value is outside its range or when a feature would
            need a firing probability above 1.

    Source: "Taking features out of superposition with sparse autoencoders" (Sharkey, Braun and
    Millidge, 2022) for the first two kinds.
    """

    kind: Kind = "uncorrelated"
    d_in: int = 256
    n_features: int = 512
    avg_active: float = 5.0
    feature_decay: float = 0.99
    copula_strength: float = 0.5
    copula_rank: int = 8

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}, allowed: {', '.join(KINDS)}")
        for name in ("d_in", "n_features", "copula_rank"):
            allowed = "1 or more (a whole number)"
            value = check_whole(name, getattr(self, name), allowed, lambda v: v >= 1)
            object.__setattr__(self, name, value)
        for name, allowed, ok in (
            ("feature_decay", "above 0, up to 1 (a number)", lambda v: 0 < v <= 1),
            ("copula_strength", "from 0 to below 1 (a number)", lambda v: 0 <= v < 1),
            ("avg_active", "above 0 (a number)", lambda v: v > 0),
        ):
            object.__setattr__(self, name, check_number(name, getattr(self, name), allowed, ok))
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
    """What is fixed about one data set once its seed is known.

    Attributes:
        F: ground-truth features, unit rows.
        p: firing probability of each feature, before a batch's draw shifts it.
        mixing: for `correlated`, M with M M^T the covariance of the batch's Gaussian; for `copula`,
            the unit-norm factor loadings; empty for `uncorrelated`.
    """

    F: Float[Array, "*seeds n_features d_in"]
    p: Float[Array, "*seeds n_features"]
    mixing: Float[Array, "*seeds n_features rank"]


def firing_probabilities(spec: Synthetic) -> Float[Array, " n_features"]:
    """Probabilities `p_i = avg_active * decay^i / sum_j decay^j`, each at most 1."""
    weights = spec.feature_decay ** jnp.arange(spec.n_features, dtype=jnp.float32)
    return spec.avg_active * weights / weights.sum()


def gaussian_features(spec: Synthetic, key: PRNGKeyArray) -> Float[Array, "n_features d_in"]:
    """The Gaussian vectors that become the features of `truth` once scaled to norm 1."""
    k_features, _ = jax.random.split(key)
    return jax.random.normal(k_features, (spec.n_features, spec.d_in))


def truth(spec: Synthetic, key: PRNGKeyArray) -> Truth:
    """Ground truth of one data set: features, firing probabilities, correlation structure.

    The features depend on the key, n_features and d_in alone, so data sets of different kinds with
    one key share them. For `correlated`, A is symmetric with uniform entries,
    (U + U^T) / 2; where its smallest eigenvalue is negative, 1.001 times its size is added to the
    diagonal. The square root of A is taken from its eigenvectors, because a float32 Cholesky
    factorisation is unstable that close to singular.

    Args:
        spec: the data set.
        key: the seed of the data set.
    """
    _, k_mixing = jax.random.split(key)
    n = spec.n_features
    F = unit_rows(gaussian_features(spec, key))
    if spec.kind == "correlated":
        u = jax.random.uniform(k_mixing, (n, n))
        values, vectors = jnp.linalg.eigh((u + u.T) / 2)
        values = values + jnp.where(values[0] < 0, 1.001 * jnp.abs(values[0]), 0.0)
        mixing = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    elif spec.kind == "copula":
        mixing = unit_rows(jax.random.normal(k_mixing, (n, spec.copula_rank)))
    else:
        mixing = jnp.zeros((n, 0))
    return Truth(F=F, p=firing_probabilities(spec), mixing=mixing)


def copula_correlation(spec: Synthetic, t: Truth) -> Float[Array, "n_features n_features"]:
    """Correlation matrix of the copula's latent Gaussian, `s W W^T + (1 - s) I` with unit diagonal.

    W [n_features, rank] has unit rows and s is `copula_strength`, so features i and j are coupled
    by s times the cosine of their loadings.
    """
    s = spec.copula_strength
    return s * matmul(t.mixing, t.mixing.T) + (1 - s) * jnp.eye(t.mixing.shape[0])


def _fires(
    spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int
) -> tuple[Bool[Array, "batch n_features"], Float[Array, "batch n_features"]]:
    """Which features fire, and how strongly where they do."""
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


def codes(
    spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int
) -> Float[Array, "batch n_features"]:
    """True feature activations of a batch of samples.

    - `uncorrelated`: independent Bernoulli(p_i).
    - `correlated`: one z ~ N(0, A) for the whole batch; probabilities Phi(z_i) p_i rescaled to the
      sum avg_active (a rare one above 1 always fires); a sample in which nothing fired gets one
      feature at random with strength 1.
    - `copula`: per sample z ~ N(0, C) with C = `copula_correlation`; feature i fires where
      z_i < Phi^-1(p_i), so its rate is exactly p_i and pairs co-fire with the bivariate normal
      probability of their correlation.

    Args:
        spec: the data set.
        t: its ground truth.
        key: randomness of this batch.
        batch_size: number of samples.
    """
    k_fires, k_fill = jax.random.split(key)
    active, strength = _fires(spec, t, k_fires, batch_size)
    c = jnp.where(active, strength, 0.0)
    if spec.kind == "correlated":
        filler = jax.random.randint(k_fill, (batch_size,), 0, spec.n_features)
        c = jnp.where(active.any(-1, keepdims=True), c, jax.nn.one_hot(filler, spec.n_features))
    return c


def sample(spec: Synthetic, t: Truth, key: PRNGKeyArray, batch_size: int) -> Float[Array, "batch d_in"]:
    """A batch of activations, `x = codes @ F`. Arguments as in `codes`."""
    return matmul(codes(spec, t, key, batch_size), t.F)
