"""Timing by turns: a machine whose speed drifts then slows everybody alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saejax.core.precision import Precision, matmul

# A library's threads spin for a while after their work and would take the cores of the next one.
PAUSE = 0.1


class Timed(NamedTuple):
    """One run of all turns.

    Attributes:
        first: seconds of the first call, which compiles and touches its memory for the first time.
        seconds: of every later call.
        results: what these returned.
    """

    first: float
    seconds: list[float]
    results: list[Any]


def take_turns(runs: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, Timed]:
    """Calls everyone in order, once to warm up and then `turns` times.

    Args:
        runs: by name; each call does the whole work and waits for its end.
        turns: timed calls of each.
    """
    timed = {name: Timed(0.0, [], []) for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - started
            if turn:
                timed[name].seconds.append(elapsed)
                timed[name].results.append(result)
            else:
                timed[name] = timed[name]._replace(first=elapsed)
    return timed


def product(size: int, precision: Precision = "highest", repeats: int = 5) -> Callable[[], float]:
    """A run that returns the FLOP/s of a product of two square matrices, median of the repeats.

    Args:
        size: side of the matrices.
        precision: operands.
        repeats: products in a run.
    """
    a = jnp.ones((size, size))
    multiply = jax.jit(matmul, static_argnums=2)

    def run() -> float:
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            multiply(a, a, precision).block_until_ready()
            seconds.append(time.perf_counter() - started)
        return 2 * size**3 / statistics.median(seconds)

    return run
