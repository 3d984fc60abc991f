"""One training task for all that are timed: the same weights, batches, penalties and steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from saejax.core.keys import stream
from saejax.data.synthetic import recipe
from saejax.data.synthetic.recipe import Synthetic
from saejax.metrics import measures
from saejax.sae.params import STANDARD, Params, init
from saejax.training.sweep import PUBLISHED_L1

LR = 1e-3
# More penalties between the published extremes than this would be taken for the same number.
MOST_CELLS = 2048
HELD_OUT_BATCHES = 4


class Shape(NamedTuple):
    """Sizes of a task: `cells` SAEs of one width, which differ in their L1 coefficient."""

    d_in: int
    d_sae: int
    batch: int
    cells: int

    @property
    def flops(self) -> int:
        """Useful work of a step: 10 batch d_in d_sae for each cell, five matrix products."""
        return 10 * self.batch * self.d_in * self.d_sae * self.cells


def parse(name: str, text: str) -> Shape:
    """The shape that a text like `256x2048x1024x6` stands for.

    Args:
        name: how an error names the flag.
        text: d_in x d_sae x batch x cells.

    Raises:
        ValueError: for anything else, and for more cells than penalties can be told apart.
    """
    numbers = text.split("x")
    if len(numbers) != 4 or not all(n.isdecimal() and int(n) for n in numbers):
        raise ValueError(
            f"{name}: got {text!r}, allowed: d_in x d_sae x batch x cells, as 256x2048x1024x6"
        )
    shape = Shape(*map(int, numbers))
    if shape.cells > MOST_CELLS:
        raise ValueError(f"{name}: got {text!r}, allowed: up to {MOST_CELLS} cells")
    return shape


def data_of(d_in: int) -> Synthetic:
    """Data as published, of any width: 2 d_in features, 5 of them active (fewer where they are
    few)."""
    return Synthetic(d_in=d_in, n_features=2 * d_in, avg_active=min(5.0, d_in / 4))


def penalties(cells: int) -> tuple[float, ...]:
    """L1 coefficients at equal ratios from the lowest to the highest published one."""
    return tuple(map(float, np.geomspace(PUBLISHED_L1[0], PUBLISHED_L1[-1], cells)))


@dataclass(frozen=True)
class Problem:
    """What every method is given.

    Attributes:
        shape: sizes.
        l1: one coefficient for each cell, for the mean over latents (`SAEConfig.l1_reduction`).
        batches: of every step, in order.
        held_out: samples that no batch has, to measure the trained SAEs on.
        weights: of every cell before the first step.
    """

    shape: Shape
    l1: tuple[float, ...]
    batches: Float[np.ndarray, "steps batch d_in"]
    held_out: Float[np.ndarray, "n_batches batch d_in"]
    weights: Params

    @property
    def steps(self) -> int:
        """Training steps."""
        return len(self.batches)


def make_problem(shape: Shape, steps: int, seed: int = 0) -> Problem:
    """Draws a task, once for all methods.

    Args:
        shape: sizes.
        steps: training steps, each on a batch of its own.
        seed: of features, samples and weights.
    """
    spec = data_of(shape.d_in)
    truth = recipe.truth(spec, stream(seed, "truth"))

    def draw(name: str, n: int) -> np.ndarray:
        one = jax.jit(partial(recipe.sample, spec, truth, batch_size=shape.batch))
        return np.stack([np.asarray(one(key)) for key in jax.random.split(stream(seed, name), n)])

    weights = init(stream(seed, "init"), shape.d_in, shape.d_sae, STANDARD)
    return Problem(
        shape=shape,
        l1=penalties(shape.cells),
        batches=draw("batches", steps),
        held_out=draw("evaluation", HELD_OUT_BATCHES),
        weights=jax.tree.map(np.asarray, weights),
    )


def judge(problem: Problem, trained: Sequence[Params]) -> dict[str, np.ndarray]:
    """Every SAE measured by one function, whoever trained it.

    Args:
        problem: what they were trained on.
        trained: one SAE for each coefficient, rows of W_dec of norm 1.

    Returns:
        For each cell, on the held-out samples: `objective = mse + l1_loss`, its two terms, `l0`.
    """

    @jax.jit
    def measure(params: Params, x: jax.Array, l1: jax.Array) -> dict[str, jax.Array]:
        return measures.reconstruction(measures.Subject(params, l1), measures.Samples(x))

    held_out = jax.device_put(problem.held_out)
    each = [measure(params, held_out, l1) for params, l1 in zip(trained, problem.l1, strict=True)]
    found = {name: np.array([m[name] for m in each], float) for name in ("mse", "l1_loss", "l0")}
    return {"objective": found["mse"] + found["l1_loss"], **found}
