"""This library's side of the benchmark: its own rates, and its turn beside the peers."""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from saejax.core.devices import CELLS, spread, to_host
from saejax.core.precision import Precision
from saejax.core.programs import jitted
from saejax.data.host import Fed
from saejax.experiments.benchmark.problem import LR, Problem, Shape, data_of, penalties
from saejax.experiments.benchmark.turns import product, take_turns
from saejax.sae.params import Params
from saejax.training.batches import Inputs
from saejax.training.cells import transpose_decoder
from saejax.training.chunk import State, train_steps
from saejax.training.plan import Plan, Program
from saejax.training.planning import make_plan
from saejax.training.settings import Settings
from saejax.training.state import Progress, start
from saejax.training.sweep import Sweep

# Share of the product's rate that the number of steps of a timed run is guessed from.
GUESS = 0.6
MOST_STEPS = 1000


def steps_for(flops: float, rate: float, seconds: float, least: int = 4) -> int:
    """Even number of steps that take about so long, at most `MOST_STEPS`.

    Args:
        flops: useful work of a step.
        rate: of the plain product, FLOP/s.
        seconds: how long they may take.
        least: steps all the same.
    """
    return min(MOST_STEPS, max(least, 2 * round(seconds * rate * GUESS / flops / 2)))


def _compiled(plan: Plan) -> Callable[..., Any]:
    """All steps of a plan as one program that overwrites the buffers it is given."""
    return jitted(_steps, plan.program, donate=(0,))


def _steps(program: Program, state: State, inputs: Inputs, step: Any) -> State:
    return train_steps(program, state, inputs, step, program.settings.steps)


def measure(
    shape: Shape, precision: Precision, *, seeds: int = 1, seconds: float, turns: int, size: int
) -> dict[str, Any]:
    """What a step costs, drawing its batches included, in turns with a plain float32 product.

    Args:
        shape: sizes; its cells share each batch.
        precision: operands of the training products.
        seeds: each draws batches of its own for cells of its own.
        seconds: about how long a timed run takes.
        turns: number of timed runs.
        size: side of the product's square matrices.

    Returns:
        A row. `seconds` are those of a step, median and extremes over the turns; `share` is the
        useful rate over the product's rate in each turn, likewise.
    """
    flops = shape.flops * seeds
    run_product = product(size)
    steps = steps_for(flops, run_product(), seconds)
    plan = make_plan(
        Sweep(
            l1=penalties(shape.cells),
            ratio=shape.d_sae / data_of(shape.d_in).n_features,
            seeds=range(seeds),
            lr=LR,
        ),
        data_of(shape.d_in),
        Settings(steps=steps, eval_every=steps, batch_size=shape.batch, matmul_precision=precision),
    )
    at, train = Progress(*start(plan)), _compiled(plan)

    def run() -> None:
        at.state = train(at.state, at.inputs, jnp.int32(0))
        jax.block_until_ready(at.state)

    timed = take_turns({"train": run, "product": run_product}, turns)
    each = [elapsed / steps for elapsed in timed["train"].seconds]
    products = timed["product"].results
    shares = [flops / s / p for s, p in zip(each, products, strict=True)]
    middle = statistics.median(each)
    cells = shape.cells * seeds
    return {
        **shape._asdict(),
        "seeds": seeds,
        "precision": precision,
        "steps": steps,
        "seconds": middle,
        "fastest": min(each),
        "slowest": max(each),
        "seconds_per_cell": middle / cells,
        "gflops": flops / middle / 1e9,
        "product_gflops": statistics.median(products) / 1e9,
        "share": statistics.median(shares),
        "lowest": min(shares),
        "highest": max(shares),
        "first_seconds": timed["train"].first,
    }


class Drawn:
    """The batches of a problem as a source that lies outside of the program."""

    n_features = None

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @property
    def d_in(self) -> int:
        """Width of a sample."""
        return self.problem.shape.d_in

    def feed(
        self, seed: int, step: int, n_steps: int, batch_size: int
    ) -> Float[np.ndarray, "n_steps batch d_in"]:
        """The batches of some steps, which are those of the problem whatever the seed."""
        return self.problem.batches[step : step + n_steps]

    def evaluation(
        self, n_batches: int, batch_size: int
    ) -> Float[np.ndarray, "n_batches batch d_in"]:
        """The first of the held-out batches."""
        return self.problem.held_out[:n_batches]

    def mean(self) -> Float[np.ndarray, " d_in"]:
        """Mean of all samples."""
        return self.problem.batches.mean((0, 1))

    def describe(self) -> dict[str, Any]:
        """What this is."""
        return {"type": "benchmark", **self.problem.shape._asdict()}


def prepare(problem: Problem, precision: Precision = "highest") -> Callable[[], Callable[[], Any]]:
    """This library's run of a task: all cells at once, from the given weights.

    Args:
        problem: the task.
        precision: operands of the products.

    Returns:
        A function that trains and returns another, which hands out the dictionaries.
    """
    shape, steps = problem.shape, problem.steps
    source = Drawn(problem)
    plan = make_plan(
        Sweep(l1=problem.l1, ratio=shape.d_sae / shape.d_in, lr=LR),
        source,
        Settings(steps=steps, eval_every=steps, batch_size=shape.batch, matmul_precision=precision),
    )
    at = Progress(*start(plan))
    same = jax.tree.map(
        lambda a: np.broadcast_to(a, (1, shape.cells, *a.shape)), transpose_decoder(problem.weights)
    )
    cells = (at.state.cells[0]._replace(params=spread(plan.mesh, same, CELLS)),)
    batches = source.feed(0, 0, steps, shape.batch)
    given = np.int32(0), batches[None], source.evaluation(1, shape.batch)
    at.hand_in({name: Fed(*spread(plan.mesh, given)) for name in plan.sources})
    run = _compiled(plan)

    def train() -> Callable[[], list[Params]]:
        spare, matches = jax.tree.map(jnp.zeros_like, cells), at.state.matches
        fresh = State(jax.tree.map(jnp.copy, cells), spare, matches)
        ended = jax.block_until_ready(run(fresh, at.inputs, jnp.int32(0)))

        def dictionaries() -> list[Params]:
            params = to_host(transpose_decoder(ended.cells[0].params))
            return [jax.tree.map(lambda a, i=i: a[0, i], params) for i in range(shape.cells)]

        return dictionaries

    return train
