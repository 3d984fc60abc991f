"""Training of a sweep: one plan, one compilation, and the only loop on the host."""

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from tqdm.auto import tqdm

from saejax.chunk import Groups, Snapshot, chunk, draw, features, snapshot, to_next_larger
from saejax.data.fed import Fed, HostSource
from saejax.data.prefetch import feeds
from saejax.data.source import AnySource, Source
from saejax.plan import Plan, make_plan
from saejax.result import Result, Snapshots, coordinates, final_values
from saejax.runlog import RunLog
from saejax.sae import Params, standard
from saejax.settings import Settings
from saejax.sweep import Hyper, Sweep, hypers, init_cells, public, stream


class State(NamedTuple):
    """Everything on the device. What changes comes first; the rest are inputs of every chunk."""

    groups: Groups
    spare: Groups
    matches: tuple
    arrays: dict
    seeds: Integer[Array, " seeds"]
    hyper: Hyper


def train(
    sweep: Sweep,
    data: Any,
    settings: Settings | None = None,
    *,
    workdir: str | Path | None = None,
    progress: bool = True,
    flags: str | None = None,
    study: Mapping[str, Any] | None = None,
) -> Result:
    """Trains every cell of a sweep at once and measures it.

    Args:
        sweep: the axes.
        data: a `Synthetic`, an array [rows, d_in], a pure function from a key to a batch
            [batch_size, d_in], a `saejax.data.activations.StoreSource`, or a dict that names several
            of these: the dataset axis.
        settings: how to train; default: the published values.
        workdir: folder that gets the metrics while they come in, then results and dictionaries. It
            must not exist yet or be empty. None writes no file.
        progress: whether to show a progress bar.
        flags: text of the flagfile that replays this run, kept in the workdir.
        study: which study this is and what its report must know, JSON types, kept in the workdir;
            `name` is a module of `saejax.experiments`. None for a run from Python.

    Returns:
        The measurements and dictionaries of all cells.

    Raises:
        ValueError: before anything is compiled, for data, ratios or settings that do not fit.
        TypeError: likewise, for data of no known kind.
        FileExistsError: likewise, when the workdir holds something already.

    A cell whose update is not finite is frozen with its last finite weights, and a warning names its
    coordinates; the others go on.
    """
    plan = make_plan(sweep, data, settings or Settings())
    run = plan.describe() | ({"study": dict(study)} if study else {})
    log = RunLog(workdir, run, flags) if workdir is not None else None
    try:
        with _progress_bar(plan, progress) as bar:
            result = _run(plan, run, log, bar)
    except BaseException:
        if log and not log.measured:
            log.discard()
        raise
    if log:
        log.finish(result)
    return result


def _run(plan: Plan, run: dict[str, Any], log: RunLog | None, bar: tqdm) -> Result:
    """Trains with the batches of host sources read one chunk ahead; fills `run` while it goes."""
    s = plan.settings
    hosts = {name: x for name, x in plan.sources.items() if isinstance(x, HostSource)}
    steps = range(0, s.steps, s.eval_every)
    with closing(feeds(hosts, plan.sweep.seeds, steps, s.eval_batches, s.batch_size)) as fed:
        return _loop(plan, run, log, bar, fed)


def _loop(
    plan: Plan, run: dict[str, Any], log: RunLog | None, bar: tqdm, fed: Iterator[dict[str, Fed]]
) -> Result:
    """Compiles and trains; `fed` is what host sources hand to one chunk after another."""
    started = time.perf_counter()
    state = start(plan)
    state = state._replace(arrays=state.arrays | next(fed))
    step_and_measure = compile_chunk(plan, state)
    snapshots = [_first_snapshot(plan, state)] if plan.settings.snapshot_every else []
    run["compile_seconds"] = time.perf_counter() - started
    bar.set_description_str("training")
    bar.reset(plan.settings.steps)

    run["chunk_seconds"] = []
    history: list[dict[str, np.ndarray]] = []
    every = plan.settings.eval_every
    for step in range(0, plan.settings.steps, every):
        started = time.perf_counter()
        if step:
            state = state._replace(arrays=state.arrays | next(fed))
        *changed, measured, taken = step_and_measure(*state, jnp.int32(step))
        state = state._replace(**dict(zip(State._fields, changed, strict=False)))
        _wait(measured, bar)
        history.append(_by_axes(plan, measured))
        if taken is not None:
            snapshots.append(jax.device_get(taken))
        run["chunk_seconds"].append(time.perf_counter() - started)
        if log:
            log.evaluation(step + every, plan.coords, plan.d_sae, history[-1])
        _report_frozen(history, plan.coords, bar)
        seconds = sum(run["chunk_seconds"]) / (step + every)
        bar.set_postfix_str(
            f"{plan.settings.batch_size * plan.n_source / seconds:.3g} samples/s, "
            f"{plan.flops_per_step / seconds / 1e12:.3g} TFLOP/s"
        )
        bar.update(every)
    run["train_seconds"] = sum(run["chunk_seconds"])
    return _collect(plan, state, history, snapshots, run)


def start(plan: Plan) -> State:
    """Fresh weights, the data sets' arrays and the swept numbers of a run, on the device.

    What host sources feed is not among the arrays yet.
    """
    seeds = jnp.array(plan.sweep.seeds, jnp.uint32)

    def arrays(source: Source) -> tuple[Any, Any]:
        return source.shared, jax.jit(jax.vmap(lambda s: source.setup(stream(s, "truth"))))(seeds)

    own = {name: arrays(s) for name, s in plan.sources.items() if not isinstance(s, HostSource)}
    middle = centers(plan, own, seeds)

    def group(d_sae: int) -> Any:
        sizes = (plan.shape[0], plan.n_hyper, plan.source.d_in, d_sae)
        return jax.jit(lambda *given: init_cells(given[0], *sizes, plan.settings, given[1]))(
            seeds, middle
        )

    groups = tuple(group(d_sae) for d_sae in plan.d_sae)
    match = None
    if plan.source.n_features:
        at = (plan.n_source, plan.n_hyper, plan.source.n_features)
        match = jnp.full(at, -1, jnp.int32), jnp.full(at, jnp.nan)
    return State(
        groups=groups,
        spare=jax.tree.map(jnp.zeros_like, groups),
        matches=(match,) * len(groups),
        arrays=own,
        seeds=seeds,
        hyper=hypers(plan.sweep),
    )


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
            return jnp.broadcast_to(jnp.asarray(source.mean(), jnp.float32), (len(seeds), source.d_in))
        samples = partial(draw, {name: source}, name="init", batch_size=s.batch_size)
        several = partial(samples, step=jnp.int32(0), n_batches=s.eval_batches)
        return jax.jit(lambda own, seeds: several(own, seeds).mean((1, 2)))({name: arrays[name]}, seeds)

    return jnp.concatenate([one(name, source) for name, source in plan.sources.items()])


def compile_chunk(plan: Plan, state: State) -> Any:
    """The compiled chunk of a run: takes the parts of a state and the number of steps done."""
    run = partial(chunk, sources=plan.sources, settings=plan.settings, cell_batches=plan.cell_batches)
    return jax.jit(run, donate_argnums=(0, 1)).lower(*state, jnp.int32(0)).compile()


def _first_snapshot(plan: Plan, state: State) -> Any:
    """The snapshot before training, with the leading axis that a chunk's snapshots have."""
    take = partial(
        snapshot, sources=plan.sources, settings=plan.settings, cell_batches=plan.cell_batches
    )
    first = jax.jit(take)(state.groups, state.arrays, state.seeds, state.hyper, jnp.int32(0))
    return jax.tree.map(lambda a: a[None], jax.device_get(first))


def _by_axes(plan: Plan, measured: dict[str, Any]) -> dict[str, np.ndarray]:
    """Measurements [source, ratio, hyper, ...] on the host, with the axes of the sweep apart."""
    on_host = jax.device_get(measured)
    return {name: a.reshape(*plan.shape, *a.shape[3:]) for name, a in on_host.items()}


def _collect(
    plan: Plan,
    state: State,
    history: list[dict[str, np.ndarray]],
    snapshots: list[tuple[Snapshot, ...]],
    run: dict[str, Any],
) -> Result:
    stacked = {name: np.stack([h[name] for h in history]) for name in history[0]}
    best = {name: stacked.pop(name, None) for name in ("best_index", "best_cosine")}
    final = final_values(stacked)
    order = sorted(range(len(plan.d_sae)), key=plan.d_sae.__getitem__)
    larger = jax.jit(partial(to_next_larger, order=order))(state.groups)
    final |= _by_axes(plan, {"mmcs_to_next_larger": larger})
    truth = features(plan.sources, state.arrays)
    if truth is not None:
        truth = np.asarray(truth).reshape(*plan.shape[:2], *truth.shape[1:])
    params = [
        jax.device_get(standard(public(group.params), plan.settings.sae)) for group in state.groups
    ]
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


def _progress_bar(plan: Plan, show: bool) -> tqdm:
    bar = tqdm(
        total=plan.settings.steps,
        disable=not show,
        desc="compiling",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} "
        "[{elapsed}, {remaining} left{postfix}]",
    )
    cells = int(np.prod(plan.shape))
    bar.set_postfix_str(f"{cells} SAEs, {plan.flops_per_step / 1e9:.4g} GFLOP a step")
    return bar


def _wait(measured: dict[str, Any], bar: tqdm) -> None:
    """Waits for a dispatch in short naps, so that Ctrl-C is heard and the clock of the bar moves."""
    naps = 0
    while not all(a.is_ready() for a in measured.values()):
        time.sleep(0.005)
        naps += 1
        if naps % 200 == 0:
            bar.refresh()


def _report_frozen(history: list[dict[str, np.ndarray]], coords: dict[str, tuple], bar: tqdm) -> None:
    """Warns of the cells that froze since the evaluation before."""
    frozen = history[-1]["frozen_at"]
    before = history[-2]["frozen_at"] if len(history) > 1 else np.full_like(frozen, -1)
    for index in map(tuple, np.argwhere((frozen >= 0) & (before < 0)).tolist()):
        at = ", ".join(f"{k}={v}" for k, v in coordinates(coords, index).items())
        bar.clear()
        warnings.warn(
            f"cell {at}: not finite at step {frozen[index]}; frozen with its last finite weights, the "
            "other cells go on",
            stacklevel=3,
        )
