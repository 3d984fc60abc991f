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
(arXiv 2404.16014), section 3.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.core.precision import Precision
from saejax.sae import relu
from saejax.sae.architecture import Architecture, Loss, Swept, largest
from saejax.sae.params import STANDARD, Inputs, Latents, Mask, Params, SAEConfig, Scalar


@dataclass(frozen=True)
class Gated(Architecture):
    """Gates and magnitudes with shared directions (module docstring).

    Args:
        name: value of the axis `architecture`.
    """

    name: str = "gated"

    kind: ClassVar[str] = "gated"
    extra: ClassVar[tuple[str, ...]] = ("r_mag", "b_mag")
    revivals: ClassVar[tuple[str, ...]] = ("off", "on", "anthropic")
    takes_objective: ClassVar[bool] = False
    temporaries: ClassVar[tuple[int, int]] = (2, 0)
    source: ClassVar[str] = (
        "Rajamanoharan et al. (2024), Improving dictionary learning with gated sparse autoencoders "
        "(arXiv 2404.16014)"
    )

    def extra_weights(self, params: Params) -> dict[str, Array]:
        """Magnitudes equal to the gate: a ReLU at first."""
        return {"r_mag": jnp.zeros_like(params.b_enc), "b_mag": params.b_enc}

    def activate(self, params: Params, pre: Latents, k: Scalar | float) -> Latents:
        """Magnitudes where the gate is open; both share the product that made `pre`."""
        assert params.r_mag is not None
        assert params.b_mag is not None
        mag = (pre - params.b_enc) * jnp.exp(params.r_mag) + params.b_mag
        return jnp.where(pre > 0, jax.nn.relu(mag), 0.0)

    def loss(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """Squared error, penalty of the gate, and the gate's own squared error."""
        pre = relu.preactivation(params, x, config, precision)
        h = self.activate(params, pre, swept.k)
        gate = jax.nn.relu(pre)
        mse = jnp.mean((self.decode(params, h, precision) - x) ** 2)
        frozen = jax.lax.stop_gradient(params)
        aux = jnp.mean((self.decode(frozen, gate, precision) - x) ** 2)
        penalty = swept.l1 * relu.sparsity_scale(config, h.shape[-1]) * gate.sum(-1).mean()
        return Loss(mse + penalty + aux, mse, largest(h))

    def penalized(
        self, params: Params, x: Inputs, h: Latents, config: SAEConfig = STANDARD
    ) -> Float[Array, " batch"]:
        """Of each sample the sum of the gate's activations."""
        return relu.encode(params, x, config).sum(-1)

    def revive(self, params: Params, dead: Mask, bias: Scalar | float) -> Params:
        """Magnitudes of revived latents equal their gate again."""
        assert params.r_mag is not None
        assert params.b_mag is not None
        return params._replace(
            r_mag=jnp.where(dead, 0.0, params.r_mag), b_mag=jnp.where(dead, bias, params.b_mag)
        )
