"""The compiled part of a run: draw batches, step every group, evaluate; all pure."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer

from saejax import devices, metrics, tracking
from saejax.architectures import Architecture
from saejax.data.fed import HostSource
from saejax.data.source import AnySource, Source
from saejax.mapping import map_cells
from saejax.metrics import Metric
from saejax.settings import Settings
from saejax.step import step_group
from saejax.sweep import Cells, Hyper, public, stream

Groups = tuple[Cells, ...]
Hypers = tuple[Hyper, ...]


class Group(NamedTuple):
    """What is fixed about the cells of one architecture and one d_sae.

    Attributes:
        architecture: of these cells.
        part: which of the sweep's parts they are, and so which of its hypers they have.
        d_sae: number of latents.
        cell_batch: how many are side by side, see `saejax.mapping.map_cells`.
    """

    architecture: Architecture
    part: int
    d_sae: int
    cell_batch: int


class Local(NamedTuple):
    """What one device has: sources, hypers of every part of the sweep, samples of a batch."""

    source: int
    hypers: tuple[int, ...]
    batch: int


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

    def sample(source: Source, shared: Any, own: Any, key: Array) -> Array:
        return source.sample(shared, own, key, batch_size)

    return jnp.concatenate(_drawn(sources, arrays, seeds, name, step, n_batches, sample))


def _drawn(
    sources: Mapping[str, AnySource], arrays: dict, seeds: Integer[Array, " seeds"], name: str,
    step: Int[Array, ""], n_batches: int | None, take: Callable[..., Any],
) -> list[Any]:  # fmt: skip
    """What `take` makes of (source, shared, own, key) for every data set, [seed, *n_batches, ...]."""

    def one_seed(source: Source, shared: Any, own: Any, seed: Integer[Array, ""]) -> Any:
        key = jax.random.fold_in(stream(seed, name), step)
        if n_batches is None:
            return take(source, shared, own, key)
        return jax.lax.map(partial(take, source, shared, own), jax.random.split(key, n_batches))

    parts = []
    for dataset, source in sources.items():
        if isinstance(source, HostSource):
            parts.append(arrays[dataset].draw(name, step))
            continue
        shared, own = arrays[dataset]
        parts.append(jax.vmap(partial(one_seed, source, shared))(own, seeds))
    return parts


def draw_evaluation(
    sources: Mapping[str, AnySource], arrays: dict, seeds: Integer[Array, " seeds"],
    step: Int[Array, ""], settings: Settings,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Evaluation batches, and which true features are in each sample; None where nobody knows.

    Arguments as in `draw`.

    Returns:
        [source, n_batches, batch, d_in] and [source, n_batches, batch, n_features].
    """
    known = all(not isinstance(s, HostSource) and s.n_features for s in sources.values())

    def take(source: Source, shared: Any, own: Any, key: Array) -> Any:
        x = source.sample(shared, own, key, settings.batch_size)
        codes = source.codes(shared, own, key, settings.batch_size) if known else None
        return x if codes is None else (x, codes > 0)

    parts = _drawn(sources, arrays, seeds, "evaluation", step, settings.eval_batches, take)
    if not all(isinstance(part, tuple) for part in parts):
        return jnp.concatenate([p[0] if isinstance(p, tuple) else p for p in parts]), None
    return tuple(jnp.concatenate(both) for both in zip(*parts, strict=True))  # pyright: ignore


def _whole(sources: Mapping[str, AnySource], mesh: Mesh | None, x: Any) -> Any:
    """Batches that every device draws whole; what the host feeds lies divided, and stays so."""
    fed = all(isinstance(source, HostSource) for source in sources.values())
    return x if fed else devices.everywhere(mesh, x)


def train_steps(
    groups: Groups, spare: Groups, arrays: dict, seeds: Integer[Array, " seeds"], hypers: Hypers,
    step: Int[Array, ""],
    *, n: int, sources: Mapping[str, AnySource], settings: Settings, kinds: tuple[Group, ...],
    mesh: Mesh | None = None,
) -> tuple[Groups, Groups]:  # fmt: skip
    """`n` training steps of all groups.

    Two sets of buffers take turns: a step reads one and writes the other, so that the loop neither
    clears nor copies the state.

    Args:
        groups: the cells of every group.
        spare: buffers of the same shapes.
        arrays: of the sources, see `draw`.
        seeds: the seeds.
        hypers: swept numbers of every part of the sweep.
        step: number of steps done.
        n: how many steps to do.
        sources: the data sets.
        settings: of the run.
        kinds: what is fixed about each group.
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

        def group(a: Cells, b: Cells, kind: Group) -> Cells:
            run = partial(
                step_group, settings=settings, cell_batch=kind.cell_batch,
                axis=devices.batch_axis(mesh), architecture=kind.architecture,
            )  # fmt: skip
            cells, sources = devices.CELLS, devices.SOURCES
            specs = cells, cells, devices.HYPERS, devices.TRAINING, sources, devices.EVERYWHERE
            run = devices.each_device(mesh, run, specs, cells)
            return run(a, b, hypers[kind.part], x, keys(kind.d_sae), step)

        return tuple(map(group, source, target, kinds))

    def two(buffers: tuple[Groups, Groups], i: Int[Array, ""]) -> tuple[tuple[Groups, Groups], None]:
        a, b = buffers
        b = one(a, b, step + 2 * i)
        a = one(b, a, step + 2 * i + 1)
        return (a, b), None

    (groups, spare), _ = jax.lax.scan(two, (groups, spare), jnp.arange(n // 2))
    return (one(groups, spare, step + n - 1), groups) if n % 2 else (groups, spare)


def chunk(
    groups: Groups, spare: Groups, before: tuple, arrays: dict, seeds: Integer[Array, " seeds"],
    hypers: Hypers, step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, kinds: tuple[Group, ...],
    mesh: Mesh | None = None, own: Mapping[str, Metric] | None = None,
) -> tuple[Groups, Groups, tuple, tuple[dict[str, Array], ...], Any]:  # fmt: skip
    """`eval_every` training steps and an evaluation: what one dispatch runs.

    Args:
        groups: as in `train_steps`, and so are the others.
        spare: buffers.
        before: best matches at the evaluation before, for each group (index, cosine).
        arrays: of the sources.
        seeds: the seeds.
        hypers: swept numbers.
        step: number of steps done.
        sources: the data sets.
        settings: of the run.
        kinds: what is fixed about each group.
        mesh: the devices.
        own: further metrics by name.

    Returns:
        The groups, the spare buffers, the best matches, the measurements of every part with leading
        axes [source, ratio, hyper], and the snapshots of each group with a leading axis of their own
        (None without `snapshot_every`).
    """
    fixed: Any = {
        "sources": sources, "settings": settings, "kinds": kinds, "mesh": mesh
    }  # fmt: skip
    n, every = settings.eval_every, settings.snapshot_every

    def to_snapshot(buffers: tuple[Groups, Groups], i: Int[Array, ""]) -> tuple[Any, Any]:
        at = step + i * every
        groups, spare = train_steps(*buffers, arrays, seeds, hypers, at, n=every, **fixed)
        return (groups, spare), snapshot(groups, arrays, seeds, hypers, at + every, **fixed)

    taken = None
    if every:
        (groups, spare), taken = jax.lax.scan(to_snapshot, (groups, spare), jnp.arange(n // every))
    else:
        groups, spare = train_steps(groups, spare, arrays, seeds, hypers, step, n=n, **fixed)
    look = partial(evaluate, own=own, **fixed)
    matches, measured = look(groups, before, arrays, seeds, hypers, step + n)
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
    groups: Groups, arrays: dict, seeds: Integer[Array, " seeds"], hypers: Hypers, step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, kinds: tuple[Group, ...],
    mesh: Mesh | None = None,
) -> tuple[Snapshot, ...]:  # fmt: skip
    """What every dictionary looks like now, [source, hyper, ...] for each group.

    Arguments as in `chunk`.
    """
    x = draw(sources, arrays, seeds, "evaluation", step, settings.batch_size, settings.eval_batches)
    x = _whole(sources, mesh, x)

    def group(cells: Cells, kind: Group) -> Snapshot:
        def look(cell: Cells, hyper: Hyper, x: Float[Array, "n_batches batch d_in"]) -> Snapshot:
            params = public(cell.params)
            alive = metrics.alive(
                params, x, settings.sae, settings.dead_threshold, devices.batch_axis(mesh),
                kind.architecture, hyper.k,
            )  # fmt: skip
            return Snapshot(params.W_dec, alive)

        specs = devices.CELLS, devices.HYPERS, devices.EVALUATION
        run = partial(map_cells, look, cell_batch=kind.cell_batch)
        return devices.each_device(mesh, run, specs, devices.CELLS)(cells, hypers[kind.part], x)

    return tuple(map(group, groups, kinds))


def evaluate(
    groups: Groups, before: tuple, arrays: dict, seeds: Integer[Array, " seeds"], hypers: Hypers,
    step: Int[Array, ""],
    *, sources: Mapping[str, AnySource], settings: Settings, kinds: tuple[Group, ...],
    mesh: Mesh | None = None, own: Mapping[str, Metric] | None = None,
) -> tuple[tuple, tuple[dict[str, Array], ...]]:  # fmt: skip
    """Measurements of every cell on fresh batches. Arguments and results as in `chunk`."""
    drawn = draw_evaluation(sources, arrays, seeds, step, settings)
    x, active = _whole(sources, mesh, drawn)
    F = devices.everywhere(mesh, features(sources, arrays))

    def measure(kind: Group, cell: Cells, hyper: Hyper, part: tuple) -> dict[str, Array]:
        x, active, F = part
        params = public(cell.params)
        out: dict[str, Array] = {}
        feature_of = None
        if F is not None:
            scores, index, cosine, feature_of = metrics.recovery(params, F)
            out = {**scores, "best_index": index, "best_cosine": cosine}
        out |= metrics.reconstruction(
            params, x, hyper.l1, settings.sae, settings.dead_threshold, devices.batch_axis(mesh),
            kind.architecture, hyper.k, own, F, active, feature_of,
        )  # fmt: skip
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
            out |= tracking.track(last[0], last[1], match[0], match[1], settings.track_threshold)
        matches.append(match)
        parts.setdefault(kind.part, []).append(out)
    stacked = (jax.tree.map(lambda *a: jnp.stack(a, axis=1), *outs) for outs in parts.values())
    return tuple(matches), tuple(stacked)


def features(sources: Mapping[str, AnySource], arrays: dict) -> Float[Array, "source n d_in"] | None:
    """Ground-truth features of every source, None where they are unknown."""
    if any(source.n_features is None for source in sources.values()):
        return None
    traced = {name: s for name, s in sources.items() if not isinstance(s, HostSource)}
    parts: list[Any] = [jax.vmap(s.features)(arrays[name][1]) for name, s in traced.items()]
    return jnp.concatenate(parts)


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
        return metrics.mmcs(own.T, larger.T)

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
