"""What a run holds: its first state on the devices, its compiled chunk, and how far it has come."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from saejax.core.devices import CELLS, EVERYWHERE, RATIOS, TAKEN, spread, to_host
from saejax.core.keys import stream
from saejax.core.programs import compiled, jitted
from saejax.data.host import Fed, HostSource
from saejax.data.prefetch import feeds
from saejax.training.batches import Inputs, draw
from saejax.training.cells import Cells, as_cells, hypers, init_weights
from saejax.training.chunk import State, chunk
from saejax.training.evaluate import first_matches, snapshot
from saejax.training.plan import Group, Plan, Program


@dataclass
class Progress:
    """How far a run has come: what its host loop carries from one chunk to the next.

    Attributes:
        state: on the devices.
        inputs: likewise.
        done: number of steps done.
        history: measurements of each evaluation, with the axes of the sweep.
        snapshots: those of each chunk, with a leading axis.
        seconds: that each chunk took.
    """

    state: State
    inputs: Inputs
    done: int = 0
    history: list[dict[str, np.ndarray]] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def hand_in(self, fed: dict[str, Fed]) -> None:
        """Takes what host sources feed to the next chunk."""
        self.inputs = self.inputs._replace(arrays=self.inputs.arrays | fed)


def start(plan: Plan) -> tuple[State, Inputs]:
    """Fresh weights, the data sets' arrays and the swept numbers of a run, on the devices.

    What host sources feed is not among the arrays yet. Weights and true features are computed on
    one device, because they factorise matrices: on a CPU JAX hands the factorisations of a batch to
    the threads that run its devices, and where all of these wait for one another none is left to
    work.
    """
    mesh, program = plan.mesh, plan.program
    seeds = np.array(plan.sweep.seeds, np.uint32)
    parts = tuple(spread(mesh, hypers(part)) for part in plan.sweep.parts)
    arrays = {}
    for name, source in plan.sources.items():
        if not isinstance(source, HostSource):
            set_up = jitted(_set_up, program, name)
            arrays[name] = spread(mesh, source.shared), spread(mesh, set_up(seeds))
    inputs = Inputs(arrays, spread(mesh, seeds), parts)
    middle = centers(plan, inputs)

    def fresh(group: Group) -> Cells:
        weights = jitted(
            _weights, group.architecture, group.d_sae, plan.source.d_in, plan.settings
        )(seeds)
        sizes = plan.shape[0], plan.n_hypers[group.part]
        run = jitted(_cells, *sizes, plan.settings, mesh=mesh, out=CELLS)
        return run(spread(mesh, weights), middle)

    def unmatched(group: Group) -> Any:
        n = plan.source.n_features
        sizes = plan.n_source, plan.n_hypers[group.part], n
        return jitted(first_matches, *sizes, mesh=mesh, out=CELLS)() if n else None

    cells = tuple(map(fresh, plan.groups))
    return State(cells, empty(plan, cells), tuple(map(unmatched, plan.groups))), inputs


def _set_up(program: Program, name: str, seeds: Integer[Array, " seeds"]) -> Any:
    source = program.sources[name]
    assert source is not None
    return jax.vmap(lambda seed: source.setup(stream(seed, "truth")))(seeds)


def _weights(architecture: Any, d_sae: int, d_in: int, settings: Any, seeds: Any) -> Any:
    return init_weights(seeds, d_in, d_sae, settings, architecture)


def _cells(n_datasets: int, n_hyper: int, settings: Any, weights: Any, centers: Any) -> Cells:
    return as_cells(weights, n_datasets, n_hyper, settings, centers)


def empty(plan: Plan, cells: tuple[Cells, ...]) -> tuple[Cells, ...]:
    """Buffers of the shapes of the cells, where they lie."""
    return jitted(_zeros, mesh=plan.mesh, out=CELLS)(cells)


def _zeros(cells: Any) -> Any:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), cells)


def centers(plan: Plan, inputs: Inputs) -> Float[Array, "source d_in"] | None:
    """Mean of every source's samples, where "tied" weights have their b_dec; None for others.

    Of host sources it is the mean of all samples, of the others that of `eval_batches` batches.
    """
    sae = plan.settings.sae
    if sae.init != "tied" or not sae.use_b_dec:
        return None

    def one(name: str) -> Any:
        source = plan.sources[name]
        if isinstance(source, HostSource):
            mean = np.asarray(source.mean(), np.float32)
            return spread(plan.mesh, np.broadcast_to(mean, (len(inputs.seeds), source.d_in)))
        run = jitted(_mean, plan.program, name, mesh=plan.mesh, out=EVERYWHERE)
        return run(inputs)

    return jitted(jnp.concatenate, mesh=plan.mesh, out=EVERYWHERE)([one(n) for n in plan.sources])


def _mean(program: Program, name: str, inputs: Inputs) -> Float[Array, "seeds d_in"]:
    alone = replace(program, sources={name: program.sources[name]})
    several = draw(alone, inputs, "init", jnp.int32(0), program.settings.eval_batches)
    return several.mean((1, 2))


def feed(plan: Plan, step: int) -> Generator[dict[str, Fed], None, None]:
    """What host sources hand to one chunk after another from a step on, read one chunk ahead."""
    s = plan.settings
    hosts = {name: x for name, x in plan.sources.items() if isinstance(x, HostSource)}
    steps = range(step, s.steps, s.eval_every)
    return feeds(hosts, plan.sweep.seeds, steps, s.eval_batches, s.batch_size, plan.mesh)


def compile_chunk(plan: Plan, state: State, inputs: Inputs) -> Any:
    """The compiled chunk of a run: takes a state, its inputs and the number of steps done."""
    # Measurements and snapshots stay where they are made, unless another process has to read them.
    alone = jax.process_count() == 1
    out = (CELLS, RATIOS, TAKEN) if alone else (CELLS, EVERYWHERE, EVERYWHERE)
    run = jitted(chunk, plan.program, mesh=plan.mesh, out=out, donate=(0,))
    return compiled(run, state, inputs, np.int32(0))


def first_snapshot(plan: Plan, state: State, inputs: Inputs) -> Any:
    """The snapshot before training, with the leading axis that a chunk's snapshots have."""
    first = jitted(snapshot, plan.program)(state.cells, inputs, np.int32(0))
    return jax.tree.map(lambda a: a[None], to_host(first))
