"""How many bytes a run needs on one device, without compiling anything, and what would make it fit.

    total = weights + moments + spare + data + results + program + batches + activations

A phase is what runs at one time: drawing a batch, a step of one width group, a revival of its
latents, an evaluation, collecting the results. The compiler lets all phases share one arena, so the
last two terms are those of the largest phase and not sums. How much a phase takes is counted in
copies of four arrays of a cell,

    A  [batch, d_sae]    W  [d_in, d_sae]    X  [batch, d_in]    C  [n_features, d_sae]

and of N [batch, n_features] of a seed. The copies are what JAX 0.10's compiler needs for a CPU,
read off its buffer assignments (experiments/docs/pages/notes/memory.md). For GPUs and TPUs nobody
has measured them: there they are an estimate, `saejax.training.capacity.SAFETY` leaves room for its
error, and `_phases` is the one place to correct.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saejax.core.keys import stream
from saejax.data.host import HostSource
from saejax.data.source import SyntheticSource
from saejax.training.map_cells import block_shape
from saejax.training.plan import Group, Plan
from saejax.training.settings import Settings

# On a CPU the compiler and the program share the machine's memory with the arrays. Measured with
# tiny arrays: 0.24 GB for one width group, 0.92 for eight, 0.30 for one with ghosts, 0.65 for three
# revived.
PROGRAM, PROGRAM_OF_GROUP, PROGRAM_OF_REVIVAL = 140_000_000, 97_000_000, 75_000_000
# What the auxiliary loss of dead latents holds, in copies of A and W.
AUX = 2, 3
# Scalars that an evaluation keeps of a cell.
MEASUREMENTS = 24


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by kind. On a CPU the host's arrays and the program are among them.

    Attributes:
        weights: parameters of all cells, and how long their latents have been silent.
        moments: Adam's two, of every parameter.
        spare: the second set of weights and moments, which a step writes.
        data: ground truths and arrays of the data sets; two chunks of what the host feeds.
        results: snapshots of a chunk; on a CPU also what is kept until the end of the run.
        program: on a CPU, the compiler and what it made.
        batches: in the largest phase, batches and the random numbers they are drawn with.
        activations: in the largest phase, temporaries of the cells that are side by side.
    """

    weights: int
    moments: int
    spare: int
    data: int
    results: int
    program: int
    batches: int
    activations: int

    @property
    def total(self) -> int:
        """The sum of the kinds."""
        return sum(getattr(self, kind.name) for kind in fields(self))


class Phase(NamedTuple):
    """Bytes of the temporaries that are alive at one time."""

    batches: int
    activations: int


class GroupSizes(NamedTuple):
    """The numbers of a group that memory depends on, those of one device.

    Attributes:
        part: which part of the sweep it is of.
        d_sae: number of latents.
        cell_batch: cells side by side.
        n_hyper: hypers of each source.
        parameters: bytes of the weights of a cell.
        temporaries: arrays [batch, d_sae] and [d_in, d_sae] of a step beyond a ReLU's.
    """

    part: int
    d_sae: int
    cell_batch: int
    n_hyper: int
    parameters: int
    temporaries: tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """The numbers of a plan that memory depends on, those of one device."""

    d_in: int
    n_features: int
    groups: tuple[GroupSizes, ...]
    n_source: int
    n_seeds: int
    batch_size: int
    drawn: tuple[int, int]
    settings: Settings
    data: int
    fed: int
    draws: int
    on_cpu: bool

    def of_all(self, one: Callable[[GroupSizes], int]) -> int:
        """Sum over all cells of what one of a group has."""
        return sum(self.n_source * g.n_hyper * one(g) for g in self.groups)

    def with_cell_batches(self, cell_batches: Sequence[int]) -> "Sizes":
        """The same with other numbers of cells side by side, one for each group."""
        changed = (g._replace(cell_batch=k) for g, k in zip(self.groups, cell_batches, strict=True))
        return replace(self, groups=tuple(changed))


def estimate(plan: Plan) -> Memory:
    """Bytes that a run needs on one device, by kind (module docstring).

    Args:
        plan: of the run.
    """
    return estimate_sizes(sizes_of(plan))


def gigabytes(n: float) -> str:
    """Bytes in units of 10^9, to three figures."""
    return f"{n / 1e9:.3g} GB"


def sizes_of(plan: Plan) -> Sizes:
    """The numbers of a plan that memory depends on."""
    s, sources = plan.settings, list(plan.sources.values())
    hosts = [source for source in sources if isinstance(source, HostSource)]
    seeds = jax.ShapeDtypeStruct((len(plan.sweep.seeds),), jnp.uint32)
    data = 0
    for source in sources:
        if not isinstance(source, HostSource):
            own = jax.eval_shape(jax.vmap(lambda s, at=source: at.setup(stream(s, "truth"))), seeds)
            data += _bytes(own) + _bytes(source.shared)
    # Of every number that is drawn the generator holds two words of state on the way in and two on
    # the way out, besides its counters. A copula draws normal numbers besides; a hierarchy holds
    # what it proposes and what it keeps.
    specs = [x.spec for x in sources if isinstance(x, SyntheticSource)]
    draws = 4 + 2 * any(s.kind == "copula" for s in specs) + 2 * any(s.hierarchy for s in specs)
    fed = [np.dtype(getattr(jnp, x.describe().get("dtype", "float32"))).itemsize for x in hosts]
    d_in = sources[0].d_in

    def sizes(group: Group) -> GroupSizes:
        init = partial(group.architecture.init, d_in=d_in, d_sae=group.d_sae, config=s.sae)
        weights = jax.eval_shape(lambda: init(jax.random.key(0)))
        n_hyper = plan.local.hypers[group.part]
        more_A, more_W = group.architecture.temporaries
        if s.resample.aux_after and "auxk" in group.architecture.revivals:
            more_A, more_W = more_A + AUX[0], more_W + AUX[1]
        return GroupSizes(
            group.part, group.d_sae, group.cell_batch, n_hyper, _bytes(weights), (more_A, more_W)
        )

    return Sizes(
        d_in=d_in,
        n_features=sources[0].n_features or 0,
        groups=tuple(map(sizes, plan.groups)),
        n_source=plan.local.source,
        n_seeds=len(plan.sweep.seeds),
        batch_size=plan.local.batch,
        # Every device draws whole batches of all sources; what the host feeds is divided.
        drawn=(plan.layout.source, plan.layout.batch) if len(hosts) < len(sources) else (1, 1),
        settings=s,
        data=data,
        fed=sum(fed),
        draws=draws if sources[0].n_features else 0,
        on_cpu=jax.local_devices()[0].platform == "cpu",
    )


def _bytes(tree: Any) -> int:
    return sum(int(a.size) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def estimate_sizes(at: Sizes) -> Memory:
    """`estimate` of the plan that has these numbers."""
    s = at.settings
    # Each cell also has the step at which it froze, and Adam's count.
    weights = at.of_all(lambda g: g.parameters + 4 * g.d_sae * s.resample.watches + 4)
    moments = at.of_all(lambda g: 2 * g.parameters + 4)
    # Index and cosine of every feature's best latent, at the evaluation before.
    matches = at.of_all(lambda _: 8 * at.n_features)
    batch = at.n_seeds * at.batch_size * at.d_in
    held_out = at.fed * s.eval_batches * at.batch_size * at.d_in
    # One chunk is trained on while the next is read.
    data = at.data + matches + 2 * at.fed * s.eval_every * batch + held_out
    phases = _together(at)
    if at.on_cpu:
        # The dictionaries' public orientation is a copy of W_dec, made when temporaries are gone.
        phases.append(Phase(0, at.of_all(lambda g: 4 * at.d_in * g.d_sae)))
    largest = max(phases, key=sum)
    rule = s.resample
    revivals = bool(rule.every) + bool(rule.ghost_after or rule.aux_after)
    program = PROGRAM_OF_GROUP + PROGRAM_OF_REVIVAL * revivals
    return Memory(
        weights=weights,
        moments=moments,
        spare=weights + moments,
        data=data,
        results=_results(at),
        program=PROGRAM + program * len(at.groups) if at.on_cpu else 0,
        batches=largest.batches,
        activations=largest.activations,
    )


def _results(at: Sizes) -> int:
    """Snapshots of a chunk; on a CPU those of the whole run, and its measurements."""
    s = at.settings
    every = s.snapshot_every
    one = at.of_all(lambda g: (4 * at.d_in + 1) * g.d_sae)
    chunk = one * (s.eval_every // every) if every else 0
    if not at.on_cpu:
        return chunk
    taken = one * (s.steps // every + 1) if every else 0
    evaluation = at.of_all(lambda _: 4 * MEASUREMENTS + 8 * at.n_features)
    # At the end they are joined along their first axis, which is a copy.
    return 2 * (taken + evaluation * (s.steps // s.eval_every))


def _together(at: Sizes) -> list[Phase]:
    """The phases of all width groups.

    Loops over blocks follow one another. Groups of a single block are no loops, and the compiler
    mixes them, so that the temporaries of all of them may be there at once.
    """
    whole = [_phases(at, group) for group in at.groups if n_blocks(at, group) == 1]
    loops = [_phases(at, group) for group in at.groups if n_blocks(at, group) > 1]
    out = []
    for name in (whole or loops)[0]:
        mixed = sum(phases[name].activations for phases in whole)
        looped = max((phases[name].activations for phases in loops), default=0)
        out.append(Phase(max(phases[name].batches for phases in whole + loops), mixed + looped))
    return out


def _phases(at: Sizes, group: GroupSizes) -> dict[str, Phase]:
    """Temporaries of the phases of a group: what to correct where a compiler needs others."""
    s, d_sae = at.settings, group.d_sae
    A, W = 4 * at.batch_size * d_sae, 4 * at.d_in * d_sae
    X, C = 4 * at.batch_size * at.d_in, 4 * at.n_features * d_sae
    by_source, by_hyper = block_shape(group.cell_batch, at.n_source, group.n_hyper)
    n_cells = at.n_source * group.n_hyper
    k = by_source * by_hyper
    whole, single = k == n_cells, k == 1

    # The evaluation batches and the counters of the random numbers do not depend on the training,
    # and the compiler makes them first: they are there all the time. Of several sources there are
    # two copies: seeds side by side have their axis moved, data sets are drawn apart and then
    # joined.
    sources, samples = at.drawn[0] * at.n_source, at.drawn[1] * at.batch_size
    copies = 2 if sources > 1 else 1
    N = 4 * samples * at.n_features if at.draws else 0
    batches = sources * 4 * samples * at.d_in
    # Which features are in each of their samples is known too, a byte each.
    always = copies * s.eval_batches * (batches + sources * N // 4) + 2 * N
    phases = {"draw": Phase(always + copies * batches + at.draws * at.n_seeds * N, 0)}

    # A step: h, its gradient before and behind the ReLU, and a copy of W_dec the right way round;
    # when the activations are gone, both gradients of weights and (of one cell) the slices they
    # belong to. Both operands rounded to bfloat16 are one W more. Of X: the sample's own copy and
    # its transpose, x_hat, the error, the gradient and its transpose.
    ghost = bool(s.resample.ghost_after)
    rounded = W if s.matmul_precision == "bf16" else 0
    if whole:
        # Nothing reads the buffers of the next state yet, and what is no larger than they lies
        # there.
        activations = 3 * A if A > W else 0
        if ghost:
            activations = (7 if A > W else 4) * A + W
        step = max(activations, 2 * W, 6 * X if X > W else 0)
    elif single:
        step = max(3 * A + (4 if ghost else 1) * W, (5 if ghost else 4) * W) + rounded + 6 * X
    else:
        # Side by side both branches of ghosts are computed, and what is there of X is there
        # earlier.
        step = max((7 if ghost else 3) * A + W + 3 * X, (5 if ghost else 3) * W, 6 * X) + rounded
    more_A, more_W = group.temporaries
    phases["step"] = Phase(always + batches, k * (step + more_A * A + more_W * W))

    if s.resample.every:
        # A revival copies weights and moments of the whole group, unless all its cells are one
        # block.
        copied = 0 if whole else 6 * W * n_cells
        phases["revive"] = Phase(always + batches, copied + k * (A + 3 * W + X))

    # An evaluation: h and, side by side, its comparison with 0; then the cosines with all features,
    # and dictionaries of unit rows with their transposes, for which a single block has the idle
    # buffers.
    if whole:
        measure = max(3 * A + W, C + 2 * W, 4 * W) + X
    else:
        measure = max(2 * A + 2 * W if single else 3 * A + W, C + 3 * W) + X
    # Which latents fire, beside whether their features are there.
    measure += A if at.n_features else 0
    sliced = 0 if single or whole or at.n_source == 1 else 2 * by_source * s.eval_batches * X
    phases["measure"] = Phase(always + sliced, k * measure)
    return phases


def n_blocks(at: Sizes, group: GroupSizes) -> int:
    """Blocks of a group that a device trains one after another."""
    by_source, by_hyper = block_shape(group.cell_batch, at.n_source, group.n_hyper)
    return -(-at.n_source // by_source) * -(-group.n_hyper // by_hyper)
