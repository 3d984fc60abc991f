"""Measurements and snapshots of all cells on fresh batches."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer

from saejax.core import devices
from saejax.data.source import AnySource
from saejax.metrics import measures, turnover
from saejax.metrics.measures import Metric
from saejax.training.batches import draw, draw_evaluation, features, on_every_device
from saejax.training.cells import Cells, Groups, Hyper, Hypers, public
from saejax.training.map_cells import map_cells
from saejax.training.plan import Group
from saejax.training.settings import Settings


class Snapshot(NamedTuple):
    """Dictionaries at one step of training, or at several with a leading axis.

    Attributes:
        W_dec: decoder rows.
        alive: which latents fire on the evaluation batches of that step.
    """

    W_dec: Float[Array, "*at d_sae d_in"]
    alive: Bool[Array, "*at d_sae"]


def snapshot(
    groups: Groups,
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    hypers: Hypers,
    step: Int[Array, ""],
    *,
    sources: Mapping[str, AnySource],
    settings: Settings,
    kinds: tuple[Group, ...],
    mesh: Mesh | None = None,
) -> tuple[Snapshot, ...]:
    """What every dictionary looks like now, [source, hyper, ...] for each group.

    Arguments as in `chunk`.
    """
    x = draw(sources, arrays, seeds, "evaluation", step, settings.batch_size, settings.eval_batches)
    x = on_every_device(sources, mesh, x)

    def group(cells: Cells, kind: Group) -> Snapshot:
        def look(cell: Cells, hyper: Hyper, x: Float[Array, "n_batches batch d_in"]) -> Snapshot:
            params = public(cell.params)
            sae = measures.Subject(params, hyper.l1, hyper.k, settings.sae, kind.architecture)
            alive = measures.alive(sae, x, settings.dead_threshold, devices.batch_axis(mesh))
            return Snapshot(params.W_dec, alive)

        specs = devices.CELLS, devices.HYPERS, devices.EVALUATION
        run = partial(map_cells, look, cell_batch=kind.cell_batch)
        return devices.each_device(mesh, run, specs, devices.CELLS)(cells, hypers[kind.part], x)

    return tuple(map(group, groups, kinds))


def evaluate(
    groups: Groups,
    before: tuple,
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    hypers: Hypers,
    step: Int[Array, ""],
    *,
    sources: Mapping[str, AnySource],
    settings: Settings,
    kinds: tuple[Group, ...],
    mesh: Mesh | None = None,
    own: Mapping[str, Metric] | None = None,
) -> tuple[tuple, tuple[dict[str, Array], ...]]:
    """Measurements of every cell on fresh batches. Arguments and results as in `chunk`."""
    drawn = draw_evaluation(sources, arrays, seeds, step, settings)
    x, active = on_every_device(sources, mesh, drawn)
    F = devices.everywhere(mesh, features(sources, arrays))

    def measure(kind: Group, cell: Cells, hyper: Hyper, part: tuple) -> dict[str, Array]:
        x, active, F = part
        params = public(cell.params)
        out: dict[str, Array] = {}
        feature_of = None
        if F is not None:
            scores, index, cosine, feature_of = measures.recovery(params, F)
            out = {**scores, "best_index": index, "best_cosine": cosine}
        sae = measures.Subject(params, hyper.l1, hyper.k, settings.sae, kind.architecture)
        samples, axis = measures.Samples(x, F, active), devices.batch_axis(mesh)
        out |= measures.reconstruction(sae, samples, settings.dead_threshold, axis, own, feature_of)
        return out | {"frozen_at": cell.frozen_at}

    matches, parts = [], {}
    for cells, last, kind in zip(groups, before, kinds, strict=True):
        at = devices.EVALUATION, devices.EVALUATION, devices.SOURCES
        run = partial(map_cells, partial(measure, kind), cell_batch=kind.cell_batch)
        run = devices.each_device(mesh, run, (devices.CELLS, devices.HYPERS, at), devices.CELLS)
        out = run(cells, hypers[kind.part], (x, active, F))
        match = None
        if F is not None:
            match = out["best_index"], out["best_cosine"]
            out |= turnover.track(last[0], last[1], match[0], match[1], settings.track_threshold)
        matches.append(match)
        parts.setdefault(kind.part, []).append(out)
    stacked = (jax.tree.map(lambda *a: jnp.stack(a, axis=1), *outs) for outs in parts.values())
    return tuple(matches), tuple(stacked)


def to_next_larger(
    groups: Groups, kinds: tuple[Group, ...], mesh: Mesh | None = None
) -> tuple[Float[Array, "source ratio hyper"], ...]:
    """`mmcs` of every dictionary against the next larger one that differs in width alone.

    Args:
        groups: the cells of every group.
        kinds: what is fixed about each.
        mesh: the devices, None for a single one.

    Returns:
        For every part of the sweep. The widest dictionaries get NaN, and so does a cell whose next
        larger one was frozen as not finite.
    """

    def mean_best(pair: tuple[Array, Array]) -> Float[Array, ""]:
        own, larger = pair
        return measures.mmcs(own.T, larger.T)

    def scores(own: Array, larger: Array) -> Float[Array, "source hyper"]:
        shape = own.shape[:2]
        flat = tuple(a.reshape(-1, *a.shape[2:]) for a in (own, larger))
        return jax.lax.map(mean_best, flat).reshape(shape)

    cells = devices.CELLS
    compare = devices.each_device(mesh, scores, (cells, cells), cells)

    def part(number: int) -> Float[Array, "source ratio hyper"]:
        members = [i for i, kind in enumerate(kinds) if kind.part == number]
        out = {i: jnp.full(groups[i].frozen_at.shape, jnp.nan) for i in members}
        for i, j in pairwise(sorted(members, key=lambda i: kinds[i].d_sae)):
            found = compare(groups[i].params.W_dec, groups[j].params.W_dec)
            out[i] = jnp.where(groups[j].frozen_at < 0, found, jnp.nan)
        return jnp.stack([out[i] for i in members], axis=1)

    return tuple(part(number) for number in dict.fromkeys(kind.part for kind in kinds))
