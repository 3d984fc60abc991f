"""Training of a sweep from start to end: one plan, one compiled chunk, one loop on the host."""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from saejax.core.checks import check_whole
from saejax.core.devices import together
from saejax.core.signals import Stop, stopping
from saejax.metrics.measures import Metric
from saejax.results.axes import coordinates
from saejax.results.result import Result
from saejax.results.saving import load
from saejax.results.workdir import CHECKPOINTS, RunLog
from saejax.training.collect import by_axes, collect
from saejax.training.plan import Plan
from saejax.training.planning import make_plan
from saejax.training.resuming import Keeper
from saejax.training.settings import Settings
from saejax.training.state import Progress, compile_chunk, feed, first_snapshot, start
from saejax.training.sweep import Sweep
from saejax.training.trackers import Tracker, Tracking, as_trackers


def train(
    sweep: Sweep,
    data: Any,
    settings: Settings | None = None,
    *,
    workdir: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 2,
    progress: bool = True,
    flags: str | None = None,
    study: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    trackers: Sequence[str | Tracker] = (),
) -> Result:
    """Trains every cell of a sweep at once and measures it.

    The cells are spread over all devices, of all processes where `jax.distributed` was initialised.

    Args:
        sweep: the axes.
        data: a `Synthetic`, an array [rows, d_in], a pure function from a key to a batch
            [batch_size, d_in], a `saejax.data.store.source.StoreSource`, or a dict that names
            several of these: the dataset axis.
        settings: how to train; default: the published values.
        workdir: folder that gets the metrics while they come in, then results and dictionaries.
            New, empty, or of the same run: one that was interrupted goes on from its newest
            checkpoint and ends, on the same kind of machine, bit for bit as if it had not been; one
            that has ended is loaded. None writes no file. Of several processes the first writes,
            and all must see the folder.
        checkpoint_every: steps between checkpoints in the workdir, a multiple of `eval_every`;
            None: one each five minutes. SIGTERM or Ctrl-C save one after the chunk that is running.
        keep_checkpoints: how many of the newest are kept. They are removed when the run has ended.
        progress: whether to show a progress bar.
        flags: text of the flagfile that replays this run, kept in the workdir.
        study: which study this is and what its report must know, JSON types, kept in the workdir;
            `name` is a module of `saejax.experiments`. None for a run from Python.
        metrics: further metrics by name: pure functions of a `saejax.Seen` (one SAE on one
            evaluation batch) that return a scalar array, of which the mean over batches is taken.
            They come beside the others in history, tables and files.
        trackers: where the run can be watched besides its workdir: "tensorboard", "wandb", or
            objects with the methods of `saejax.training.trackers.Tracker`. One that fails does not
            stop the run.

    Returns:
        The measurements and dictionaries of all cells.

    Raises:
        ValueError: before anything is compiled, for data, ratios, metrics, trackers or settings
            that do not fit, and for a workdir of a run of other settings, which are named.
        TypeError: likewise, for data or a tracker of no known kind.
        ImportError: likewise, for a tracker whose package is not installed.
        FileExistsError: likewise, when the workdir holds something else.
        BlockingIOError: likewise, when another process is using the workdir.
        OSError: when a checkpoint cannot be written; the one before it is kept.

    A cell whose update is not finite is frozen with its last finite weights, and a warning names
    its coordinates; the others go on.
    """
    plan = make_plan(sweep, data, settings or Settings(), metrics)
    every = check_saving(checkpoint_every, keep_checkpoints, plan.settings)
    run = plan.describe() | ({"study": dict(study)} if study else {})
    watching = as_trackers(trackers, workdir) if jax.process_index() == 0 else ()
    if workdir is None:
        with Tracking(watching) as tracking, _progress_bar(plan, progress) as bar:
            return _run(plan, run, bar, Stop(), tracking)
    log, ended = _claim(workdir, run, flags)
    with log or nullcontext():
        if ended:
            if log:
                log.drop_checkpoints()  # of a process that was killed before it could
            return load(workdir)
        try:
            with (
                Keeper(Path(workdir) / CHECKPOINTS, plan, every, keep_checkpoints) as keeper,
                stopping() as stop,
                Tracking(watching) as tracking,
                _progress_bar(plan, progress) as bar,
            ):
                result = _run(plan, run, bar, stop, tracking, log, keeper)
                keeper.close()
                if log:
                    log.finish(result)
                # No process may end while the first still writes: JAX would soon end that too.
                together("results")
                if stop.asked():
                    stop.leave("came after the last step; the results are written")
        except BaseException:
            if log and not log.measured:
                log.discard()
            raise
    return result


def check_saving(
    checkpoint_every: int | None, keep_checkpoints: int, settings: Settings
) -> int | None:
    """Steps between checkpoints, checked; arguments as in `train`.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """
    check_whole("keep_checkpoints", keep_checkpoints, "1 or more", lambda v: v >= 1)
    if checkpoint_every is None:
        return None
    return check_whole(
        "checkpoint_every",
        checkpoint_every,
        f"None, or a multiple of eval_every={settings.eval_every}",
        lambda v: v >= 1 and v % settings.eval_every == 0,
    )


def _claim(
    workdir: str | Path, run: dict[str, Any], flags: str | None
) -> tuple[RunLog | None, bool]:
    """The writer of a workdir, in the first process alone, and whether its run has ended.

    Raises:
        ValueError, OSError: as `RunLog`; in the other processes ValueError where the first refuses.
    """
    if jax.process_count() == 1:
        log = RunLog(workdir, run, flags)
        return log, log.ended
    from jax.experimental import multihost_utils

    log, error = None, None
    if jax.process_index() == 0:
        try:
            log = RunLog(workdir, run, flags)
        except (ValueError, OSError) as refused:
            error = refused
    found = np.array([error is not None, log is not None and log.ended])
    refused, ended = multihost_utils.broadcast_one_to_all(found)
    if error:
        raise error
    if refused:
        raise ValueError(
            f"workdir: got {str(workdir)!r}, which the first process refuses and says why"
        )
    return log, bool(ended)


def _run(
    plan: Plan,
    run: dict[str, Any],
    bar: tqdm,
    stop: Stop,
    tracking: Tracking,
    log: RunLog | None = None,
    keeper: Keeper | None = None,
) -> Result:
    """Compiles, goes on where an earlier process stopped, and trains; fills `run` while it goes."""
    s = plan.settings
    started = time.perf_counter()
    progress = Progress(*start(plan))
    with ExitStack() as feeding:
        fed = feeding.enter_context(closing(feed(plan, 0)))
        progress.hand_in(next(fed))
        chunk = compile_chunk(plan, progress.state, progress.inputs)
        if keeper and keeper.restore(progress, chunk) and progress.done < s.steps:
            fed.close()
            fed = feeding.enter_context(closing(feed(plan, progress.done)))
            progress.hand_in(next(fed))
        if s.snapshot_every and not progress.done:
            progress.snapshots.append(first_snapshot(plan, progress.state, progress.inputs))
        if log and log.measured:
            log.resume(progress.done, plan.coords, plan.d_sae, progress.history)
        run["compile_seconds"] = time.perf_counter() - started
        tracking.start(run, plan.coords, plan.d_sae)
        for i, measured in enumerate(progress.history, 1):
            tracking.evaluation(i * s.eval_every, plan.coords, plan.d_sae, measured)
        bar.set_description_str("training")
        bar.reset(s.steps)
        bar.n = bar.initial = progress.done
        for i in count():
            if stop.asked():
                _leave(stop, progress, s.steps, keeper)
            if progress.done == s.steps:
                break
            started = time.perf_counter()
            if i:
                progress.hand_in(next(fed))
            _advance(plan, progress, chunk, bar)
            progress.seconds.append(time.perf_counter() - started)
            if log:
                log.evaluation(progress.done, plan.coords, plan.d_sae, progress.history[-1])
            tracking.evaluation(progress.done, plan.coords, plan.d_sae, progress.history[-1])
            _report_frozen(progress.history, plan.coords, bar)
            if keeper:
                keeper.chunk_done(progress)
            seconds = sum(progress.seconds) / progress.done
            bar.set_postfix_str(
                f"{s.batch_size * plan.n_source / seconds:.3g} samples/s, "
                f"{plan.flops_per_step / seconds / 1e12:.3g} TFLOP/s"
            )
            bar.update(s.eval_every)
    run["chunk_seconds"], run["train_seconds"] = progress.seconds, sum(progress.seconds)
    result = collect(plan, progress, run)
    tracking.finish(result)
    return result


def _advance(plan: Plan, progress: Progress, chunk: Any, bar: tqdm) -> None:
    """One chunk of steps, and its measurements."""
    progress.state, measured, snapshots = chunk(
        progress.state, progress.inputs, np.int32(progress.done)
    )
    _wait(measured, bar)
    progress.done += plan.settings.eval_every
    progress.history.append(by_axes(plan, measured))
    if snapshots is not None:
        progress.snapshots.append(jax.device_get(snapshots))


def _leave(stop: Stop, progress: Progress, steps: int, keeper: Keeper | None) -> None:
    """Saves what there is, and ends as the signal wants.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM.
    """
    if not keeper or not progress.done:
        stop.leave("stopped before anything was measured")
    else:
        keeper.save(progress)
        keeper.wait()
        stop.leave(
            f"stopped at step {progress.done:,} of {steps:,} and saved; the same command goes on "
            "from there"
        )


def _progress_bar(plan: Plan, show: bool) -> tqdm:
    bar = tqdm(
        total=plan.settings.steps,
        disable=not show or jax.process_index() > 0,
        desc="compiling",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} "
        "[{elapsed}, {remaining} left{postfix}]",
    )
    bar.set_postfix_str(f"{plan.n_cells} SAEs, {plan.flops_per_step / 1e9:.4g} GFLOP a step")
    return bar


def _wait(measured: Any, bar: tqdm) -> None:
    """Waits for a chunk in short naps, so that Ctrl-C is heard and the clock of the bar moves."""
    naps = 0
    while not all(a.is_ready() for a in jax.tree.leaves(measured)):
        time.sleep(0.005)
        naps += 1
        if naps % 200 == 0:
            bar.refresh()


def _report_frozen(
    history: list[dict[str, np.ndarray]], coords: dict[str, tuple], bar: tqdm
) -> None:
    """Warns of the cells that froze since the evaluation before."""
    frozen = history[-1]["frozen_at"]
    before = history[-2]["frozen_at"] if len(history) > 1 else np.full_like(frozen, -1)
    for index in map(tuple, np.argwhere((frozen >= 0) & (before < 0)).tolist()):
        cell = ", ".join(f"{k}={v}" for k, v in coordinates(coords, index).items())
        bar.clear()
        warnings.warn(
            f"cell {cell}: not finite at step {frozen[index]}; frozen with its last finite "
            "weights, the other cells go on",
            stacklevel=3,
        )
