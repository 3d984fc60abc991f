"""Gated SAE: one half decides which latents are active, the other how strongly.

    pre    = (x - b_dec) @ W_enc + b_enc                                   the gate
    mag    = (x - b_dec) @ (W_enc exp(r_mag)) + b_mag                      the magnitudes
    h      = H(pre) relu(mag)
    loss   = mse + l1 * sparsity of relu(pre) + mean over batch and d_in of (x - x_hat_gate)^2
    x_hat_gate = relu(pre) @ W_dec + b_dec, with W_dec and b_dec constants of the gradient

The penalty shrinks the gate and leaves the magnitudes alone; the last term keeps the gate
informative. The paper sums squared errors over d_in, see `saejax.sae.params` for the conversion of
its coefficient. It revives dead latents by resampling: "anthropic".

Source: Rajamanoharan et al. (2024), Improving dictionary learning with gated sparse autoencoders
    (arXiv
2404.16014), section 3.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from saejax.core.precision import Precision
from saejax.sae import relu
from saejax.sae.architecture import Architecture, Loss, Scalar, Swept, largest
from saejax.sae.params import STANDARD, Params, SAEConfig


@dataclass(frozen=True)
class Gated(Architecture):
    """Gates and magnitudes with shared directions (module docstring).

    Args:
        name: value of the axis `architecture`.
    """

    name: str = "gated"

    kind: ClassVar[str] = "gated"
    revivals: ClassVar[tuple[str, ...]] = ("off", "on", "anthropic")
    takes_objective: ClassVar[bool] = False
    temporaries: ClassVar[tuple[int, int]] = (2, 0)
    source: ClassVar[str] = (
        "Rajamanoharan et al. (2024), Improving dictionary learning with gated sparse autoencoders "
        "(arXiv 2404.16014)"
    )

    def init(
        self,
        key: PRNGKeyArray,
        d_in: int,
        d_sae: int,
        config: SAEConfig,
        center: Float[Array, " d_in"] | None = None,
    ) -> Params:
        """Fresh weights, with magnitudes equal to the gate: a ReLU at first."""
        params = super().init(key, d_in, d_sae, config, center)
        return params._replace(r_mag=jnp.zeros(d_sae), b_mag=params.b_enc)

    def _gate_and_h(
        self, params: Params, x: Float[Array, "batch d_in"], config: SAEConfig, precision: Precision
    ) -> tuple[Float[Array, "batch d_sae"], Float[Array, "batch d_sae"]]:
        assert params.r_mag is not None
        assert params.b_mag is not None
        pre = relu.preactivation(params, x, config, precision)
        # Both halves share the product, which is what the shared directions are for.
        mag = (pre - params.b_enc) * jnp.exp(params.r_mag) + params.b_mag
        return pre, jnp.where(pre > 0, jax.nn.relu(mag), 0.0)

    def encode(
        self,
        params: Params,
        x: Float[Array, "batch d_in"],
        k: Scalar | float = 0,
        config: SAEConfig = STANDARD,
        precision: Precision = "highest",
    ) -> Float[Array, "batch d_sae"]:
        """Magnitudes where the gate is open."""
        return self._gate_and_h(params, x, config, precision)[1]

    def loss(
        self,
        params: Params,
        x: Float[Array, "batch d_in"],
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """Squared error, penalty of the gate, and its error; arguments as in
        `Architecture.loss`."""
        pre, h = self._gate_and_h(params, x, config, precision)
        gate = jax.nn.relu(pre)
        mse = jnp.mean((self.decode(params, h, precision) - x) ** 2)
        frozen = jax.lax.stop_gradient(params)
        aux = jnp.mean((self.decode(frozen, gate, precision) - x) ** 2)
        penalty = swept.l1 * relu.sparsity_scale(config, h.shape[-1]) * gate.sum(-1).mean()
        return Loss(mse + penalty + aux, mse, largest(h))

    def penalized(
        self,
        params: Params,
        x: Float[Array, "batch d_in"],
        h: Float[Array, "batch d_sae"],
        config: SAEConfig = STANDARD,
    ) -> Float[Array, " batch"]:
        """Of each sample the sum of the gate's activations."""
        return relu.encode(params, x, config).sum(-1)

    def revive(self, params: Params, dead: Bool[Array, " d_sae"], bias: Scalar | float) -> Params:
        """Magnitudes of revived latents equal their gate again."""
        assert params.r_mag is not None
        assert params.b_mag is not None
        return params._replace(
            r_mag=jnp.where(dead, 0.0, params.r_mag), b_mag=jnp.where(dead, bias, params.b_mag)
        )
