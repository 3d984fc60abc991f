"""The compiled part of a run: draw batches, step every group, evaluate; all pure."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, Integer

from saejax.core import devices
from saejax.core.keys import stream
from saejax.data.source import AnySource
from saejax.metrics.measures import Metric
from saejax.training.batches import draw, on_every_device
from saejax.training.cells import Cells, Groups, Hypers
from saejax.training.evaluate import evaluate, snapshot
from saejax.training.plan import Group
from saejax.training.settings import Settings
from saejax.training.step import step_group


def train_steps(
    groups: Groups,
    spare: Groups,
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    hypers: Hypers,
    step: Int[Array, ""],
    *,
    n: int,
    sources: Mapping[str, AnySource],
    settings: Settings,
    kinds: tuple[Group, ...],
    mesh: Mesh | None = None,
) -> tuple[Groups, Groups]:
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
        x = on_every_device(sources, mesh, x)

        def keys(d_sae: int) -> Array:
            own = jax.vmap(lambda s: jax.random.fold_in(stream(s, "resample"), d_sae))(seeds)
            own = jax.vmap(jax.random.fold_in, (0, None))(own, step)
            return devices.everywhere(mesh, jnp.concatenate([own] * len(sources)))

        def group(a: Cells, b: Cells, kind: Group) -> Cells:
            run = partial(
                step_group,
                settings=settings,
                cell_batch=kind.cell_batch,
                axis=devices.batch_axis(mesh),
                architecture=kind.architecture,
            )
            cells, sources = devices.CELLS, devices.SOURCES
            specs = cells, cells, devices.HYPERS, devices.TRAINING, sources, devices.EVERYWHERE
            run = devices.each_device(mesh, run, specs, cells)
            return run(a, b, hypers[kind.part], x, keys(kind.d_sae), step)

        return tuple(map(group, source, target, kinds))

    def two(
        buffers: tuple[Groups, Groups], i: Int[Array, ""]
    ) -> tuple[tuple[Groups, Groups], None]:
        a, b = buffers
        b = one(a, b, step + 2 * i)
        a = one(b, a, step + 2 * i + 1)
        return (a, b), None

    (groups, spare), _ = jax.lax.scan(two, (groups, spare), jnp.arange(n // 2))
    return (one(groups, spare, step + n - 1), groups) if n % 2 else (groups, spare)


def chunk(
    groups: Groups,
    spare: Groups,
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
) -> tuple[Groups, Groups, tuple, tuple[dict[str, Array], ...], Any]:
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
        axes [source, ratio, hyper], and the snapshots of each group with a leading axis of their
        own (None without `snapshot_every`).
    """
    fixed: Any = {"sources": sources, "settings": settings, "kinds": kinds, "mesh": mesh}
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
