"""JumpReLU: a threshold for every latent, learned through straight-through estimators.

    pre   = (x - b_dec) @ W_enc + b_enc,  theta = exp(log_threshold)
    h     = pre * H(pre - theta)
    loss  = mse + l1 * mean over batch of sum_j H(pre_j - theta_j), reduced as `l1_reduction` says

so what the coefficient multiplies is L0. H is the Heaviside step, whose gradients are those of a
kernel of width `bandwidth`, K(u) = 1 for |u| < 1/2:

    d h / d pre   = H(pre - theta)
    d h / d theta = -theta / bandwidth K((pre - theta) / bandwidth)
    d H / d theta = -1 / bandwidth K((pre - theta) / bandwidth),  d H / d pre = 0

The paper sums the squared error over d_in: its coefficient is `l1 * d_in` of reduction "sum".
Bandwidth and first threshold are the paper's, for activations scaled to a mean squared norm of 1.
It revives no dead latents.

Source: Rajamanoharan et al. (2024), Jumping ahead: improving reconstruction fidelity with JumpReLU
sparse autoencoders (arXiv 2407.14435), sections 3 and 4.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.core.checks import ABOVE_0, check_number_fields
from saejax.core.precision import Precision
from saejax.sae import relu
from saejax.sae.architecture import Architecture, Loss, Swept, largest
from saejax.sae.params import STANDARD, Inputs, Latents, Mask, Params, PerLatent, SAEConfig, Scalar


@dataclass(frozen=True)
class JumpReLU(Architecture):
    """A learned threshold for every latent (module docstring).

    Args:
        name: value of the axis `architecture`.
        bandwidth: width of the kernel, in units of activation.
        initial_threshold: where every threshold starts, likewise.
    """

    name: str = "jumprelu"
    bandwidth: float = 0.001
    initial_threshold: float = 0.001

    kind: ClassVar[str] = "jumprelu"
    extra: ClassVar[tuple[str, ...]] = ("log_threshold",)
    revivals: ClassVar[tuple[str, ...]] = ("off", "on", "anthropic")
    takes_objective: ClassVar[bool] = False
    temporaries: ClassVar[tuple[int, int]] = (2, 0)
    source: ClassVar[str] = "Rajamanoharan et al. (2024), Jumping ahead (arXiv 2407.14435)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number_fields(self, [(n, *ABOVE_0) for n in ("bandwidth", "initial_threshold")])

    def extra_weights(self, params: Params) -> dict[str, Array]:
        """All thresholds where they start."""
        return {"log_threshold": jnp.full(params.b_enc.shape, jnp.log(self.initial_threshold))}

    def activate(self, params: Params, pre: Latents, k: Scalar | float) -> Latents:
        """Activations that exceed their latent's threshold."""
        assert params.log_threshold is not None
        return jnp.where(pre > jnp.exp(params.log_threshold), pre, 0.0)

    def loss(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """Squared error and penalty of the number of active latents."""
        assert params.log_threshold is not None
        pre = relu.preactivation(params, x, config, precision)
        theta = jnp.exp(params.log_threshold)
        h = jump(pre, theta, self.bandwidth)
        mse = jnp.mean((self.decode(params, h, precision) - x) ** 2)
        active = step(pre, theta, self.bandwidth).sum(-1).mean()
        penalty = swept.l1 * relu.sparsity_scale(config, h.shape[-1]) * active
        return Loss(mse + penalty, mse, largest(h))

    def penalized(
        self, params: Params, x: Inputs, h: Latents, config: SAEConfig = STANDARD
    ) -> Float[Array, " batch"]:
        """Number of active latents of each sample."""
        return jnp.sum(h > 0, axis=-1, dtype=jnp.float32)

    def revive(self, params: Params, dead: Mask, bias: Scalar | float) -> Params:
        """Weights where the thresholds of revived latents start anew."""
        assert params.log_threshold is not None
        start = jnp.log(self.initial_threshold)
        return params._replace(log_threshold=jnp.where(dead, start, params.log_threshold))


def _near(pre: Latents, theta: PerLatent, bandwidth: Scalar | float) -> Latents:
    """The kernel over its width, `K((pre - theta) / bandwidth) / bandwidth`."""
    return jnp.where(jnp.abs(pre - theta) < bandwidth / 2, 1 / bandwidth, 0.0)


@jax.custom_jvp
def jump(pre: Latents, theta: PerLatent, bandwidth: Scalar | float) -> Latents:
    """`pre * H(pre - theta)`, with the pseudo-derivatives of the module docstring."""
    return jnp.where(pre > theta, pre, 0.0)


@jump.defjvp
def _jump_jvp(primals: tuple, tangents: tuple) -> tuple[Latents, Latents]:
    pre, theta, bandwidth = primals
    d_pre, d_theta, _ = tangents
    slope = jnp.where(pre > theta, 1.0, 0.0)
    tangent = slope * d_pre - theta * _near(pre, theta, bandwidth) * d_theta
    return jump(pre, theta, bandwidth), tangent


@jax.custom_jvp
def step(pre: Latents, theta: PerLatent, bandwidth: Scalar | float) -> Latents:
    """`H(pre - theta)`, with the pseudo-derivatives of the module docstring."""
    return jnp.where(pre > theta, 1.0, 0.0)


@step.defjvp
def _step_jvp(primals: tuple, tangents: tuple) -> tuple[Latents, Latents]:
    pre, theta, bandwidth = primals
    _, d_theta, _ = tangents
    return step(pre, theta, bandwidth), -_near(pre, theta, bandwidth) * d_theta
