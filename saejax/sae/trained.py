"""One trained SAE by itself: its weights, and how it encodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from saejax.core.checks import check_choice
from saejax.sae.params import Params
from saejax.sae.registry import KINDS


@dataclass(frozen=True)
class SAE:
    """A trained SAE. Calling it reconstructs: `sae(x)` is `sae.decode(sae.encode(x))`.

    Args:
        params: its weights, NumPy arrays; the encoder sees `x - b_dec` where there is a b_dec.
        architecture: how it encodes, a key of `saejax.sae.registry.KINDS`.
        k: active latents of a sample, of a "topk" SAE.
        metadata: where it comes from, JSON types.

    Raises:
        ValueError: for an unknown architecture, weights that do not fit it or each other, and a k
            that is not from 1 to d_sae for "topk".
    """

    params: Params
    architecture: str = "relu"
    k: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, ", ".join(KINDS), KINDS)
        d_in, d_sae = np.shape(self.params.W_enc)
        shapes = {"W_dec": (d_sae, d_in), "b_dec": (d_in,), "threshold": ()}
        needed = {"b_enc", "W_dec", *KINDS[self.architecture].extra}
        for name in Params._fields[1:]:
            value, shape = getattr(self.params, name), shapes.get(name, (d_sae,))
            if value is None and name not in needed:
                continue
            got = None if value is None else np.shape(value)
            if got != shape:
                raise ValueError(
                    f"{name}: got {'nothing' if got is None else f'the shape {got}'}, allowed for "
                    f"{self.architecture} with W_enc of {(d_in, d_sae)}: {shape}"
                )
        if self.architecture == "topk" and not 1 <= self.k <= d_sae:
            raise ValueError(f"k: got {self.k}, allowed for topk: from 1 to d_sae={d_sae}")

    @property
    def d_in(self) -> int:
        """Width of an input."""
        return self.params.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.params.W_enc.shape[1]

    def encode(self, x: Float[np.ndarray, "batch d_in"]) -> Float[np.ndarray, "batch d_sae"]:
        """Activations of inputs."""
        rows = jnp.asarray(x, jnp.float32)
        return np.asarray(KINDS[self.architecture]().encode(self._on_device(), rows, self.k))

    def decode(self, h: Float[np.ndarray, "batch d_sae"]) -> Float[np.ndarray, "batch d_in"]:
        """Reconstructions from activations."""
        latents = jnp.asarray(h, jnp.float32)
        return np.asarray(KINDS[self.architecture]().decode(self._on_device(), latents))

    def __call__(self, x: Float[np.ndarray, "batch d_in"]) -> Float[np.ndarray, "batch d_in"]:
        """Reconstructions of inputs."""
        return self.decode(self.encode(x))

    def _on_device(self) -> Params:
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), self.params)
