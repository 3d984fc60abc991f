"""Results from what a run holds at its end."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from saejax.core.devices import to_host
from saejax.core.programs import jitted
from saejax.metrics.one_to_one import mcc
from saejax.results.axes import AXES, TRACED, TRAINED, coordinates, final_values, nothing
from saejax.results.result import Result, Snapshots
from saejax.sae.params import Params, standard
from saejax.training.batches import features
from saejax.training.cells import transpose_decoder
from saejax.training.evaluate import to_next_larger
from saejax.training.plan import Plan
from saejax.training.state import Progress
from saejax.training.sweep import Part


def by_axes(plan: Plan, measured: tuple[dict[str, Any], ...]) -> dict[str, np.ndarray]:
    """Measurements on the host, with the axes of the sweep apart.

    Args:
        plan: of the run.
        measured: name -> [source, ratio, hyper, ...] for every part of the sweep.

    Returns:
        name -> [*shape, ...]. What is no cell has NaN, index -1, and `frozen_at` = `ABSENT`.
    """
    on_host = to_host(measured)
    if len(plan.sweep.parts) == 1:
        return {name: a.reshape(*plan.shape, *a.shape[3:]) for name, a in on_host[0].items()}
    out = {}
    for name, first in on_host[0].items():
        out[name] = np.full(
            (*plan.shape, *first.shape[3:]), nothing(name, first.dtype), first.dtype
        )
        for part, own in zip(plan.sweep.parts, on_host, strict=True):
            places = part_places(plan, part)
            cells = tuple(map(len, places))
            out[name][np.ix_(*places)] = own[name].reshape(*cells, *first.shape[3:])
    return out


def _mcc(
    plan: Plan, frozen_at: np.ndarray, truth: np.ndarray, load: Callable[[tuple[int, ...]], Params]
) -> np.ndarray:
    """`mcc` [*shape] of every cell that trained to the end, NaN for the others.

    A matching is found by SciPy, on the host and for the final dictionaries alone.
    """
    out = np.full(plan.shape, np.nan, np.float32)
    for index in map(tuple, np.argwhere(frozen_at == TRAINED).tolist()):
        out[index] = mcc(np.asarray(load(index).W_dec), truth[index[:2]])
    return out


def part_places(plan: Plan, part: Part) -> tuple[range | list[int], ...]:
    """Positions along each axis that a part of the sweep has."""
    own = {axis.name: getattr(part, axis.name) for axis in TRACED}
    own["architecture"] = (part.architecture.name,)
    return tuple(
        [values.index(v) for v in own[name]] if name in own else range(len(values))
        for name, values in plan.coords.items()
    )


def collect(plan: Plan, progress: Progress, run: dict[str, Any]) -> Result:
    """The result of a run.

    Args:
        plan: of the run.
        progress: at its end.
        run: its description.
    """
    state, history = progress.state, progress.history
    stacked = {name: np.stack([h[name] for h in history]) for name in history[0]}
    best = {name: stacked.pop(name, None) for name in ("best_index", "best_cosine")}
    final = final_values(stacked)
    larger = jitted(to_next_larger, plan.program)(state.cells)
    final |= by_axes(plan, tuple({"mmcs_to_next_larger": own} for own in larger))
    truth = features(plan.program, progress.inputs)
    if truth is not None:
        truth = to_host(truth).reshape(*plan.shape[:2], *truth.shape[1:])
    config = plan.settings.sae
    params = [to_host(standard(transpose_decoder(g.params), config)) for g in state.cells]
    snapshots = progress.snapshots
    over_time = jax.tree.map(lambda *a: np.concatenate(a), *snapshots) if snapshots else None

    def place(index: tuple[int, ...]) -> tuple[int, int, int]:
        """Group, source and hyper of a cell."""
        at = coordinates(plan.coords, index)
        number = plan.coords["architecture"].index(at["architecture"])
        own = tuple(at[axis.name] for axis in TRACED)
        hyper = plan.sweep.parts[number].hypers.index(own)
        source = int(np.ravel_multi_index(index[:2], plan.shape[:2]))
        return number * len(plan.d_sae) + index[AXES.index("ratio")], source, hyper

    def one_cell(index: tuple[int, ...]) -> Params:
        group, source, hyper = place(index)
        return jax.tree.map(lambda a: a[source, hyper], params[group])

    def one_film(index: tuple[int, ...]) -> Snapshots:
        assert over_time is not None
        group, source, hyper = place(index)
        taken = jax.tree.map(lambda a: a[:, source, hyper], over_time[group])
        steps = np.arange(0, plan.settings.steps + 1, plan.settings.snapshot_every)
        return Snapshots(steps, taken.W_dec, taken.alive)

    if truth is not None:
        final["mcc"] = _mcc(plan, final["frozen_at"], truth, one_cell)
    every = plan.settings.eval_every
    return Result(
        coords=plan.coords,
        d_sae=plan.d_sae,
        run=run,
        steps=np.arange(every, plan.settings.steps + 1, every),
        history=stacked,
        final=final,
        best_index=best["best_index"],
        best_cosine=best["best_cosine"],
        features=truth,
        load_params=one_cell,
        load_snapshots=one_film if snapshots else None,
    )
