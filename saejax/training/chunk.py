"""A chunk, what one dispatch runs: training steps of all cells, then an evaluation; all pure."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from saejax.core import devices
from saejax.core.keys import stream
from saejax.training.batches import Inputs, draw
from saejax.training.cells import Cells
from saejax.training.evaluate import Matches, evaluate, snapshot
from saejax.training.plan import Group, Program
from saejax.training.step import step_group


class State(NamedTuple):
    """What training changes.

    Attributes:
        cells: of every group.
        spare: buffers of their shapes. The two take turns: a step reads one and writes the other,
            so that the loop neither clears nor copies the cells.
        matches: of every group at the last evaluation.
    """

    cells: tuple[Cells, ...]
    spare: tuple[Cells, ...]
    matches: Matches


def chunk(
    program: Program, state: State, inputs: Inputs, step: Int[Array, ""]
) -> tuple[State, tuple[dict[str, Array], ...], Any]:
    """`eval_every` training steps and an evaluation.

    Args:
        program: of the run.
        state: where training stands.
        inputs: of the run.
        step: number of steps done.

    Returns:
        The state, the measurements of every part of the sweep with leading axes [source, ratio,
        hyper], and the snapshots of each group with a leading axis of their own (None without
        `snapshot_every`).
    """
    n, every = program.settings.eval_every, program.settings.snapshot_every

    def to_snapshot(state: State, i: Int[Array, ""]) -> tuple[State, Any]:
        at = step + i * every
        state = train_steps(program, state, inputs, at, every)
        return state, snapshot(program, state.cells, inputs, at + every)

    snapshots = None
    if every:
        state, snapshots = jax.lax.scan(to_snapshot, state, jnp.arange(n // every))
    else:
        state = train_steps(program, state, inputs, step, n)
    matches, measured = evaluate(program, state.cells, state.matches, inputs, step + n)
    return state._replace(matches=matches), measured, snapshots


def train_steps(
    program: Program, state: State, inputs: Inputs, step: Int[Array, ""], n: int
) -> State:
    """`n` training steps of all cells; the other arguments as in `chunk`."""

    def two(buffers: tuple[tuple, tuple], i: Int[Array, ""]) -> tuple[tuple[tuple, tuple], None]:
        a, b = buffers
        b = train_step(program, a, b, inputs, step + 2 * i)
        a = train_step(program, b, a, inputs, step + 2 * i + 1)
        return (a, b), None

    (cells, spare), _ = jax.lax.scan(two, (state.cells, state.spare), jnp.arange(n // 2))
    if n % 2:
        cells, spare = train_step(program, cells, spare, inputs, step + n - 1), cells
    return state._replace(cells=cells, spare=spare)


def train_step(
    program: Program,
    cells: tuple[Cells, ...],
    into: tuple[Cells, ...],
    inputs: Inputs,
    step: Int[Array, ""],
) -> tuple[Cells, ...]:
    """One training step of all cells, written over the buffers `into`."""
    x = draw(program, inputs, "batches", step)

    def keys(d_sae: int) -> Array:
        """Randomness of a revival, for each source."""
        fold = jax.vmap(lambda seed: jax.random.fold_in(stream(seed, "resample"), d_sae))
        by_seed = jax.vmap(jax.random.fold_in, (0, None))(fold(inputs.seeds), step)
        return devices.everywhere(program.mesh, jnp.concatenate([by_seed] * len(program.sources)))

    def one(group: Group, cells: Cells, into: Cells) -> Cells:
        of_cells, of_sources = devices.CELLS, devices.SOURCES
        specs = of_cells, of_cells, devices.HYPERS, devices.TRAINING, of_sources, devices.EVERYWHERE
        run = partial(step_group, program, group)
        run = devices.each_device(program.mesh, run, specs, of_cells)
        return run(cells, into, inputs.hypers[group.part], x, keys(group.d_sae), step)

    return tuple(map(one, program.groups, cells, into))
