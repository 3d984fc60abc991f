"""Features that overlap less than random ones, by a few steps of gradient descent."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from saejax.core.checks import ABOVE_0, check_number_fields, check_whole_fields
from saejax.core.linalg import unit_rows
from saejax.core.precision import matmul


@dataclass(frozen=True)
class Orthogonal:
    """How long and how fast features are moved apart.

    Args:
        steps: of Adam.
        lr: its learning rate.

    Source: SynthSAEBench (arXiv 2602.14687), whose values are the defaults.
    """

    steps: int = 100
    lr: float = 3e-4

    def __post_init__(self) -> None:
        check_whole_fields(self, {"steps": 1})
        check_number_fields(self, [("lr", *ABOVE_0)])


def overlap_gradient(F: Float[Array, "n d_in"]) -> Float[Array, "n d_in"]:
    """Gradient of `sum_(i != j) (f_i . f_j)^2 + n sum_i (|f_i|^2 - 1)^2`.

        4 F (F^T F) - 4 |f_i|^2 f_i + 4 n (|f_i|^2 - 1) f_i

    F^T F is [d_in, d_in], so that the n x n overlaps are never made: 4 n d_in^2 operations.
    """
    n = F.shape[0]
    squares = jnp.sum(F**2, axis=1, keepdims=True)
    return 4 * matmul(F, matmul(F.T, F)) + 4 * (n * (squares - 1) - squares) * F


def move_apart(how: Orthogonal, F: Float[Array, "n d_in"]) -> Float[Array, "n d_in"]:
    """Unit rows F moved by Adam to a smaller sum of squared overlaps, see `overlap_gradient`."""
    adam = optax.adam(how.lr)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        F, state = carry
        update, state = adam.update(overlap_gradient(F), state)
        return (F + update, state), None

    (moved, _), _ = jax.lax.scan(step, (F, adam.init(F)), length=how.steps)
    return unit_rows(moved)
