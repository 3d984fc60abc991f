"""Training of a sweep: checks first, one compilation, then the only loop on the host."""

import platform
import time
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from saejax._version import __version__
from saejax.chunk import chunk, features, to_next_larger
from saejax.data.source import as_sources
from saejax.result import Result, coordinates
from saejax.runlog import RunLog
from saejax.sae import Params
from saejax.settings import Settings
from saejax.sweep import Sweep, hypers, init_cells, public, stream


def default_cell_batch(n_cells: int, d_in: int, d_sae: int, batch_size: int) -> int:
    """Cells of a width group that train side by side: 1 on a CPU, else as many as fit.

    A cell in flight holds about four float32 arrays [batch, d_sae] and six [d_in, d_sae]; half of the
    device's memory is left for them.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return 1
    memory = (device.memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    per_cell = 4 * d_sae * (4 * batch_size + 6 * d_in)
    return max(1, min(n_cells, int(memory / 2 / per_cell)))


def train(
    sweep: Sweep,
    data: Any,
    settings: Settings | None = None,
    *,
    workdir: str | Path | None = None,
    progress: bool = True,
    flags: str | None = None,
) -> Result:
    """Trains every cell of a sweep at once and measures it.

    Args:
        sweep: the axes.
        data: a `Synthetic`, an array [rows, d_in], a pure function from a key to a batch
            [batch_size, d_in], or a dict that names several of these: the dataset axis.
        settings: how to train; default: the published values.
        workdir: folder that gets the metrics while they come in, then results and dictionaries. It
            must not exist yet or be empty. None writes no file.
        progress: whether to show a progress bar.
        flags: text of the flagfile that replays this run, kept in the workdir.

    Returns:
        The measurements and dictionaries of all cells.

    Raises:
        ValueError: before anything is compiled, for data, ratios or settings that do not fit.
        FileExistsError: when the workdir holds something already.
    """
    settings = settings or Settings()
    sources = as_sources(data, settings.batch_size)
    first = next(iter(sources.values()))
    widths = sweep.widths(first.n_features or first.d_in, "n_features" if first.n_features else "d_in")
    check(sweep, settings)
    coords = sweep.coords(tuple(sources))
    shape = tuple(len(values) for values in coords.values())
    hyper = hypers(sweep)
    n_source, n_hyper = shape[0] * shape[1], hyper.l1.shape[0]
    cell_batches = tuple(
        settings.cell_batch
        or default_cell_batch(n_source * n_hyper, first.d_in, d_sae, settings.batch_size)
        for d_sae in widths
    )
    flops = 10 * settings.batch_size * first.d_in * sum(widths) * n_source * n_hyper
    device = jax.local_devices()[0]
    run = {
        "coords": {name: list(values) for name, values in coords.items()},
        "d_sae": list(widths),
        "d_in": first.d_in,
        "n_features": first.n_features,
        "settings": asdict(settings),
        "cell_batch": list(cell_batches),
        "data": {name: source.describe() for name, source in sources.items()},
        "flops_per_step": flops,
        "device": f"{device.device_kind} ({platform.machine()})",
        "versions": {"saejax": __version__, "jax": jax.__version__, "numpy": np.__version__},
    }
    log = RunLog(workdir, run, flags) if workdir is not None else None

    started = time.perf_counter()
    seeds = jnp.array(sweep.seeds, jnp.uint32)
    setup = {n: jax.jit(jax.vmap(lambda s, src=src: src.setup(stream(s, "truth"))))
             for n, src in sources.items()}  # fmt: skip
    arrays = {n: (source.shared, setup[n](seeds)) for n, source in sources.items()}
    groups = tuple(
        jax.jit(partial(init_cells, n_datasets=shape[0], n_hyper=n_hyper, d_in=first.d_in,
                        d_sae=d_sae, settings=settings))(seeds)
        for d_sae in widths
    )  # fmt: skip
    spare = jax.tree.map(jnp.zeros_like, groups)
    nothing = None
    if first.n_features:
        at = (n_source, n_hyper, first.n_features)
        nothing = (jnp.full(at, -1, jnp.int32), jnp.zeros(at))
    before = (nothing,) * len(widths)

    run_chunk = jax.jit(
        partial(chunk, sources=sources, settings=settings, cell_batches=cell_batches),
        donate_argnums=(0, 1),
    )
    args = (arrays, seeds, hyper)
    bar = _bar(settings, coords, flops, progress)
    compiled = run_chunk.lower(groups, spare, before, *args, jnp.int32(0)).compile()
    run["compile_seconds"] = time.perf_counter() - started
    bar.set_description_str("training")
    bar.reset(settings.steps)

    def to_axes(a: Any) -> np.ndarray:
        a = np.asarray(a)
        return a.reshape(*shape, *a.shape[3:])

    started, history, steps = time.perf_counter(), [], []
    reported: set[tuple] = set()
    with bar:
        for step in range(0, settings.steps, settings.eval_every):
            out = compiled(groups, spare, before, *args, jnp.int32(step))
            groups, spare, before, measured = out
            _wait(measured, bar)
            done = step + settings.eval_every
            measured = {name: to_axes(a) for name, a in jax.device_get(measured).items()}
            history.append(measured)
            steps.append(done)
            _report_frozen(measured["frozen_at"], coords, reported, bar)
            if log:
                log.evaluation(done, coords, widths, measured)
            seconds = time.perf_counter() - started
            bar.set_postfix_str(
                f"{done * settings.batch_size * n_source / seconds:.3g} samples/s, "
                f"{done * flops / seconds / 1e12:.3g} TFLOP/s"
            )
            bar.update(settings.eval_every)
    run["train_seconds"] = time.perf_counter() - started

    stacked = {name: np.stack([h[name] for h in history]) for name in history[0]}
    final = {name: a[-1] for name, a in stacked.items() if not name.startswith("best_")}
    for name in ("learned", "unlearned"):
        if name in stacked:
            final[name] = stacked[name].sum(0)
    order = sorted(range(len(widths)), key=widths.__getitem__)
    larger = jax.jit(partial(to_next_larger, order=order))(groups)
    final["mmcs_to_next_larger"] = to_axes(larger)
    truth = features(sources, arrays)
    params = [jax.device_get(public(g.params)) for g in groups]
    del groups, spare

    def dictionary(index: tuple[int, ...]) -> Params:
        d, s, r, *rest = index
        at = (d * shape[1] + s, int(np.ravel_multi_index(rest, shape[3:])))
        return jax.tree.map(lambda a: a[at], params[r])

    result = Result(
        coords=coords,
        d_sae=widths,
        run=run,
        steps=np.array(steps),
        history={name: a for name, a in stacked.items() if not name.startswith("best_")},
        final=final,
        best_index=stacked.get("best_index"),
        best_cosine=stacked.get("best_cosine"),
        features=None if truth is None else np.asarray(truth).reshape(*shape[:2], *truth.shape[1:]),
        load_params=dictionary,
    )
    if log:
        log.finish(result)
    return result


def check(sweep: Sweep, settings: Settings) -> None:
    """Refuses settings that contradict the sweep or the device.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """
    revives = any(sweep.resample)
    if revives and not settings.resample.every:
        raise ValueError("resample: got True, allowed: only with resample_every above 0")
    if settings.resample.every and not revives:
        raise ValueError(
            f"resample_every: got {settings.resample.every}, allowed: 0, because no cell of the sweep "
            "has resample on"
        )
    platform_name = jax.local_devices()[0].platform
    if settings.matmul_precision == "tf32" and platform_name == "cpu":
        raise ValueError(
            "matmul_precision: got 'tf32', which a CPU does not have; allowed there: highest, bf16"
        )


def _bar(settings: Settings, coords: dict, flops: int, progress: bool) -> tqdm:
    n_cells = int(np.prod([len(values) for values in coords.values()]))
    bar = tqdm(
        total=settings.steps,
        disable=not progress,
        unit="step",
        desc="compiling",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} "
        "[{elapsed}, {remaining} left, {postfix}]",
    )
    bar.set_postfix_str(f"{n_cells} SAEs, {flops / 1e9:.4g} GFLOP a step")
    return bar


def _wait(measured: dict[str, Any], bar: tqdm) -> None:
    """Waits for a dispatch in short naps, so that Ctrl-C is heard and the clock of the bar moves."""
    naps = 0
    while not all(a.is_ready() for a in measured.values()):
        time.sleep(0.005)
        naps += 1
        if naps % 200 == 0:
            bar.refresh()


def _report_frozen(frozen_at: np.ndarray, coords: dict, reported: set[tuple], bar: tqdm) -> None:
    for index in map(tuple, np.argwhere(frozen_at >= 0)):
        if index not in reported:
            reported.add(index)
            at = ", ".join(f"{k}={v}" for k, v in coordinates(coords, index).items())
            bar.clear()
            warnings.warn(
                f"cell {at}: not finite at step {frozen_at[index]}; frozen with its last finite "
                "weights, the other cells go on",
                stacklevel=3,
            )
