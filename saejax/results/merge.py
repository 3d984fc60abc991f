"""Several sweeps as one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from saejax.core.diff import differences
from saejax.metrics.measures import mmcs
from saejax.results.axes import ABSENT, AXES, coordinates, nothing, same
from saejax.results.result import Result, Snapshots
from saejax.sae.params import Params

# What of a run must be the same for its cells to stand in one table with another's.
SHARED = ("settings", "d_in", "n_features", "metrics")
Index = tuple[int, ...]


def merge(*results: Result) -> Result:
    """One result of the cells of several, as if they had been trained in one sweep.

    Axes are joined: further seeds, other L1, another architecture, another data set. Combinations
    that none of them has stay empty (`saejax.results.axes.ABSENT`).

    Args:
        results: trained with the same settings and evaluated at the same steps; of one width and
            one number of true features. Of `settings` only how many cells were side by side may
            differ.

    Raises:
        ValueError: naming what differs, or the cell that two of them have with different results.
    """
    if not results:
        raise ValueError("merge: got no result, allowed: one or more")
    whole = results[0]
    for other in results[1:]:
        whole = _merge(whole, other)
    return whole


def _merge(a: Result, b: Result) -> Result:
    _check_alike(a, b)
    coords = {name: _joined(a.coords[name], b.coords[name]) for name in AXES}
    shape = tuple(len(values) for values in coords.values())
    # Positions along the joined axes of what each has.
    at_a, at_b = (_positions(coords, r.coords) for r in (a, b))
    # Of a cell in both it is the first one's.
    home: dict[Index, tuple[Result, Index]] = {}
    for result, at in ((b, at_b), (a, at_a)):
        for index in result.cells():
            place = tuple(at[i][k] for i, k in enumerate(index))
            if place in home:
                _check_same_cell(a, index, *home[place])
            home[place] = result, index

    def join(name: str, x: np.ndarray, y: np.ndarray, lead: int) -> np.ndarray:
        """Arrays [*lead, *shape, ...] of both, in their places."""
        whole = (*x.shape[:lead], *shape, *x.shape[lead + len(AXES) :])
        out = np.full(whole, nothing(name, x.dtype), x.dtype)
        every = (slice(None),) * lead
        for values, result, at in ((y, b, at_b), (x, a, at_a)):
            there = result.final["frozen_at"] != ABSENT
            after = values.ndim - lead - there.ndim
            there = there.reshape(*(1,) * lead, *there.shape, *(1,) * after)
            places = (*every, *np.ix_(*at))
            out[places] = np.where(there, values, out[places])
        return out

    final = {n: join(n, v, b.final[n], 0) for n, v in a.final.items() if n in b.final}
    history = {n: join(n, v, b.history[n], 1) for n, v in a.history.items() if n in b.history}
    best = {
        name: join(name, getattr(a, name), getattr(b, name), 1)
        for name in ("best_index", "best_cosine")
        if getattr(a, name) is not None and getattr(b, name) is not None
    }
    at_ratio = AXES.index("ratio")
    widths = dict(zip(at_b[at_ratio], b.d_sae, strict=True))
    widths |= dict(zip(at_a[at_ratio], a.d_sae, strict=True))

    def load_params(index: Index) -> Params:
        result, own = home[index]
        return result.load_params(own)

    def load_snapshots(index: Index) -> Snapshots:
        result, own = home[index]
        assert result.load_snapshots is not None
        return result.load_snapshots(own)

    films = a.load_snapshots is not None and b.load_snapshots is not None
    load: Callable[[Index], Snapshots] | None = load_snapshots if films else None
    merged = Result(
        coords=coords,
        d_sae=tuple(widths[i] for i in range(len(coords["ratio"]))),
        run={},
        steps=a.steps,
        history=history,
        final=final,
        best_index=best.get("best_index"),
        best_cosine=best.get("best_cosine"),
        features=_features(a, b, coords),
        load_params=load_params,
        load_snapshots=load,
    )
    if a.coords["ratio"] != b.coords["ratio"] and "mmcs_to_next_larger" in final:
        final["mmcs_to_next_larger"] = _to_next_larger(merged)
    return replace(merged, run=_run(a, b, merged))


def _to_next_larger(result: Result) -> np.ndarray:
    """`mmcs_to_next_larger` [*shape] where a joined sweep has other next larger dictionaries."""
    out = np.full_like(result.final["mmcs_to_next_larger"], np.nan)
    order = np.argsort(result.d_sae, kind="stable").tolist()
    at_ratio, cells = AXES.index("ratio"), set(result.cells())
    for index in cells:
        larger = order[order.index(index[at_ratio]) + 1 :]
        wider = ((*index[:at_ratio], i, *index[at_ratio + 1 :]) for i in larger)
        next_larger = next((other for other in wider if other in cells), None)
        if next_larger is None or result.final["frozen_at"][next_larger] >= 0:
            continue
        pair = (jnp.asarray(result.load_params(at).W_dec) for at in (index, next_larger))
        out[index] = mmcs(*pair)
    return out


def _check_alike(a: Result, b: Result) -> None:
    runs = []
    for result in (a, b):
        run = {name: result.run.get(name) for name in SHARED}
        rest = {k: v for k, v in (run["settings"] or {}).items() if k != "cell_batch"}
        runs.append(run | {"settings": rest})
    different = differences(*runs)
    for name in ("data", "architectures"):
        here, there = a.run.get(name, {}), b.run.get(name, {})
        both = here.keys() & there.keys()
        different += differences({k: here[k] for k in both}, {k: there[k] for k in both})
    if different:
        raise ValueError(f"merge: got results of different runs: {'; '.join(different)}")
    if not np.array_equal(a.steps, b.steps):
        raise ValueError(
            f"merge: got evaluations at {a.steps.tolist()} and {b.steps.tolist()}, allowed: the "
            "same"
        )


def _check_same_cell(a: Result, index: Index, b: Result, other: Index) -> None:
    """Refuses a cell that both have with different results."""
    # What a dictionary has in common with a next larger one depends on the rest of its sweep.
    names = (n for n in a.final if n in b.final and n != "mmcs_to_next_larger")
    if all(np.array_equal(a.final[n][index], b.final[n][other], equal_nan=True) for n in names):
        return
    at = ", ".join(f"{k}={v}" for k, v in coordinates(a.coords, index).items())
    raise ValueError(f"merge: got two different results of the cell {at}, allowed: one")


def _joined(a: tuple, b: tuple) -> tuple:
    """The values of two axes, each once; numbers that come together in order of their size."""
    more = [value for value in b if not any(same(own, value) for own in a)]
    numbers = all(isinstance(value, int | float) for value in (*a, *more))
    return tuple(sorted((*a, *more))) if more and numbers else (*a, *more)


def _positions(coords: dict[str, tuple], own: dict[str, tuple]) -> list[list[int]]:
    """Where the values of a result's axes are among the joined ones."""
    return [
        [next(i for i, v in enumerate(coords[name]) if same(v, value)) for value in own[name]]
        for name in AXES
    ]


def _features(a: Result, b: Result, coords: dict[str, tuple]) -> np.ndarray | None:
    """True features of every (data set, seed), NaN for pairs that neither has."""
    if a.features is None or b.features is None:
        return None
    n_pairs = tuple(len(coords[name]) for name in ("dataset", "seed"))
    out = np.full((*n_pairs, *a.features.shape[2:]), np.nan, a.features.dtype)
    for result in (b, a):
        assert result.features is not None
        dataset, seed, *_ = _positions(coords, result.coords)
        out[np.ix_(dataset, seed)] = result.features
    return out


def _run(a: Result, b: Result, merged: Result) -> dict[str, Any]:
    """What is known of both runs."""
    about = ("device", "versions", "train_seconds", "layout")
    parts = [{name: r.run[name] for name in about if name in r.run} for r in (a, b)]
    whole = dict(a.run)
    for name in ("data", "architectures"):
        whole[name] = b.run.get(name, {}) | a.run.get(name, {})
    for name in ("train_seconds", "compile_seconds", "flops_per_step"):
        if name in a.run and name in b.run:
            whole[name] = a.run[name] + b.run[name]
    return whole | {
        "coords": {name: list(values) for name, values in merged.coords.items()},
        "d_sae": list(merged.d_sae),
        "n_cells": len(merged.cells()),
        "finished": bool(a.run.get("finished", True) and b.run.get("finished", True)),
        "merged": [*a.run.get("merged", parts[:1]), *b.run.get("merged", parts[1:])],
    }
