"""Data that lies outside of the compiled program: the host hands its batches to every chunk."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@runtime_checkable
class HostSource(Protocol):
    """A data set outside of the program, whose batches are pure functions of (seed, step).

    Attributes:
        d_in: width of a sample.
        n_features: None, there is no ground truth.
    """

    @property
    def d_in(self) -> int: ...

    @property
    def n_features(self) -> None: ...

    def feed(
        self, seed: int, step: int, n_steps: int, batch_size: int
    ) -> Float[np.ndarray, "n_steps batch d_in"]:
        """Training batches of the steps `step ... step + n_steps - 1`."""
        ...

    def evaluation(
        self, n_batches: int, batch_size: int
    ) -> Float[np.ndarray, "n_batches batch d_in"]:
        """Batches of samples that are never trained on; always the same."""
        ...

    def mean(self) -> Float[np.ndarray, " d_in"]:
        """Mean of all samples."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results, JSON types only."""
        ...


class Fed(NamedTuple):
    """Arrays of a host source on the device, an input of every chunk."""

    first: Int[Array, ""]  # the step of the first batch
    batches: Float[Array, "seeds steps batch d_in"]  # of the chunk, in any float dtype
    held_out: Float[Array, "n_batches batch d_in"]  # one copy for all seeds and chunks

    def draw(self, name: str, step: Int[Array, ""]) -> Float[Array, "seeds *n_batches batch d_in"]:
        """Batches in float32: of each seed that of a step, or for "evaluation" those held out.

        A step outside of the chunk gives the nearest batch.
        """
        if name == "batches":
            return self.batches[:, step - self.first].astype(jnp.float32)
        held_out = self.held_out.astype(jnp.float32)
        return jnp.broadcast_to(held_out, (self.batches.shape[0], *held_out.shape))
