"""Measurements and snapshots of all cells on fresh batches."""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saejax.core import devices
from saejax.metrics import measures, turnover
from saejax.training.batches import Inputs, draw, draw_evaluation, features
from saejax.training.cells import Cells, Hyper, transpose_decoder
from saejax.training.map_cells import map_cells
from saejax.training.plan import Group, Program

# For every group the best latent of each true feature and its cosine; None where none is known.
Matches = tuple[tuple[Int[Array, "*cells n"], Float[Array, "*cells n"]] | None, ...]


class Snapshot(NamedTuple):
    """Dictionaries at one step of training, or at several with a leading axis.

    Attributes:
        W_dec: decoder rows.
        alive: which latents fire on the evaluation batches of that step.
    """

    W_dec: Float[Array, "*at d_sae d_in"]
    alive: Bool[Array, "*at d_sae"]


def snapshot(
    program: Program, cells: tuple[Cells, ...], inputs: Inputs, step: Int[Array, ""]
) -> tuple[Snapshot, ...]:
    """What every dictionary looks like now, [source, hyper, ...] for each group.

    Arguments as in `saejax.training.chunk.chunk`.
    """
    settings = program.settings
    x = draw(program, inputs, "evaluation", step, settings.eval_batches)

    def one(group: Group, cells: Cells) -> Snapshot:
        def look(cell: Cells, hyper: Hyper, x: Float[Array, "n_batches batch d_in"]) -> Snapshot:
            params = transpose_decoder(cell.params)
            sae = measures.Subject(params, hyper.l1, hyper.k, settings.sae, group.architecture)
            alive = measures.alive(sae, x, settings.dead_threshold, program.axis)
            return Snapshot(params.W_dec, alive)

        specs = devices.CELLS, devices.HYPERS, devices.EVALUATION
        run = partial(map_cells, look, cell_batch=group.cell_batch)
        run = devices.each_device(program.mesh, run, specs, devices.CELLS)
        return run(cells, inputs.hypers[group.part], x)

    return tuple(map(one, program.groups, cells))


def evaluate(
    program: Program,
    cells: tuple[Cells, ...],
    before: Matches,
    inputs: Inputs,
    step: Int[Array, ""],
) -> tuple[Matches, tuple[dict[str, Array], ...]]:
    """Measurements of every cell on fresh batches.

    Args:
        program: of the run.
        cells: of every group.
        before: the matches of the evaluation before.
        inputs: of the run.
        step: number of steps done.

    Returns:
        The matches now, and the measurements of every part of the sweep with leading axes [source,
        ratio, hyper].
    """
    settings = program.settings
    x, active = draw_evaluation(program, inputs, step)
    F = devices.everywhere(program.mesh, features(program, inputs))

    def measure(group: Group, cell: Cells, hyper: Hyper, of_source: tuple) -> dict[str, Array]:
        x, active, F = of_source
        params = transpose_decoder(cell.params)
        out: dict[str, Array] = {}
        feature_of = None
        if F is not None:
            scores, index, cosine, feature_of = measures.recovery(params, F)
            out = {**scores, "best_index": index, "best_cosine": cosine}
        sae = measures.Subject(params, hyper.l1, hyper.k, settings.sae, group.architecture)
        out |= measures.reconstruction(
            sae,
            measures.Samples(x, F, active),
            settings.dead_threshold,
            program.axis,
            program.metrics,
            feature_of,
        )
        return out | {"frozen_at": cell.frozen_at}

    matches, parts = [], {}
    for group, own, last in zip(program.groups, cells, before, strict=True):
        of_source = devices.EVALUATION, devices.EVALUATION, devices.SOURCES
        run = partial(map_cells, partial(measure, group), cell_batch=group.cell_batch)
        specs = devices.CELLS, devices.HYPERS, of_source
        run = devices.each_device(program.mesh, run, specs, devices.CELLS)
        out = run(own, inputs.hypers[group.part], (x, active, F))
        match = None
        if last is not None:
            match = out["best_index"], out["best_cosine"]
            out |= turnover.track(*last, *match, settings.track_threshold)
        matches.append(match)
        parts.setdefault(group.part, []).append(out)
    stacked = (jax.tree.map(lambda *a: jnp.stack(a, axis=1), *outs) for outs in parts.values())
    return tuple(matches), tuple(stacked)


def to_next_larger(
    program: Program, cells: tuple[Cells, ...]
) -> tuple[Float[Array, "source ratio hyper"], ...]:
    """`mmcs` of every dictionary against the next larger one that differs in width alone.

    Args:
        program: of the run.
        cells: of every group.

    Returns:
        For every part of the sweep. The widest dictionaries get NaN, and so does a cell whose next
        larger one was frozen as not finite.
    """
    groups = program.groups

    def mean_best(pair: tuple[Array, Array]) -> Float[Array, ""]:
        W_dec, larger = pair
        return measures.mmcs(W_dec.T, larger.T)

    def scores(W_dec: Array, larger: Array) -> Float[Array, "source hyper"]:
        shape = W_dec.shape[:2]
        flat = tuple(a.reshape(-1, *a.shape[2:]) for a in (W_dec, larger))
        return jax.lax.map(mean_best, flat).reshape(shape)

    both = devices.CELLS, devices.CELLS
    compare = devices.each_device(program.mesh, scores, both, devices.CELLS)

    def part(number: int) -> Float[Array, "source ratio hyper"]:
        members = [i for i, group in enumerate(groups) if group.part == number]
        out = {i: jnp.full(cells[i].frozen_at.shape, jnp.nan) for i in members}
        for i, j in pairwise(sorted(members, key=lambda i: groups[i].d_sae)):
            found = compare(cells[i].params.W_dec, cells[j].params.W_dec)
            out[i] = jnp.where(cells[j].frozen_at < 0, found, jnp.nan)
        return jnp.stack([out[i] for i in members], axis=1)

    return tuple(part(number) for number in dict.fromkeys(group.part for group in groups))


def first_matches(n_source: int, n_hyper: int, n_features: int) -> Any:
    """The matches of a group before its first evaluation: none."""
    at = (n_source, n_hyper, n_features)
    return jnp.full(at, -1, jnp.int32), jnp.full(at, jnp.nan)
