"""The metrics: pure functions of one SAE, which callers map over cells.

Products here are always float32, whatever the training used.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saejax.core.devices import over
from saejax.core.linalg import cosines, unit_rows
from saejax.core.precision import matmul
from saejax.metrics import firing
from saejax.sae.params import STANDARD, Params, SAEConfig
from saejax.sae.registry import Architecture, ReLU
from saejax.sae.relu import sparsity_scale


class Seen(NamedTuple):
    """What a user's metric is computed from: one SAE on one evaluation batch.

    Attributes:
        params: its weights.
        x: the batch.
        h: activations.
        x_hat: reconstructions.
        features: the true features, unit rows; None where they are unknown.
        active: which of them are in each sample, likewise.
    """

    params: Params
    x: Float[Array, "batch d_in"]
    h: Float[Array, "batch d_sae"]
    x_hat: Float[Array, "batch d_in"]
    features: Float[Array, "n_features d_in"] | None
    active: Bool[Array, "batch n_features"] | None


Metric = Callable[[Seen], Float[Array, ""]]


class Subject(NamedTuple):
    """The SAE that is measured, its swept numbers, and how it encodes."""

    params: Params
    l1: Float[Array, ""] | float = 0
    k: Float[Array, ""] | float = 0
    config: SAEConfig = STANDARD
    architecture: Architecture = ReLU()

    def encode(self, x: Float[Array, "batch d_in"]) -> Float[Array, "batch d_sae"]:
        """Its activations."""
        return self.architecture.encode(self.params, x, self.k, self.config)


class Samples(NamedTuple):
    """Evaluation batches; where known, the true features (unit rows) and which a sample has.

    Batches only bound the memory, results are over all samples.
    """

    x: Float[Array, "n_batches batch d_in"]
    features: Float[Array, "n_features d_in"] | None = None
    active: Bool[Array, "n_batches batch n_features"] | None = None


def mmcs(G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]) -> Float[Array, ""]:
    """Mean maximum cosine similarity, `mean over g in G of max over d in D of cos(g, d)`.

    Not symmetric: with G the true features it asks how many were found, with G the dictionary how
    many latents are true features. Rows of G are taken in blocks, so that two wide dictionaries
    never need their full cosine matrix at once.

    Source: Sharkey, Braun and Millidge (2022).
    """
    D = unit_rows(D)
    return jax.lax.map(lambda g: matmul(D, g[:, None]).max(), unit_rows(G), batch_size=1024).mean()


def reconstruction(
    sae: Subject,
    samples: Samples,
    dead_threshold: float = 0.0,
    axis: str | None = None,
    own: Mapping[str, Metric] | None = None,
    feature_of: Int[Array, " d_sae"] | None = None,
) -> dict[str, Float[Array, ""]]:
    """How well and how sparsely an SAE reconstructs the evaluation batches.

        mse           mean over samples and d_in of (x_hat - x)^2
        l1_loss       l1 * sparsity, so that mse + l1_loss is the training objective of a ReLU; see
                      `Architecture.penalized` for what the others multiply
        l0            mean number of active latents (h > 0) of a sample
        fvu           sum (x_hat - x)^2 / sum (x - mean x)^2, fraction of variance unexplained; not
                      finite for data that are constant
        dead_latents  number of latents whose activation never exceeds `dead_threshold`
        precision, recall, f1
                      how well the firing of latents detects their features, where it is known when
                      those are there; see `saejax.metrics.firing`

    Args:
        sae: what is measured.
        samples: on which.
        dead_threshold: in units of activation.
        axis: of the devices over which the samples are divided, None where one has them all.
        own: further metrics by name, of which the mean over batches (and devices) is taken.
        feature_of: each latent's feature, from `recovery`.
    """
    (n_batches, batch, d_in), d_sae = samples.x.shape, sae.params.b_enc.shape[0]
    n_samples = over(axis, jax.lax.psum, n_batches * batch)
    own = own or {}

    def add(total: tuple, part: tuple) -> tuple[tuple, None]:
        x, active = part
        squared_error, penalized, fired, highest, further, counted = total
        h = sae.encode(x)
        x_hat = sae.architecture.decode(sae.params, h)
        seen = Seen(sae.params, x, h, x_hat, samples.features, active)
        further = {name: value + own[name](seen) for name, value in further.items()}
        squared_error += jnp.sum((x_hat - x) ** 2)
        penalized += sae.architecture.penalized(sae.params, x, h, sae.config).sum()
        fired += jnp.sum(h > 0, dtype=jnp.float32)
        if active is not None and feature_of is not None:
            counted = jax.tree.map(jnp.add, counted, firing.counts(h, active, feature_of))
        highest = jnp.maximum(highest, h.max(0))
        return (squared_error, penalized, fired, highest, further, counted), None

    zero = jnp.zeros(())
    none = jnp.zeros(d_sae)
    total = (zero, zero, zero, none, dict.fromkeys(own, zero), firing.Counts(none, none, none))
    batches = samples.x, samples.active
    (*sums, highest, further, counted), _ = jax.lax.scan(add, total, batches)
    mean = over(axis, jax.lax.pmean, samples.x.mean((0, 1)))
    sums = *sums, jnp.sum((samples.x - mean) ** 2)
    squared_error, penalized, fired, variance = over(axis, jax.lax.psum, sums)
    highest = over(axis, jax.lax.pmax, highest)
    further = over(axis, jax.lax.pmean, further)
    sparsity = penalized / n_samples * sparsity_scale(sae.config, d_sae)
    detected = {}
    if samples.active is not None and feature_of is not None:
        detected = firing.scores(over(axis, jax.lax.psum, counted))
    return detected | {
        "mse": squared_error / (n_samples * d_in),
        "l1_loss": sae.l1 * sparsity,
        "l0": fired / n_samples,
        "fvu": squared_error / variance,
        "dead_latents": jnp.sum(highest <= dead_threshold, dtype=jnp.float32),
        **{name: value / n_batches for name, value in further.items()},
    }


def alive(
    sae: Subject,
    batches: Float[Array, "n_batches batch d_in"],
    dead_threshold: float = 0.0,
    axis: str | None = None,
) -> Bool[Array, " d_sae"]:
    """Which latents exceed `dead_threshold` on the evaluation batches: those that are not dead.

    Arguments as in `reconstruction`, whose `dead_latents` counts the others.
    """

    def add(highest: Float[Array, " d_sae"], x: Float[Array, "batch d_in"]) -> tuple[Any, None]:
        return jnp.maximum(highest, sae.encode(x).max(0)), None

    highest, _ = jax.lax.scan(add, jnp.zeros(sae.params.b_enc.shape), batches)
    return over(axis, jax.lax.pmax, highest) > dead_threshold


class Recovered(NamedTuple):
    """How a dictionary and the true features match.

    Attributes:
        scores: `mmcs_true_to_dict`, `mmcs_dict_to_true`, `uniqueness` (`saejax.metrics.firing`).
        best_index: for each true feature its best latent.
        best_cosine: their cosine, the feature's representedness.
        feature_of: for each latent the true feature of the largest |cosine|.
    """

    scores: dict[str, Float[Array, ""]]
    best_index: Int[Array, " n_features"]
    best_cosine: Float[Array, " n_features"]
    feature_of: Int[Array, " d_sae"]


def recovery(params: Params, F: Float[Array, "n_features d_in"]) -> Recovered:
    """How well a dictionary recovers the true features."""
    cos = cosines(F, params.W_dec)
    best = cos.max(-1)
    feature_of = jnp.argmax(jnp.abs(cos), axis=0).astype(jnp.int32)
    scores = {
        "mmcs_true_to_dict": best.mean(),
        "mmcs_dict_to_true": cos.max(0).mean(),
        "uniqueness": firing.uniqueness(feature_of, F.shape[0]),
    }
    return Recovered(scores, jnp.argmax(cos, axis=-1).astype(jnp.int32), best, feature_of)
