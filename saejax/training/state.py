"""How far a run has come: what its host loop carries from one chunk to the next."""

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from saejax.core.devices import CELLS, EVERYWHERE, RATIOS, TAKEN, sharding, spread, to_host
from saejax.core.keys import stream
from saejax.data.host import Fed, HostSource
from saejax.data.prefetch import feeds
from saejax.data.source import AnySource, Source
from saejax.training.batches import draw
from saejax.training.cells import Cells, Groups, Hypers, as_cells, hypers, init_weights
from saejax.training.chunk import chunk
from saejax.training.evaluate import snapshot
from saejax.training.plan import Group, Plan


class State(NamedTuple):
    """Everything on the devices. What changes comes first; the rest are inputs of every chunk."""

    groups: Groups
    spare: Groups
    matches: tuple
    arrays: dict
    seeds: Integer[Array, " seeds"]
    hypers: Hypers


def start(plan: Plan) -> State:
    """Fresh weights, the data sets' arrays and the swept numbers of a run, on the devices.

    What host sources feed is not among the arrays yet. Weights and true features are computed on
    one device, because they factorise matrices: on a CPU JAX hands the factorisations of a batch to
    the threads that run its devices, and where all of these wait for one another none is left to
    work.
    """
    mesh = plan.mesh
    seeds = np.array(plan.sweep.seeds, np.uint32)

    def arrays(source: Source) -> tuple[Any, Any]:
        setup = jax.jit(jax.vmap(lambda s: source.setup(stream(s, "truth"))))
        return spread(mesh, source.shared), spread(mesh, setup(seeds))

    own = {name: arrays(s) for name, s in plan.sources.items() if not isinstance(s, HostSource)}
    middle = centers(plan, own, spread(mesh, seeds))

    def group(kind: Group) -> Cells:
        fresh = partial(
            init_weights,
            d_in=plan.source.d_in,
            d_sae=kind.d_sae,
            settings=plan.settings,
            architecture=kind.architecture,
        )
        weights = spread(mesh, jax.jit(fresh)(seeds))
        n_hyper = plan.n_hypers[kind.part]
        cells = partial(as_cells, n_datasets=plan.shape[0], n_hyper=n_hyper, settings=plan.settings)
        return jax.jit(cells, out_shardings=sharding(mesh, CELLS))(weights, centers=middle)

    def match(kind: Group) -> Any:
        if not plan.source.n_features:
            return None
        at = (plan.n_source, plan.n_hypers[kind.part], plan.source.n_features)
        nothing = jax.jit(
            lambda: (jnp.full(at, -1, jnp.int32), jnp.full(at, jnp.nan)),
            out_shardings=sharding(mesh, CELLS),
        )
        return nothing()

    groups = tuple(map(group, plan.groups))
    return State(
        groups=groups,
        spare=empty(plan, groups),
        matches=tuple(map(match, plan.groups)),
        arrays=own,
        seeds=spread(mesh, seeds),
        hypers=tuple(spread(mesh, hypers(part)) for part in plan.sweep.parts),
    )


def empty(plan: Plan, groups: Groups) -> Groups:
    """Buffers of the shapes of the groups, where they lie."""
    zeros = jax.jit(
        lambda: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), groups),
        out_shardings=sharding(plan.mesh, CELLS),
    )
    return zeros()


def centers(
    plan: Plan, arrays: dict, seeds: Integer[Array, " seeds"]
) -> Float[Array, "source d_in"] | None:
    """Mean of every source's samples, where "tied" weights have their b_dec; None for others.

    Of host sources it is the mean of all samples, of the others that of `eval_batches` batches.
    """
    s = plan.settings
    if s.sae.init != "tied" or not s.sae.use_b_dec:
        return None

    def one(name: str, source: AnySource) -> Any:
        if isinstance(source, HostSource):
            mean = np.asarray(source.mean(), np.float32)
            return spread(plan.mesh, np.broadcast_to(mean, (len(plan.sweep.seeds), source.d_in)))
        samples = partial(draw, {name: source}, name="init", batch_size=s.batch_size)
        several = partial(samples, step=jnp.int32(0), n_batches=s.eval_batches)
        mean = jax.jit(
            lambda own, seeds: several(own, seeds).mean((1, 2)),
            out_shardings=sharding(plan.mesh, EVERYWHERE),
        )
        return mean({name: arrays[name]}, seeds)

    parts = [one(name, source) for name, source in plan.sources.items()]
    return jax.jit(jnp.concatenate, out_shardings=sharding(plan.mesh, EVERYWHERE))(parts)


def feed(plan: Plan, step: int) -> Generator[dict[str, Fed], None, None]:
    """What host sources hand to one chunk after another from a step on, read one chunk ahead."""
    s = plan.settings
    hosts = {name: x for name, x in plan.sources.items() if isinstance(x, HostSource)}
    steps = range(step, s.steps, s.eval_every)
    return feeds(hosts, plan.sweep.seeds, steps, s.eval_batches, s.batch_size, plan.mesh)


def compile_chunk(plan: Plan, state: State) -> Any:
    """The compiled chunk of a run: takes the parts of a state and the number of steps done."""
    run = partial(chunk, own=plan.metrics, **fixed(plan))
    at = None
    if plan.mesh is not None:
        # Measurements and snapshots stay where they are made, unless another process has to read
        # them.
        alone = jax.process_count() == 1
        measured, taken = (RATIOS, TAKEN) if alone else (EVERYWHERE, EVERYWHERE)
        at = tuple(sharding(plan.mesh, spec) for spec in (CELLS, CELLS, CELLS, measured, taken))
    jitted = jax.jit(run, donate_argnums=(0, 1), out_shardings=at)
    return jitted.lower(*state, np.int32(0)).compile()


def first_snapshot(plan: Plan, state: State) -> Any:
    """The snapshot before training, with the leading axis that a chunk's snapshots have."""
    take = jax.jit(partial(snapshot, **fixed(plan)))
    first = take(state.groups, state.arrays, state.seeds, state.hypers, np.int32(0))
    return jax.tree.map(lambda a: a[None], to_host(first))


def fixed(plan: Plan) -> dict[str, Any]:
    """What the functions of `saejax.training.chunk` take besides arrays."""
    return {
        "sources": plan.sources,
        "settings": plan.settings,
        "kinds": plan.groups,
        "mesh": plan.mesh,
    }


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        state: on the devices.
        done: number of steps done.
        history: measurements of each evaluation, with the axes of the sweep.
        snapshots: those of each chunk, with a leading axis.
        seconds: that each chunk took.
    """

    state: State
    done: int = 0
    history: list[dict[str, np.ndarray]] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
