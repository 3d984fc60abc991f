"""How long a run will take, from a short measured probe, and what a dry run prints.

The probe trains and evaluates two blocks of cells of every width group (see
`saejax.training.map_cells`) with the run's own compiled functions, and draws batches of all
sources:

    step       = (probe's step - its draws) n / n_probe + draws of all sources
    evaluation = (probe's evaluation - its draws) n / n_probe + draws of all sources
    n          = sum over width groups of blocks x cells in a block x d_sae

The probe's programs are those of the run but for the number of cells, so that what they take to
compile is what the run will take.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saejax.core.devices import Layout
from saejax.core.programs import compiled, jitted
from saejax.core.table import Table
from saejax.data.host import HostSource
from saejax.data.source import AnySource
from saejax.training.batches import Inputs, draw
from saejax.training.chunk import State, train_steps
from saejax.training.evaluate import evaluate, snapshot
from saejax.training.map_cells import block_shape
from saejax.training.memory import Memory, gigabytes
from saejax.training.plan import Group, Plan, Program
from saejax.training.state import Progress, feed, start
from saejax.training.sweep import Part

# A timed piece of work is repeated for this many seconds and at least `REPEATS` times, unless the
# first time took so long already.
SECONDS, REPEATS = 0.5, 3
# Steps of the probe: enough work that starting a program is no part of its time, and not too much.
FLOPS, MOST_STEPS = 2e10, 64
# Bytes of one reading from a host source.
READ = 2**26


@dataclass(frozen=True)
class Forecast:
    """Expected times in seconds.

    Attributes:
        prepare: first weights and compilation, until the first step.
        step: one training step of all cells.
        evaluation: one evaluation.
        snapshot: one snapshot, 0 where none are taken.
        steps: number of training steps.
        evaluations: number of evaluations.
        snapshots: number of snapshots.
    """

    prepare: float
    step: float
    evaluation: float
    snapshot: float
    steps: int
    evaluations: int
    snapshots: int

    @property
    def looking(self) -> float:
        """Evaluations and snapshots of the whole run."""
        return self.evaluations * self.evaluation + self.snapshots * self.snapshot

    @property
    def evaluation_share(self) -> float:
        """Share of evaluations and snapshots in the time after preparation."""
        return self.looking / (self.steps * self.step + self.looking)

    @property
    def total(self) -> float:
        """From the start to the last measurement; reports and pictures come on top."""
        return self.prepare + self.steps * self.step + self.looking


def probe(plan: Plan) -> Forecast:
    """Measures a small part of a run and scales it to the whole.

    With several devices it is a part of each one's share, on all of them; where no part can be
    dealt out evenly, one device's, and those of a CPU, which share its threads, then add up. Not in
    it: revivals, ghosts of latents that die later, and the mean of a store.
    Reading from host sources goes on beside the training: the slower of the two counts.

    Args:
        plan: of the run.
    """
    part = _part(plan)
    prepare, step, evaluation, taking = _measured(part, bool(plan.settings.snapshot_every))
    draws = _draws(plan)
    drawn, seeds = sum(draws.values()), len(part.sweep.seeds) / len(plan.sweep.seeds)
    own = seeds * sum(draws[name] for name in part.sources)
    scale = _work(plan) / _work(part)
    if jax.local_devices()[0].platform == "cpu":
        scale *= plan.layout.n_devices / part.layout.n_devices

    def whole(seconds: float, batches: int) -> float:
        return max(0.0, seconds - batches * own) * scale + batches * drawn

    s = plan.settings
    return Forecast(
        prepare=prepare,
        step=max(whole(step, 1), _reading(plan)),
        evaluation=whole(evaluation, s.eval_batches),
        snapshot=whole(taking, s.eval_batches) if s.snapshot_every else 0.0,
        steps=s.steps,
        evaluations=s.steps // s.eval_every,
        snapshots=s.steps // s.snapshot_every + 1 if s.snapshot_every else 0,
    )


def _measured(part: Plan, snapshots: bool) -> tuple[float, float, float, float]:
    """Seconds to prepare, for a step, for an evaluation, and for a snapshot where any are taken."""
    s = part.settings
    n = s.eval_every
    began = time.perf_counter()
    progress = Progress(*start(part))
    with closing(feed(part, 0)) as fed:
        progress.hand_in(next(fed))
    state, inputs, program, at = progress.state, progress.inputs, part.program, np.int32(0)
    jax.block_until_ready(state)
    train = compiled(jitted(_steps, program, n, donate=(0,)), state, inputs, at)
    look = compiled(jitted(evaluate, program), state.cells, state.matches, inputs, at)
    take = None
    if snapshots:
        before = time.perf_counter()
        take = compiled(jitted(snapshot, program), state.cells, inputs, at)
        # A run compiles it as part of a chunk, and by itself for the snapshot before training.
        began -= time.perf_counter() - before
    prepare = time.perf_counter() - began

    evaluation = _seconds(lambda: look(state.cells, state.matches, inputs, at))
    taking = _seconds(lambda: take(state.cells, inputs, at)) if take else 0.0
    latest = [state]

    def steps() -> Any:
        latest[0] = train(latest[0], inputs, at)
        return latest[0]

    return prepare, _seconds(steps) / n, evaluation, taking


def _steps(program: Program, n: int, state: State, inputs: Inputs, step: Any) -> State:
    return train_steps(program, state, inputs, step, n)


def _part(plan: Plan) -> Plan:
    """A run of two blocks of every width group and device, or of all its cells where they are
    fewer.

    Ways to revive latents are never left out, because they differ in what they cost.
    """
    n_source, n_hypers, batch_size = plan.local
    blocks = [block_shape(g.cell_batch, n_source, n_hypers[g.part]) for g in plan.groups]
    by_source, by_hyper = max(b[0] for b in blocks), max(b[1] for b in blocks)
    hypers = min(max(n_hypers), 2 * by_hyper)
    sources = by_source if hypers > by_hyper else min(n_source, 2 * by_source)
    at = plan.layout
    parts = tuple(_first_hypers(part, at.hyper * hypers) for part in plan.sweep.parts)
    n_seeds, n_data = _first(at.source * sources, len(plan.sweep.seeds), len(plan.sources))
    even = not any(len(p.hypers) % at.hyper for p in parts) and not n_seeds * n_data % at.source
    sweep = plan.sweep.of(parts, plan.sweep.seeds[:n_seeds])
    data = dict(list(plan.sources.items())[:n_data])
    part = replace(
        plan,
        sweep=sweep,
        settings=replace(
            plan.settings,
            batch_size=plan.settings.batch_size if even else batch_size,
            snapshot_every=0,
        ),
        sources=data,
        coords=sweep.coords(tuple(data)),
        layout=at if even else Layout(),
    )
    # An odd number of steps is compiled as a loop over pairs and one more: as the run's.
    pairs = max(1, min(MOST_STEPS // 2, round(FLOPS / part.flops_per_step / 2)))
    n = 2 * pairs + plan.settings.eval_every % 2
    return replace(part, settings=replace(part.settings, steps=n, eval_every=n))


def _first_hypers(part: Part, needed: int) -> Part:
    """Of a part of a sweep the first values of l1, lr and k that make so many hypers, and few
    more."""
    # Every k but the largest would leave out what is sorted: of k it is the last ones.
    sparsity = max(len(part.l1), len(part.k))
    n, n_lr = _first(needed / len(part.resample), sparsity, len(part.lr))
    return part._replace(l1=part.l1[:n], k=part.k[-n:], lr=part.lr[:n_lr])


def _first(needed: float, n_a: int, n_b: int) -> tuple[int, int]:
    """How many values of two axes make at least `needed` pairs, and few more."""
    return min(
        ((a, b) for a, b in product(range(1, n_a + 1), range(1, n_b + 1)) if a * b >= needed),
        key=lambda pair: (pair[0] * pair[1], pair[1]),
        default=(n_a, n_b),
    )


def _work(plan: Plan) -> int:
    """Latents that a device computes in a step, those of cells that blocks have twice among
    them."""
    n_source, n_hypers, _ = plan.local
    total = 0
    for group in plan.groups:
        by_source, by_hyper = block_shape(group.cell_batch, n_source, n_hypers[group.part])
        blocks = -(-n_source // by_source) * -(-n_hypers[group.part] // by_hyper)
        total += blocks * by_source * by_hyper * group.d_sae
    return total


def _draws(plan: Plan) -> dict[str, float]:
    """Seconds that a batch of all seeds takes to be drawn inside the program, for each data set."""
    # Without width groups the start of a run makes the arrays of the data sets alone.
    s = replace(
        plan.settings, sae=replace(plan.settings.sae, use_b_dec=False), batch_size=plan.local.batch
    )
    bare = replace(plan, settings=s, layout=Layout(), d_sae=(), cell_batches=(), metrics={})

    def one(sources: dict[str, AnySource]) -> float:
        alone = replace(bare, sources=sources)
        run = compiled(jitted(_sum_of_batches, alone.program), inputs := start(alone)[1])
        return _seconds(lambda: run(inputs)) / MOST_STEPS

    drawn = {name: x for name, x in plan.sources.items() if not isinstance(x, HostSource)}
    return dict.fromkeys(plan.sources, 0.0) | {name: one({name: x}) for name, x in drawn.items()}


def _sum_of_batches(program: Program, inputs: Inputs) -> Any:
    def add(total: Any, step: Any) -> tuple[Any, None]:
        return total + draw(program, inputs, "batches", step).sum(), None

    return jax.lax.scan(add, jnp.zeros(()), jnp.arange(MOST_STEPS))[0]


def _reading(plan: Plan) -> float:
    """Seconds that reading one batch of every host source takes."""
    s, total = plan.settings, 0.0
    for source in plan.sources.values():
        if isinstance(source, HostSource):
            n = max(1, min(s.eval_every, READ // (4 * s.batch_size * source.d_in)))
            began = time.perf_counter()
            source.feed(plan.sweep.seeds[0], 0, n, s.batch_size)
            total += (time.perf_counter() - began) / n * len(plan.sweep.seeds)
    return total


def _seconds(work: Callable[[], Any]) -> float:
    """Seconds a piece of work takes, median of its repeats; the first one warms up."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    first = time.perf_counter() - began
    if first > SECONDS:
        return first
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def describe_plan(plan: Plan, memory: Memory, forecast: Forecast) -> str:
    """A plan as a student reads it: width groups, memory by kind, expected time.

    Args:
        plan: of the run.
        memory: from `saejax.training.memory.estimate`.
        forecast: from `probe`.
    """
    d_in, batch_size = plan.source.d_in, plan.settings.batch_size
    b_dec = d_in if plan.settings.sae.use_b_dec else 0

    def row(group: Group) -> dict[str, Any]:
        n_cells, d_sae = plan.n_source * plan.n_hypers[group.part], group.d_sae
        name = {"architecture": group.architecture.name} if len(plan.sweep.parts) > 1 else {}
        return name | {
            "d_sae": d_sae,
            "cells": n_cells,
            "parameters": n_cells * (2 * d_in * d_sae + d_sae + b_dec),
            "cell_batch": group.cell_batch,
            "GFLOP a step": 10 * batch_size * d_in * d_sae * n_cells / 1e9,
        }

    groups = list(map(row, plan.groups))
    summed = {
        name: sum(g[name] for g in groups) for name in ("cells", "parameters", "GFLOP a step")
    }
    groups.append(dict.fromkeys(groups[0], "") | {"d_sae": "all"} | summed)
    kinds = [{"memory on a device": name, "MB": n / 1e6} for name, n in _kinds(memory)]
    f = forecast
    times = [
        ("prepare and compile", f.prepare, 1),
        ("training step", f.step, f.steps),
        ("evaluation", f.evaluation, f.evaluations),
        ("snapshot", f.snapshot, f.snapshots),
    ]
    rows = [
        {"expected time": name, "seconds each": one, "times": n, "seconds": one * n}
        for name, one, n in times
        if n
    ]
    rows.append(dict.fromkeys(rows[0], "") | {"expected time": "total", "seconds": f.total})
    flops = plan.flops_per_step / f.step / 1e9
    return "\n".join(
        (
            f"{plan.n_source} sources x {sum(plan.n_hypers)} settings x {len(plan.d_sae)} widths, "
            f"d_in {d_in}, batches of {batch_size}, {plan.settings.steps} steps",
            "",
            str(Table(groups)),
            "",
            str(Table(kinds)),
            "",
            str(Table(rows)),
            "",
            f"{gigabytes(memory.total)} on a device, {duration(f.total)}, {flops:.3g} GFLOP/s; "
            f"{f.evaluation_share:.1%} of the training time is evaluation",
        )
    )


def _kinds(memory: Memory) -> Iterator[tuple[str, int]]:
    for kind in fields(memory):
        yield kind.name, getattr(memory, kind.name)
    yield "total", memory.total


def duration(seconds: float) -> str:
    """A time in the largest unit of which there are two or more."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
