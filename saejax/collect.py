"""Results from what a run holds at its end."""

from functools import partial
from typing import Any

import jax
import numpy as np

from saejax.chunk import features, to_next_larger
from saejax.devices import to_host
from saejax.plan import Plan
from saejax.progress import Progress
from saejax.result import Result, Snapshots, final_values
from saejax.sae import Params, standard
from saejax.sweep import public


def by_axes(plan: Plan, measured: dict[str, Any]) -> dict[str, np.ndarray]:
    """Measurements [source, ratio, hyper, ...] on the host, with the axes of the sweep apart."""
    on_host = to_host(measured)
    return {name: a.reshape(*plan.shape, *a.shape[3:]) for name, a in on_host.items()}


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
    order = sorted(range(len(plan.d_sae)), key=plan.d_sae.__getitem__)
    compare = jax.jit(partial(to_next_larger, order=order, mesh=plan.mesh))
    final |= by_axes(plan, {"mmcs_to_next_larger": compare(state.groups)})
    truth = features(plan.sources, state.arrays)
    if truth is not None:
        truth = to_host(truth).reshape(*plan.shape[:2], *truth.shape[1:])
    params = [to_host(standard(public(g.params), plan.settings.sae)) for g in state.groups]
    snapshots = progress.snapshots
    over_time = jax.tree.map(lambda *a: np.concatenate(a), *snapshots) if snapshots else None

    def place(index: tuple[int, ...]) -> tuple[int, int]:
        source = int(np.ravel_multi_index(index[:2], plan.shape[:2]))
        return source, int(np.ravel_multi_index(index[3:], plan.shape[3:]))

    def one_cell(index: tuple[int, ...]) -> Params:
        source, hyper = place(index)
        return jax.tree.map(lambda a: a[source, hyper], params[index[2]])

    def one_film(index: tuple[int, ...]) -> Snapshots:
        assert over_time is not None
        source, hyper = place(index)
        taken = jax.tree.map(lambda a: a[:, source, hyper], over_time[index[2]])
        steps = np.arange(0, plan.settings.steps + 1, plan.settings.snapshot_every)
        return Snapshots(steps, taken.W_dec, taken.alive)

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
