"""How fast a sweep trains, as a share of what a plain matrix product reaches in the same process.

    python -m saejax.experiments.benchmark --flagfile=experiments/benchmark/cpu.flags

Runs and matrix products take turns, so that a machine whose speed drifts slows both. Useful work is
10 * batch_size * d_in * d_sae FLOP for each cell and step; drawing the batches, Adam and the
projection count as time, not as work.
"""

import statistics
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
from absl import flags, logging

from saejax.chunk import train_steps
from saejax.data.synthetic import Synthetic
from saejax.experiments import command
from saejax.plan import make_plan
from saejax.precision import PRECISIONS, Precision, matmul
from saejax.settings import Settings
from saejax.sweep import Sweep
from saejax.table import Table
from saejax.train import start

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "shapes", ["256x2048x1024"], "d_in x d_sae x batch_size of each measurement.", flag_values=FLAGS
)
flags.DEFINE_list(
    "cells", ["6"], "How many cells (L1 coefficients) are swept, for each shape.", flag_values=FLAGS
)
flags.DEFINE_list(
    "precisions",
    ["highest"],
    f"Operands of the products, of: {', '.join(PRECISIONS)}.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("repeats", 7, "How often each is timed; the table has medians.", flag_values=FLAGS)
flags.DEFINE_float(
    "seconds", 1.0, "About how long one timed run takes; 4 steps at least.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "size", 2048, "Side of the square matrices of the plain product.", flag_values=FLAGS
)


def product_rate(size: int, repeats: int = 5) -> float:
    """FLOP/s of a float32 product of two square matrices, median of the repeats."""
    a = jnp.ones((size, size))
    product = jax.jit(matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times)


def measure(
    d_in: int, d_sae: int, batch_size: int, cells: int, precision: Precision, *,
    seconds: float, repeats: int, size: int,
) -> dict[str, str | int | float]:  # fmt: skip
    """One row of the table: rates in GFLOP/s, and their ratio in each turn (median and extremes).

    Args:
        d_in: width of the activations; the data have 2 d_in features, as published.
        d_sae: number of latents.
        batch_size: samples in a batch.
        cells: number of SAEs.
        precision: operands of the training products.
        seconds: about how long a timed run takes.
        repeats: number of turns.
        size: side of the plain product.
    """
    flops = 10 * batch_size * d_in * d_sae * cells
    steps = max(4, 2 * round(seconds * product_rate(size) * 0.6 / flops / 2))
    n_features = 2 * d_in
    plan = make_plan(
        Sweep(l1=[0.01 * (1 + i) for i in range(cells)], ratio=d_sae / n_features),
        Synthetic(d_in=d_in, n_features=n_features, avg_active=min(5, n_features / 8)),
        Settings(
            steps=steps, eval_every=steps, batch_size=batch_size,
            matmul_precision=precision,
        ),
    )  # fmt: skip
    state = start(plan)
    run = jax.jit(
        partial(
            train_steps,
            n=steps,
            sources=plan.sources,
            settings=plan.settings,
            cell_batches=plan.cell_batches,
        ),
        donate_argnums=(0, 1),
    )
    groups, spare = state.groups, state.spare
    rates, products = [], []
    for turn in range(repeats + 1):
        started = time.perf_counter()
        groups, spare = run(
            groups, spare, state.arrays, state.seeds, state.hyper, jnp.int32(turn * steps)
        )
        jax.block_until_ready(groups)
        elapsed = time.perf_counter() - started
        if turn:  # the first run compiles, and touches its memory for the first time
            rates.append(plan.flops_per_step * steps / elapsed / 1e9)
            products.append(product_rate(size) / 1e9)
    shares = [rate / product for rate, product in zip(rates, products, strict=True)]
    return {
        "d_in": d_in, "d_sae": d_sae, "batch": batch_size, "cells": cells, "precision": precision,
        "gflops": statistics.median(rates), "product_gflops": statistics.median(products),
        "share": statistics.median(shares), "lowest": min(shares), "highest": max(shares),
    }  # fmt: skip


def main(argv: list[str]) -> None:
    """Prints the table, and what it was measured on."""
    logging.set_verbosity(logging.WARNING)  # JAX announces every backend that it does not find
    try:
        if len(argv) > 1:
            raise ValueError(f"got the argument {argv[1]!r}, allowed: flags only")
        shapes = []
        for text in FLAGS.shapes:
            numbers = text.split("x")
            if len(numbers) != 3 or not all(n.isdigit() and int(n) for n in numbers):
                raise ValueError(
                    f"shapes: got {text!r}, allowed: d_in x d_sae x batch, as 256x2048x1024"
                )
            shapes.append([int(n) for n in numbers])
        if not all(text.isdigit() and int(text) for text in FLAGS.cells):
            raise ValueError(f"cells: got {FLAGS.cells}, allowed: whole numbers, 1 or more")
        for name in FLAGS.precisions:
            if name not in PRECISIONS:
                raise ValueError(f"precisions: got {name!r}, allowed: {', '.join(PRECISIONS)}")
        device = jax.local_devices()[0]
        print(
            f"device: {device.device_kind}, jax {jax.__version__}; the last columns are shares of the"
        )
        print(f"rate of a float32 {FLAGS.size} x {FLAGS.size} product in the same process")
        table = Table(
            measure(
                shape[0], shape[1], shape[2], int(cells), precision,
                seconds=FLAGS.seconds, repeats=FLAGS.repeats, size=FLAGS.size,
            )
            for shape in shapes
            for cells in FLAGS.cells
            for precision in FLAGS.precisions
        )  # fmt: skip
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(table)


if __name__ == "__main__":
    command.run(main, FLAGS)
