"""TopK and BatchTopK: exactly k active latents, of each sample or of a batch on average.

    h     = TopK(relu((x - b_dec) @ W_enc + b_enc))
    loss  = mse + aux_coefficient * aux
    aux   = mean over batch and d_in of (e - e_hat)^2
    e     = x - x_hat, a constant of the gradient
    e_hat = z @ W_dec,  z = the aux_k largest of (x - b_dec) @ W_enc + b_enc among the dead latents

TopK keeps the k largest activations of each sample, BatchTopK the k times batch largest of a batch.
What is kept has the gradient of a ReLU, the choice has none. The auxiliary loss ("AuxK") is there
for cells whose `resample` is "auxk", from `Resample.aux_after` silent steps on. z has no ReLU, as
in the paper's equation: a dead latent's preactivation is mostly negative, and behind a ReLU its
encoder would get no gradient.

Once training is over BatchTopK encodes each sample by itself: active is what exceeds `threshold`,
the mean over training batches of the smallest activation that was kept. Here it is a running mean.

Where equal activations stand at the border all of them are kept.

Sources: Gao et al. (2024), Scaling and evaluating sparse autoencoders (arXiv 2406.04093), sections
2.3 and A.2; Bussmann, Leask and Nanda (2024), BatchTopK sparse autoencoders (arXiv 2412.06410).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saejax.core.checks import FROM_0, check_number_fields, check_whole
from saejax.core.devices import over
from saejax.core.precision import Precision, matmul
from saejax.sae import relu
from saejax.sae.architecture import Architecture, Loss, Swept
from saejax.sae.params import Inputs, Latents, Mask, Params, SAEConfig, Scalar

# Share of a new batch in the running mean of thresholds.
RATE = 0.01


@dataclass(frozen=True)
class TopK(Architecture):
    """The k largest activations of each sample (module docstring).

    Args:
        name: value of the axis `architecture`.
        aux_k: dead latents that explain a sample's error; None: the power of two next to d_in / 2,
            as the paper has it, at most d_sae.
        aux_coefficient: weight of the auxiliary loss; the paper's 1/32.
    """

    name: str = "topk"
    aux_k: int | None = None
    aux_coefficient: float = 1 / 32
    # The sweep's largest k, which bounds what has to be sorted; 0: unknown.
    most: int = field(default=0, repr=False)

    kind: ClassVar[str] = "topk"
    reads: ClassVar[str] = "k"
    revivals: ClassVar[tuple[str, ...]] = ("off", "on", "anthropic", "auxk")
    # Measured on a CPU. What `top_k` sorts in on an accelerator was never measured.
    temporaries: ClassVar[tuple[int, int]] = (0, 0)
    source: ClassVar[str] = (
        "Gao et al. (2024), Scaling and evaluating sparse autoencoders (arXiv 2406.04093)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aux_k is not None:
            allowed = "None, or a whole number, 1 or more"
            aux_k = check_whole("aux_k", self.aux_k, allowed, lambda v: v >= 1)
            object.__setattr__(self, "aux_k", aux_k)
        check_number_fields(self, [("aux_coefficient", *FROM_0)])

    def prepared(self, ks: tuple[int, ...]) -> "TopK":
        return replace(self, most=max(ks))

    def describe(self, d_in: int = 2) -> dict[str, Any]:
        """As `Architecture.describe`, without the sweep's largest k, which is no constant."""
        return {name: value for name, value in super().describe(d_in).items() if name != "most"}

    def activate(self, params: Params, pre: Latents, k: Scalar | float) -> Latents:
        """Of each sample the k largest activations."""
        return self._keep(None)(jax.nn.relu(pre), k)

    def _keep(self, axis: str | None) -> relu.Keep:
        return lambda h, k: keep_of_samples(h, k, self.most)

    def loss(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """The squared error."""
        keep = self._keep(axis)
        terms: Any = relu.kept_terms(config, precision, keep, params, x, swept.k)  # pyright: ignore
        return Loss(terms.mse, terms.mse, terms.highest, terms.least)

    def dead_gradient(
        self,
        params: Params,
        dead: Mask,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Params:
        """The gradient of `aux_coefficient * aux`; 0 for weights of latents that are alive."""
        keep = self._keep(axis)
        h = keep(relu.encode(params, x, config, precision), swept.k)
        error = jax.lax.stop_gradient(x - self.decode(params, h, precision))

        def aux(params: Params) -> Scalar:
            pre = relu.preactivation(params, x, config, precision)
            of_dead = jnp.where(dead, pre, -jnp.inf)
            k = min(self.aux_k or near_half(x.shape[-1]), dead.shape[-1])
            border = jax.lax.top_k(jax.lax.stop_gradient(of_dead), k)[0][:, -1:]
            z = jnp.where(dead & (of_dead >= border), pre, 0.0)
            e_hat = matmul(z, params.W_dec, precision)
            return self.aux_coefficient * jnp.mean((error - e_hat) ** 2)

        return jax.grad(aux)(params)


@dataclass(frozen=True)
class BatchTopK(TopK):
    """The k times batch largest activations of a batch (module docstring). Arguments of `TopK`."""

    name: str = "batchtopk"

    kind: ClassVar[str] = "batchtopk"
    extra: ClassVar[tuple[str, ...]] = ("threshold",)
    takes_objective: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Bussmann, Leask and Nanda (2024), BatchTopK sparse autoencoders (arXiv 2412.06410)"
    )

    def extra_weights(self, params: Params) -> dict[str, Array]:
        """A threshold of 0: no batch was seen yet."""
        return {"threshold": jnp.zeros(())}

    def activate(self, params: Params, pre: Latents, k: Scalar | float) -> Latents:
        """Activations that exceed the threshold, whatever k."""
        assert params.threshold is not None
        h = jax.nn.relu(pre)
        return jnp.where(h > params.threshold, h, 0.0)

    def _keep(self, axis: str | None) -> relu.Keep:
        return lambda h, k: keep_of_batch(h, k, axis)

    def settle(self, params: Params, loss: Loss, axis: str | None = None) -> Params:
        """The threshold moves towards the smallest activation that this batch kept."""
        assert params.threshold is not None
        assert loss.least is not None
        least, last = over(axis, jax.lax.pmin, loss.least), params.threshold
        new = jnp.where(last > 0, last + RATE * (least - last), least)
        # A batch in which nothing was active says nothing.
        return params._replace(threshold=jnp.where(jnp.isfinite(least), new, last))


def near_half(d_in: int) -> int:
    """The power of two next to d_in / 2."""
    return 2 ** max(0, round(math.log2(d_in / 2)))


def keep_of_samples(h: Latents, k: Scalar | float, most: int = 0) -> Latents:
    """Of each sample the k largest activations (k from 1 on, none of h negative), else 0.

    `most` bounds a k that is traced; 0 is no bound.
    """
    d_sae = h.shape[-1]
    if isinstance(k, int | float):
        most = int(k)
    most = min(most or d_sae, d_sae)
    largest, _ = jax.lax.top_k(h, most)
    last = jnp.clip(jnp.asarray(k, jnp.int32) - 1, 0, most - 1)
    border = jax.lax.dynamic_slice_in_dim(largest, last, 1, axis=-1)
    return jnp.where(h >= border, h, 0.0)


def keep_of_batch(h: Latents, k: Scalar | float, axis: str | None = None) -> Latents:
    """Of a batch the k times batch largest activations, 0 for the others.

    The border is found by bisection on the bits of the floats, which are ordered as the floats are
    where none is negative: exact after 31 counts, each a pass over h. A sort takes ten times as
    long. h is this device's part of a batch divided over the devices of `axis`.
    """
    samples = over(axis, jax.lax.psum, jnp.int32(h.shape[0]))
    wanted = jnp.asarray(k, jnp.int32) * samples

    def count(border: Array) -> Array:
        # Columns first and in float32: the quickest form on a CPU.
        above = jnp.where(h >= border, 1.0, 0.0).sum(0).astype(jnp.int32).sum()
        return over(axis, jax.lax.psum, above)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low + 1) // 2
        enough = count(jax.lax.bitcast_convert_type(middle, jnp.float32)) >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    top = over(axis, jax.lax.pmax, jax.lax.bitcast_convert_type(h.max(), jnp.int32))
    border, _ = jax.lax.fori_loop(0, 31, halve, (jnp.int32(0), top))
    return jnp.where(h >= jax.lax.bitcast_convert_type(border, jnp.float32), h, 0.0)
