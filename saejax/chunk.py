"""The compiled part of a run: draw batches, step every group, evaluate; all pure."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer

from saejax import devices, metrics, tracking
from saejax.data.fed import HostSource
from saejax.data.source import AnySource, Source
from saejax.mapping import map_cells
from saejax.settings import Settings
from saejax.sweep import Cells, Hyper, public, step_group, stream

Groups = tuple[Cells, ...]


def draw(
    sources: Mapping[str, AnySource], arrays: dict, seeds: Integer[Array, " seeds"], name: str,
    step: Int[Array, ""], batch_size: int, n_batches: int | None = None,
) -> Float[Array, "source *n_batches batch d_in"]:  # fmt: skip
    """Batches of every source, data sets outermost; the same for a (seed, stream, step) always.

    Args:
        sources: the data sets.
        arrays: for each its `shared` arrays and those of its seeds, or what the host feeds it.
        seeds: the seeds.
        name: which stream of randomness, see `saejax.sweep.STREAMS`.
        step: number of steps done.
        batch_size: samples in a batch.
        n_batches: how many batches, None for one without an axis of its own.
    """

    def one_seed(source: Source, shared: Any, own: Any, seed: Integer[Array, ""]) -> Array:
        key = jax.random.fold_in(stream(seed, name), step)
        if n_batches is None:
            return source.sample(shared, own, key, batch_size)
        keys = jax.random.split(key, n_batches)
        return jax.lax.map(lambda k: source.sample(shared, own, k, batch_size), keys)

    parts = []
    for dataset, source in sources.items():
        if isinstance(source, HostSource):
            parts.append(arrays[dataset].draw(name, step))
            continue
        shared, own = arrays[dataset]
        parts.append(jax.vmap(partial(one_seed, source, shared))(own, seeds))
    return jnp.concatenate(parts)


def _whole(sources: Mapping[str, AnySource], mesh: Mesh | None, x: Array) -> Array:
    """Batches that every device draws whole; what the host feeds lies divided, and stays so."""
    fed = all(isinstance(source, HostSource) for source in sources.values())
    return x if fed else devices.everywhere(mesh, x)


def train_steps(
    groups: Groups, spare: Groups, arrays: dict, seeds: Integer[Array, " seeds"], hyper: Hyper,
    step: Int[Array, ""],
    *, n: int, sources: Mapping[str, AnySource], settings: Settings, cell_batches: tuple[int, ...],
    mesh: Mesh | None = None,
) -> tuple[Groups, Groups]:  # fmt: skip
    """`n` training steps of all width groups.

    Two sets of buffers take turns: a step reads one and writes the other, so that the loop neither
    clears nor copies the state.

    Args:
        groups: the width groups.
        spare: buffers of the same shapes.
        arrays: of the sources, see `draw`.
        seeds: the seeds.
        hyper: swept numbers.
        step: number of steps done.
        n: how many steps to do.
        sources: the data sets.
        settings: of the run.
        cell_batches: for each group, see `map_cells`.
        mesh: the devices, None for a single one.

    Returns:
        The groups and the spare buffers.
    """

    def one(source: Groups, target: Groups, step: Int[Array, ""]) -> Groups:
        x = draw(sources, arrays, seeds, "batches", step, settings.batch_size)
        x = _whole(sources, mesh, x)

        def keys(d_sae: int) -> Array:
            own = jax.vmap(lambda s: jax.random.fold_in(stream(s, "resample"), d_sae))(seeds)
            own = jax.vmap(jax.random.fold_in, (0, None))(own, step)
            return devices.everywhere(mesh, jnp.concatenate([own] * len(sources)))

        def group(a: Cells, b: Cells, cell_batch: int) -> Cells:
            run = partial(
                step_group, settings=settings, cell_batch=cell_batch, axis=devices.batch_axis(mesh)
            )
            cells, sources = devices.CELLS, devices.SOURCES
            specs = cells, cells, devices.HYPERS, devices.TRAINING, sources, devices.EVERYWHERE
            run = devices.each_device(mesh, run, specs, cells)
            return run(a, b, hyper, x, keys(a.params.b_enc.shape[-1]), step)

        return tuple(map(group, source, target, cell_batches))

    def two(buffers: tuple[Groups, Groups], i: Int[Array, ""]) -> tuple[tuple[Groups, Groups], None]:
        a, b = buffers
        b = one(a, b, step + 2 * i)
        a = one(b, a, step + 2 * i + 1)
        return (a, b), None

    (groups, spare), _ = jax.lax.scan(two, (groups, spare), jnp.arange(n // 2))
    return (one(groups, spare, step + n - 1), groups) if n % 2 else (groups, spare)


def chunk(
    groups: Groups, spare: Groups, before: tuple, arrays: dict, seeds: Integer[Array, " seeds"],
    hyper: Hyper, step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, cell_batches: tuple[int, ...],
    mesh: Mesh | None = None,
) -> tuple[Groups, Groups, tuple, dict[str, Array], Any]:  # fmt: skip
    """`eval_every` training steps and an evaluation: what one dispatch runs.

    Args:
        groups: as in `train_steps`, and so are the others.
        spare: buffers.
        before: best matches at the evaluation before, for each group (index, cosine).
        arrays: of the sources.
        seeds: the seeds.
        hyper: swept numbers.
        step: number of steps done.
        sources: the data sets.
        settings: of the run.
        cell_batches: for each group.
        mesh: the devices.

    Returns:
        The groups, the spare buffers, the best matches, the measurements with leading axes
        [source, ratio, hyper], and the snapshots of each group with a leading axis of their own
        (None without `snapshot_every`).
    """
    fixed: Any = {
        "sources": sources, "settings": settings, "cell_batches": cell_batches, "mesh": mesh
    }  # fmt: skip
    n, every = settings.eval_every, settings.snapshot_every

    def to_snapshot(buffers: tuple[Groups, Groups], i: Int[Array, ""]) -> tuple[Any, Any]:
        at = step + i * every
        groups, spare = train_steps(*buffers, arrays, seeds, hyper, at, n=every, **fixed)
        return (groups, spare), snapshot(groups, arrays, seeds, hyper, at + every, **fixed)

    taken = None
    if every:
        (groups, spare), taken = jax.lax.scan(to_snapshot, (groups, spare), jnp.arange(n // every))
    else:
        groups, spare = train_steps(groups, spare, arrays, seeds, hyper, step, n=n, **fixed)
    matches, measured = evaluate(groups, before, arrays, seeds, hyper, step + n, **fixed)
    return groups, spare, matches, measured, taken


class Snapshot(NamedTuple):
    """Dictionaries at one step of training, or at several with a leading axis.

    Attributes:
        W_dec: decoder rows.
        alive: which latents fire on the evaluation batches of that step.
    """

    W_dec: Float[Array, "*at d_sae d_in"]
    alive: Bool[Array, "*at d_sae"]


def snapshot(
    groups: Groups, arrays: dict, seeds: Integer[Array, " seeds"], hyper: Hyper, step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, cell_batches: tuple[int, ...],
    mesh: Mesh | None = None,
) -> tuple[Snapshot, ...]:  # fmt: skip
    """What every dictionary looks like now, [source, hyper, ...] for each group.

    Arguments as in `chunk`.
    """
    x = draw(sources, arrays, seeds, "evaluation", step, settings.batch_size, settings.eval_batches)
    x = _whole(sources, mesh, x)

    def look(cell: Cells, hyper: Hyper, x: Float[Array, "n_batches batch d_in"]) -> Snapshot:
        params = public(cell.params)
        alive = metrics.alive(
            params, x, settings.sae, settings.dead_threshold, devices.batch_axis(mesh)
        )
        return Snapshot(params.W_dec, alive)

    def group(cells: Cells, cell_batch: int) -> Snapshot:
        specs = devices.CELLS, devices.HYPERS, devices.EVALUATION
        run = devices.each_device(
            mesh, partial(map_cells, look, cell_batch=cell_batch), specs, devices.CELLS
        )
        return run(cells, hyper, x)

    return tuple(map(group, groups, cell_batches))


def evaluate(
    groups: Groups, before: tuple, arrays: dict, seeds: Integer[Array, " seeds"], hyper: Hyper,
    step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, cell_batches: tuple[int, ...],
    mesh: Mesh | None = None,
) -> tuple[tuple, dict[str, Array]]:  # fmt: skip
    """Measurements of every cell on fresh batches. Arguments and results as in `chunk`."""
    x = draw(sources, arrays, seeds, "evaluation", step, settings.batch_size, settings.eval_batches)
    x = _whole(sources, mesh, x)
    F = devices.everywhere(mesh, features(sources, arrays))

    def measure(cell: Cells, hyper: Hyper, part: tuple) -> dict[str, Array]:
        x, F = part
        params = public(cell.params)
        out = metrics.reconstruction(
            params, x, hyper.l1, settings.sae, settings.dead_threshold, devices.batch_axis(mesh)
        )
        if F is not None:
            scalars, index, cosine = metrics.recovery(params, F)
            out |= {**scalars, "best_index": index, "best_cosine": cosine}
        return out | {"frozen_at": cell.frozen_at}

    matches, measured = [], []
    for cells, last, k in zip(groups, before, cell_batches, strict=True):
        specs = devices.CELLS, devices.HYPERS, (devices.EVALUATION, devices.SOURCES)
        run = partial(map_cells, measure, cell_batch=k)
        out = devices.each_device(mesh, run, specs, devices.CELLS)(cells, hyper, (x, F))
        match = None
        if F is not None:
            match = out["best_index"], out["best_cosine"]
            out |= tracking.track(last[0], last[1], match[0], match[1], settings.track_threshold)
        matches.append(match)
        measured.append(out)
    return tuple(matches), jax.tree.map(lambda *a: jnp.stack(a, axis=1), *measured)


def features(sources: Mapping[str, AnySource], arrays: dict) -> Float[Array, "source n d_in"] | None:
    """Ground-truth features of every source, None where they are unknown."""
    if any(source.n_features is None for source in sources.values()):
        return None
    traced = {name: s for name, s in sources.items() if not isinstance(s, HostSource)}
    parts: list[Any] = [jax.vmap(s.features)(arrays[name][1]) for name, s in traced.items()]
    return jnp.concatenate(parts)


def to_next_larger(
    groups: Groups, order: list[int], mesh: Mesh | None = None
) -> Float[Array, "source ratio hyper"]:
    """`mmcs` of every dictionary against the next larger one that differs in width alone.

    Args:
        groups: the width groups.
        order: their indices from narrow to wide. The widest gets NaN, and so does a cell whose next
            larger one was frozen as not finite.
        mesh: the devices, None for a single one.
    """

    def mean_best(pair: tuple[Array, Array]) -> Float[Array, ""]:
        own, larger = pair
        return metrics.mmcs(own.T, larger.T)

    def scores(own: Array, larger: Array) -> Float[Array, "source hyper"]:
        shape = own.shape[:2]
        flat = tuple(a.reshape(-1, *a.shape[2:]) for a in (own, larger))
        return jax.lax.map(mean_best, flat).reshape(shape)

    cells = devices.CELLS
    compare = devices.each_device(mesh, scores, (cells, cells), cells)
    out = [jnp.full(groups[0].frozen_at.shape, jnp.nan)] * len(groups)
    for i, j in pairwise(order):
        found = compare(groups[i].params.W_dec, groups[j].params.W_dec)
        out[i] = jnp.where(groups[j].frozen_at < 0, found, jnp.nan)
    return jnp.stack(out, axis=1)
